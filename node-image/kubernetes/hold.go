package main

import (
	"context"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	// apiServer is the static pod of the API server on a control plane.
	apiServer = "/etc/kubernetes/manifests/kube-apiserver.yaml"
	// schedulerConfig is the scheduler's kubeconfig on a control plane. The controller manager needs none (wait.go).
	schedulerConfig = "/etc/kubernetes/scheduler.conf"
	// pods is where the kubelet keeps what it mounts for pods.
	pods = "/var/lib/kubelet/pods"
	// lookAgain is the pause between two looks at whether the API server listens.
	lookAgain = 5 * time.Millisecond
	// maxHold is how long a call is held; an API server that does not start is no better than none.
	maxHold = 3 * time.Minute
)

// holdCalls takes connections to the API server of this node until it listens, and then passes them on to it.
//
// The kubelet's first calls begin before there is an API server. A refused call is made again after a pause that doubles,
// and so the kubelet may know the cluster's Services only seconds after its first pods, whose containers it then does not
// start before it looks again, ten seconds later. A call that is held is answered as soon as it can be.
//
// This listens at the node's own address, and the API server at all addresses. They share the port, and the kernel prefers
// the more particular address; so nothing is held where the API server runs without --permit-port-sharing.
//
// On a node that had pods before, one call must not be held, so only those of the kubelet and of the scheduler are (front.go).
func holdCalls() {
	manifest, err := os.ReadFile(apiServer)
	if err != nil {
		return // a worker
	}
	standIn, found := standInFor(manifest)
	if !found || listens(standIn.server) {
		return
	}
	over := make(chan struct{})
	take := func(listener net.Listener) { passAllOn(listener, standIn.server, over) }
	if before, err := os.ReadDir(pods); err == nil && len(before) > 0 {
		kubeconfigs := []string{flagsOf(os.Args)["kubeconfig"], schedulerConfig}
		front, err := newFront(standIn, kubeconfigs, over)
		if err != nil {
			return
		}
		take = front.serve
	}
	_ = hold(standIn, maxHold, over, take) // where this fails, calls are refused, as they are without it
}

// hold listens in the server's place until that listens itself, at most for that long.
func hold(standIn standIn, patience time.Duration, over chan<- struct{}, take func(net.Listener)) error {
	share := net.ListenConfig{Control: sharePort}
	listener, err := share.Listen(context.Background(), "tcp", standIn.held)
	if err != nil {
		return err
	}
	go func() {
		for began := time.Now(); !listens(standIn.server) && time.Since(began) < patience; {
			time.Sleep(lookAgain)
		}
		listener.Close()
		close(over)
	}()
	go take(listener)
	return nil
}

// sharePort lets others listen at a socket's port too.
func sharePort(_, _ string, connection syscall.RawConn) error {
	return connection.Control(func(descriptor uintptr) {
		_ = unix.SetsockoptInt(int(descriptor), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
}

// passAllOn connects every caller with the server once the time of holding is over.
func passAllOn(listener net.Listener, server string, over <-chan struct{}) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go passOn(connection, server, over)
	}
}

// standIn says where the API server of a static pod is stood in for.
type standIn struct {
	held, server     string // where calls to it arrive, and an address that only itself serves
	certificate, key string // files
}

// standInFor reads it from the manifest of the static pod.
func standInFor(manifest []byte) (standIn, bool) {
	var pod corev1.Pod
	if err := yaml.Unmarshal(manifest, &pod); err != nil || len(pod.Spec.Containers) != 1 {
		return standIn{}, false
	}
	container := pod.Spec.Containers[0]
	flags := flagsOf(append(container.Command, container.Args...))
	node, port := net.ParseIP(flags["advertise-address"]), flags["secure-port"]
	bind, isBound := flags["bind-address"]
	everywhere := !isBound || net.ParseIP(bind).IsUnspecified()
	if flags["permit-port-sharing"] != "true" || !everywhere || node == nil || port == "" {
		return standIn{}, false
	}
	loopback := "127.0.0.1"
	if node.To4() == nil {
		loopback = "::1"
	}
	return standIn{
		held:        net.JoinHostPort(node.String(), port),
		server:      net.JoinHostPort(loopback, port),
		certificate: flags["tls-cert-file"],
		key:         flags["tls-private-key-file"],
	}, true
}

// listens tells whether anybody listens there.
func listens(address string) bool {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	connection.Close()
	return true
}

// passOn connects a caller with the server once the time of holding is over.
func passOn(caller net.Conn, server string, over <-chan struct{}) {
	defer caller.Close()
	<-over
	connection, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer connection.Close()
	go func() {
		_, _ = io.Copy(connection, caller)
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(caller, connection)
}
