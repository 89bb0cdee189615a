package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// freePort returns a port at which no one listens.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// serve answers each line with "served" at all addresses and shares the port, as the API server with --permit-port-sharing.
func serve(t *testing.T, port string) {
	t.Helper()
	share := net.ListenConfig{Control: sharePort}
	listener, err := share.Listen(context.Background(), "tcp4", "0.0.0.0:"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				if line, err := bufio.NewReader(connection).ReadString('\n'); err == nil {
					fmt.Fprintf(connection, "served %s", line)
				}
			}()
		}
	}()
}

// ask sends a line and returns a channel with the answer.
func ask(t *testing.T, address, line string) <-chan string {
	t.Helper()
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(connection, line)
	answer := make(chan string, 1)
	go func() {
		defer connection.Close()
		text, _ := bufio.NewReader(connection).ReadString('\n')
		answer <- strings.TrimSpace(text)
	}()
	return answer
}

// holdAll holds the calls of everybody.
func holdAll(t *testing.T, place standIn, patience time.Duration) {
	t.Helper()
	over := make(chan struct{})
	take := func(listener net.Listener) { passAllOn(listener, place.server, over) }
	if err := hold(place, patience, over, take); err != nil {
		t.Fatal(err)
	}
}

func TestACallIsHeldUntilTheServerListens(t *testing.T) {
	port := freePort(t)
	place := standIn{held: "127.0.0.2:" + port, server: "127.0.0.1:" + port}
	holdAll(t, place, time.Minute)
	first, second := ask(t, place.held, "one"), ask(t, place.held, "two")
	select {
	case answer := <-first:
		t.Fatalf("nobody listens, and yet the answer is %q", answer)
	case <-time.After(200 * time.Millisecond):
	}
	serve(t, port)
	for wanted, answer := range map[string]<-chan string{"served one": first, "served two": second} {
		select {
		case found := <-answer:
			if found != wanted {
				t.Errorf("%q instead of %q", found, wanted)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %q", wanted)
		}
	}
	// Later calls go to the server itself, at the address that was held too.
	if found := <-ask(t, place.held, "three"); found != "served three" {
		t.Error(found)
	}
}

func TestACallIsNotHeldForEver(t *testing.T) {
	port := freePort(t)
	holdAll(t, standIn{held: "127.0.0.2:" + port, server: "127.0.0.1:" + port}, 100*time.Millisecond)
	select {
	case answer := <-ask(t, "127.0.0.2:"+port, "one"):
		if answer != "" {
			t.Error(answer)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the call is still held")
	}
	if listens("127.0.0.2:" + port) {
		t.Error("somebody still listens")
	}
}

func TestOnlyAServerThatSharesItsPortIsStoodInFor(t *testing.T) {
	manifest := func(flags ...string) []byte {
		command := append([]string{"kube-apiserver"}, flags...)
		return []byte("spec:\n  containers:\n  - command: [\"" + strings.Join(command, "\", \"") + "\"]\n")
	}
	usual := []string{"--advertise-address=172.30.0.2", "--secure-port=6443", "--permit-port-sharing=true"}
	files := []string{"--tls-cert-file=/pki/server.crt", "--tls-private-key-file=/pki/server.key"}
	place, found := standInFor(manifest(append(files, usual...)...))
	if (place != standIn{"172.30.0.2:6443", "127.0.0.1:6443", "/pki/server.crt", "/pki/server.key"}) || !found {
		t.Error(place, found)
	}
	place, found = standInFor(manifest("--advertise-address=fd00::2", "--secure-port=6443", "--permit-port-sharing=true"))
	if place.held != "[fd00::2]:6443" || place.server != "[::1]:6443" || !found {
		t.Error(place, found)
	}
	for _, other := range [][]string{
		usual[:2],
		append([]string{"--bind-address=172.30.0.2"}, usual...),
		usual[1:],
	} {
		if _, found := standInFor(manifest(other...)); found {
			t.Error(other)
		}
	}
	if _, found := standInFor([]byte("no pod")); found {
		t.Error("what is no pod has no address")
	}
}
