package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// peerPatience is how long another member of etcd may take to accept a connection, and then for TLS: one that serves needs
// milliseconds.
const peerPatience = 500 * time.Millisecond

// A peer is another member of etcd, as this one sees it when it starts.
type peer int

const (
	// absent peers cannot be reached at all: their node does not run.
	absent peer = iota
	// starting peers have a node, and do not answer yet.
	starting
	// serving peers answer.
	serving
)

// withUsefulCheck returns the arguments of etcd, without its check for corruption where that cannot end well.
//
// Before a member serves its peers, it compares its data with theirs, and waits for each of them for 6 s. Members that start
// together therefore wait for one another, find nothing, and go on: 12 s with three of them. Whoever starts beside members
// that serve is still checked.
func withUsefulCheck(arguments []string) []string {
	flags := flagsOf(arguments)
	data, found := flags["data-dir"]
	if !found || !strings.Contains(flags["feature-gates"], "InitialCorruptCheck=true") {
		return arguments
	}
	if _, err := os.Stat(filepath.Join(data, "member")); err != nil {
		return arguments // a new member is not checked
	}
	client, err := peerClient(flags)
	if err != nil {
		return arguments // etcd knows better than this what is wrong
	}
	peers := lookAt(client, peerURLs(flags["initial-cluster"], flags["name"]))
	client.CloseIdleConnections()
	if len(peers) == 0 || isUseful(peers) {
		return arguments
	}
	fmt.Fprintln(os.Stderr, "coracle: no check for corruption: no other member serves yet, or one is starting as well")
	return append(arguments, "--feature-gates=InitialCorruptCheck=false")
}

// isUseful tells whether a member serves with which this one can be compared, and none would be waited for in vain.
func isUseful(peers []peer) bool {
	served := false
	for _, state := range peers {
		if state == starting {
			return false
		}
		served = served || state == serving
	}
	return served
}

// peerURLs returns where the other members listen, from the value of `--initial-cluster`.
func peerURLs(members, self string) []string {
	var others []string
	for _, member := range strings.Split(members, ",") {
		if name, address, isWhole := strings.Cut(member, "="); isWhole && name != self {
			others = append(others, address)
		}
	}
	return others
}

// peerClient returns a client with the certificate that members show each other.
func peerClient(flags map[string]string) (*http.Client, error) {
	info := transport.TLSInfo{
		CertFile: flags["peer-cert-file"], KeyFile: flags["peer-key-file"], TrustedCAFile: flags["peer-trusted-ca-file"],
	}
	settings, err := info.ClientConfig()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: peerPatience}
	return &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: settings, TLSHandshakeTimeout: peerPatience,
	}}, nil
}

// lookAt asks all peers at once.
func lookAt(client *http.Client, addresses []string) []peer {
	states := make(chan peer)
	for _, address := range addresses {
		go func() { states <- look(client, address) }()
	}
	peers := make([]peer, 0, len(addresses))
	for range addresses {
		peers = append(peers, <-states)
	}
	return peers
}

func look(client *http.Client, address string) peer {
	ctx, cancel := context.WithTimeout(context.Background(), 4*peerPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/version", nil)
	if err != nil {
		return absent
	}
	answer, err := client.Do(request)
	if failed := new(net.OpError); errors.As(err, &failed) && failed.Op == "dial" && !errors.Is(err, syscall.ECONNREFUSED) {
		return absent
	}
	if err != nil {
		return starting
	}
	answer.Body.Close()
	return serving
}
