package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// identity writes a certificate that signs itself and its key to one file, and returns its path.
func identity(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 2)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})...)
	path := filepath.Join(t.TempDir(), name+".pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// kubeconfigWith writes one for a server, with a client's identity, or none.
func kubeconfigWith(t *testing.T, server, authority, client string) string {
	t.Helper()
	config := api.NewConfig()
	config.Clusters["it"] = &api.Cluster{Server: "https://" + server, CertificateAuthority: authority}
	config.AuthInfos["it"] = &api.AuthInfo{ClientCertificate: client, ClientKey: client}
	config.Contexts["it"] = &api.Context{Cluster: "it", AuthInfo: "it"}
	config.CurrentContext = "it"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// call makes a request with a kubeconfig, and returns a channel with the status and the body.
func call(t *testing.T, kubeconfig, path string) <-chan string {
	t.Helper()
	client, server, err := clientOf(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		response, err := client.Get(server + path)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- fmt.Sprintf("%d %s", response.StatusCode, body)
	}()
	return answer
}

// answered returns what comes within ten seconds.
func answered(t *testing.T, what string, answer <-chan string) string {
	t.Helper()
	select {
	case text := <-answer:
		return text
	case <-time.After(10 * time.Second):
		t.Fatalf("no answer to %s", what)
		return ""
	}
}

func TestAfterARestartTheCallsOfKubeletAndSchedulerAreHeldButNotTheOneForTheNode(t *testing.T) {
	port := freePort(t)
	server := identity(t, "server")
	place := standIn{held: "127.0.0.2:" + port, server: "127.0.0.1:" + port, certificate: server, key: server}
	own := kubeconfigWith(t, place.held, server, identity(t, "kubelet"))
	scheduler := kubeconfigWith(t, place.held, server, identity(t, "scheduler"))
	over := make(chan struct{})
	front, err := newFront(place, []string{own, scheduler}, over)
	if err != nil {
		t.Fatal(err)
	}
	if err := hold(place, time.Minute, over, front.serve); err != nil {
		t.Fatal(err)
	}
	const refused = "503 the API server does not listen yet\n"
	if answer := answered(t, "the call for the Node", call(t, own, "/api/v1/nodes/one")); answer != refused {
		t.Error(answer)
	}
	for _, stranger := range []string{identity(t, "stranger"), ""} {
		config := kubeconfigWith(t, place.held, server, stranger)
		if answer := answered(t, "a stranger's call", call(t, config, "/api/v1/services")); answer != refused {
			t.Errorf("%q: %s", stranger, answer)
		}
	}
	held := map[string]<-chan string{}
	for _, path := range []string{"/api/v1/services", "/api/v1/nodes", "/api/v1/nodes/one/status"} {
		held["kubelet asks for "+path] = call(t, own, path)
	}
	held["scheduler asks for /api/v1/nodes/one"] = call(t, scheduler, "/api/v1/nodes/one")
	select {
	case answer := <-held["kubelet asks for /api/v1/services"]:
		t.Fatalf("nobody listens, and yet the answer is %q", answer)
	case <-time.After(200 * time.Millisecond):
	}
	answerCallers(t, port, server)
	for wanted, answer := range held {
		if text := answered(t, wanted, answer); text != "200 "+wanted {
			t.Errorf("%q instead of %q", text, wanted)
		}
	}
	if answer := answered(t, "the call for the Node", call(t, own, "/api/v1/nodes/one")); answer != "200 kubelet asks for /api/v1/nodes/one" {
		t.Error(answer)
	}
}

func TestNothingIsHeldForAKubeletThatCallsALoadBalancer(t *testing.T) {
	server := identity(t, "server")
	place := standIn{held: "127.0.0.2:6443", server: "127.0.0.1:6443", certificate: server, key: server}
	elsewhere := kubeconfigWith(t, "127.0.0.3:6443", server, identity(t, "kubelet"))
	if _, err := newFront(place, []string{elsewhere}, nil); err == nil || !strings.Contains(err.Error(), "127.0.0.3") {
		t.Error(err)
	}
}

// answerCallers serves TLS at all addresses and shares the port; the answer has the caller's name. The first call for Services
// is forbidden, as before roles are loaded.
func answerCallers(t *testing.T, port, identity string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(identity, identity)
	if err != nil {
		t.Fatal(err)
	}
	share := net.ListenConfig{Control: sharePort}
	listener, err := share.Listen(context.Background(), "tcp4", "0.0.0.0:"+port)
	if err != nil {
		t.Fatal(err)
	}
	var forbidden atomic.Bool
	handler := func(answer http.ResponseWriter, request *http.Request) {
		if request.URL.Path == "/api/v1/services" && forbidden.CompareAndSwap(false, true) {
			answer.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprintf(answer, "%s asks for %s", request.TLS.PeerCertificates[0].Subject.CommonName, request.URL.Path)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}
	program := &http.Server{Handler: http.HandlerFunc(handler), TLSConfig: config}
	t.Cleanup(func() { program.Close() })
	go func() { _ = program.ServeTLS(listener, "", "") }()
}
