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
// Nor is anything held on a node that had pods before: for their volumes, the kubelet asks for its Node before it mounts
// others, and those of the API server's own pod would wait until that call is given up.
func holdCalls() {
	if before, err := os.ReadDir(pods); err == nil && len(before) > 0 {
		return
	}
	manifest, err := os.ReadFile(apiServer)
	if err != nil {
		return // a worker
	}
	held, server, found := places(manifest)
	if !found || listens(server) {
		return
	}
	_ = hold(held, server, maxHold) // where this fails, calls are refused, as they are without it
}

// hold takes connections at one address until the server listens, at most for that long, and passes them on to it.
func hold(held, server string, patience time.Duration) error {
	share := net.ListenConfig{Control: func(_, _ string, connection syscall.RawConn) error {
		return connection.Control(func(descriptor uintptr) {
			_ = unix.SetsockoptInt(int(descriptor), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
	}}
	listener, err := share.Listen(context.Background(), "tcp", held)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		for began := time.Now(); !listens(server) && time.Since(began) < patience; {
			time.Sleep(lookAgain)
		}
		listener.Close()
		close(over)
	}()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go passOn(connection, server, over)
		}
	}()
	return nil
}

// places returns the address at which calls to the API server of this static pod arrive, and one that only itself serves.
func places(manifest []byte) (held, server string, found bool) {
	var pod corev1.Pod
	if err := yaml.Unmarshal(manifest, &pod); err != nil || len(pod.Spec.Containers) != 1 {
		return "", "", false
	}
	container := pod.Spec.Containers[0]
	flags := flagsOf(append(container.Command, container.Args...))
	node, port := net.ParseIP(flags["advertise-address"]), flags["secure-port"]
	bind, isBound := flags["bind-address"]
	everywhere := !isBound || net.ParseIP(bind).IsUnspecified()
	if flags["permit-port-sharing"] != "true" || !everywhere || node == nil || port == "" {
		return "", "", false
	}
	loopback := "127.0.0.1"
	if node.To4() == nil {
		loopback = "::1"
	}
	return net.JoinHostPort(node.String(), port), net.JoinHostPort(loopback, port), true
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
