package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	share := net.ListenConfig{Control: func(_, _ string, connection syscall.RawConn) error {
		return connection.Control(func(descriptor uintptr) {
			_ = unix.SetsockoptInt(int(descriptor), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
	}}
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

func TestACallIsHeldUntilTheServerListens(t *testing.T) {
	port := freePort(t)
	held, server := "127.0.0.2:"+port, "127.0.0.1:"+port
	if err := hold(held, server, time.Minute); err != nil {
		t.Fatal(err)
	}
	first, second := ask(t, held, "one"), ask(t, held, "two")
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
	if found := <-ask(t, held, "three"); found != "served three" {
		t.Error(found)
	}
}

func TestACallIsNotHeldForEver(t *testing.T) {
	port := freePort(t)
	if err := hold("127.0.0.2:"+port, "127.0.0.1:"+port, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
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
	held, server, found := places(manifest(usual...))
	if held != "172.30.0.2:6443" || server != "127.0.0.1:6443" || !found {
		t.Error(held, server, found)
	}
	held, server, found = places(manifest("--advertise-address=fd00::2", "--secure-port=6443", "--permit-port-sharing=true"))
	if held != "[fd00::2]:6443" || server != "[::1]:6443" || !found {
		t.Error(held, server, found)
	}
	for _, other := range [][]string{
		usual[:2],
		append([]string{"--bind-address=172.30.0.2"}, usual...),
		usual[1:],
	} {
		if _, _, found := places(manifest(other...)); found {
			t.Error(other)
		}
	}
	if _, _, found := places([]byte("no pod")); found {
		t.Error("what is no pod has no address")
	}
}
