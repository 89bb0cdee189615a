package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// lastAnswers is how long the calls that were held may take once they are passed on.
	lastAnswers = time.Minute
	// askAgain is the pause before a call that was forbidden is made again, and rolesLoaded how long that is done.
	askAgain    = 20 * time.Millisecond
	rolesLoaded = 10 * time.Second
)

// oneNode is the path of a single Node.
var oneNode = regexp.MustCompile(`^/api/v1/nodes/[^/]+$`)

// front holds calls as hold does, but lets one fail at once: that of the kubelet for its Node. A kubelet that had pods before
// makes it before it mounts other volumes, those of the API server's own pod among them, and goes on when it fails.
//
// To see which call it is, front ends TLS with the API server's certificate. It passes a call on with the caller's own
// certificate, and so holds only calls of those whose kubeconfig the node has; all others are told that there is no API
// server yet.
type front struct {
	server  *tls.Config
	callers []caller // the kubelet is the first one
	over    <-chan struct{}
}

// caller is one whose calls are held.
type caller struct {
	certificate []byte // DER
	proxy       http.Handler
}

// newFront reads the API server's certificate, and the kubeconfigs of the kubelet and of others. All of them must call the API
// server of this node.
func newFront(place standIn, kubeconfigs []string, over <-chan struct{}) (*front, error) {
	pair, err := tls.LoadX509KeyPair(place.certificate, place.key)
	if err != nil {
		return nil, err
	}
	server := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	front := &front{server: server, over: over}
	for _, kubeconfig := range kubeconfigs {
		caller, err := callerOf(kubeconfig, "https://"+place.held)
		if err != nil {
			return nil, err
		}
		front.callers = append(front.callers, caller)
	}
	return front, nil
}

func callerOf(kubeconfig, server string) (caller, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return caller{}, err
	}
	if config.Host != server {
		return caller{}, fmt.Errorf("%s has the server %s, not %s", kubeconfig, config.Host, server)
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return caller{}, err
	}
	certificate, _ := pem.Decode(config.CertData)
	if certificate == nil || certificate.Type != "CERTIFICATE" {
		return caller{}, fmt.Errorf("%s has no certificate", kubeconfig)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		return caller{}, err
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return caller{}, err
	}
	return caller{certificate.Bytes, &httputil.ReverseProxy{
		Rewrite:       func(request *httputil.ProxyRequest) { request.SetURL(target) },
		Transport:     insistent{transport},
		FlushInterval: -1, // a watch
		ErrorLog:      log.New(io.Discard, "", 0),
	}}, nil
}

// serve answers what arrives, until the time of holding is over; then the callers are told to make their next calls anew.
func (f *front) serve(listener net.Listener) {
	server := &http.Server{Handler: f, TLSConfig: f.server, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		<-f.over
		ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
		defer cancel()
		_ = server.Shutdown(ctx)
	}()
	_ = server.ServeTLS(listener, "", "")
}

func (f *front) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	given := request.TLS.PeerCertificates
	index := slices.IndexFunc(f.callers, func(caller caller) bool {
		return len(given) > 0 && bytes.Equal(given[0].Raw, caller.certificate)
	})
	mustNotWait := index == 0 && request.Method == http.MethodGet && oneNode.MatchString(request.URL.Path)
	if index < 0 || mustNotWait && !f.isOver() {
		http.Error(answer, "the API server does not listen yet", http.StatusServiceUnavailable)
		return
	}
	select {
	case <-f.over:
		f.callers[index].proxy.ServeHTTP(answer, request)
	case <-request.Context().Done():
	}
}

func (f *front) isOver() bool {
	select {
	case <-f.over:
		return true
	default:
		return false
	}
}

// insistent makes a call again that is forbidden: an API server that begins to serve forbids what roles allow until it has
// loaded them, a moment later, and a client that hears so pauses for a second or two.
type insistent struct{ next http.RoundTripper }

func (i insistent) RoundTrip(request *http.Request) (*http.Response, error) {
	for began := time.Now(); ; time.Sleep(askAgain) {
		answer, err := i.next.RoundTrip(request)
		canRepeat := request.Method == http.MethodGet && time.Since(began) < rolesLoaded
		if err != nil || answer.StatusCode != http.StatusForbidden || !canRepeat {
			return answer, err
		}
		answer.Body.Close()
	}
}
