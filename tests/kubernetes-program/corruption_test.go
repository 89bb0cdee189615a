package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const leftOut = "--feature-gates=InitialCorruptCheck=false"

// member starts a member of etcd that serves its peers, all with one identity, and returns its URL.
func member(t *testing.T, identity string) string {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(identity, identity)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		_, _ = answer.Write([]byte("{}"))
	}))
	server.Listener.Close()
	server.Listener = listener
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// silent returns the URL of a member that listens and does not answer, as one that waits for its own check.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return "https://" + listener.Addr().String()
}

// refused returns the URL of a member whose node runs, and which does not listen yet.
func refused(t *testing.T) string {
	t.Helper()
	return "https://127.0.0.1:" + freePort(t)
}

// etcdArguments returns those of a member named `it`, whose data has a member if it is known.
func etcdArguments(t *testing.T, identity string, isKnown bool, others ...string) []string {
	t.Helper()
	data := t.TempDir()
	if isKnown {
		if err := os.Mkdir(filepath.Join(data, "member"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(identity)
	certificate, _, _ := strings.Cut(string(text), "-----BEGIN EC PRIVATE KEY")
	authority := filepath.Join(data, "ca.crt") // without the key
	if err := os.WriteFile(authority, []byte(certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	members := []string{"it=https://127.0.0.2:1"}
	for _, other := range others {
		members = append(members, "other="+other)
	}
	return []string{
		"etcd", "--name=it", "--data-dir=" + data, "--initial-cluster=" + strings.Join(members, ","),
		"--feature-gates=InitialCorruptCheck=true", "--peer-cert-file=" + identity, "--peer-key-file=" + identity,
		"--peer-trusted-ca-file=" + authority,
	}
}

func TestMembersThatStartTogetherDoNotWaitForEachOther(t *testing.T) {
	id := identity(t, "peer")
	serves, waits, comes := member(t, id), silent(t), refused(t)
	cases := map[string]struct {
		others    []string
		isChecked bool
	}{
		"a lone member":                     {nil, true},
		"beside two that serve":             {[]string{serves, member(t, id)}, true},
		"beside two that do not listen yet": {[]string{comes, comes}, false},
		"beside two that wait for others":   {[]string{waits, waits}, false},
		"one serves, and one waits":         {[]string{serves, waits}, false},
		"one serves, and one comes":         {[]string{serves, comes}, false},
		"one serves, and one has no node":   {[]string{serves, "https://[2001:db8::1]:2380"}, true},
		"nobody else has a node":            {[]string{"https://[2001:db8::1]:2380"}, false},
		"an address that cannot be a URL":   {[]string{"https://%zz", serves}, true},
	}
	for name, it := range cases {
		t.Run(name, func(t *testing.T) {
			arguments := withUsefulCheck(etcdArguments(t, id, true, it.others...))
			if isChecked := !slices.Contains(arguments, leftOut); isChecked != it.isChecked {
				t.Errorf("checked: %v, want %v", isChecked, it.isChecked)
			}
		})
	}
}

func TestOnlyTheCheckThatWasAskedForIsLeftOut(t *testing.T) {
	id, comes := identity(t, "peer"), refused(t)
	for name, arguments := range map[string][]string{
		"a new member":           etcdArguments(t, id, false, comes),
		"no certificate":         etcdArguments(t, "/nowhere", true, comes),
		"asked for its version":  {"etcd", "--version"},
		"switched off by a user": append(etcdArguments(t, id, true, comes), "--feature-gates=InitialCorruptCheck=false"),
	} {
		t.Run(name, func(t *testing.T) {
			if after := withUsefulCheck(slices.Clone(arguments)); !slices.Equal(after, arguments) {
				t.Errorf("changed to %v", after)
			}
		})
	}
}
