package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// healthInterval is the pause between two questions for the API server's health.
	healthInterval = 20 * time.Millisecond
	// firstPatience is how long the first answer may take. A server that only starts may leave a request without one, and one
	// on a busy machine is slow; so the time doubles, up to lastPatience.
	firstPatience = time.Second
	lastPatience  = 16 * time.Second
	// headStart is how long the first pods have the processors once the API server answers. It is healthy a second after that.
	headStart = 500 * time.Millisecond
	// reportInterval is the time between two lines about what is waited for.
	reportInterval = 10 * time.Second
)

// waitForEtcd gives the etcd of the same boot a moment to listen: a client whose first call is refused tries again only
// after a second, and that second is lost for the whole cluster.
func waitForEtcd(arguments []string, patience time.Duration) {
	servers, found := flagsOf(arguments)["etcd-servers"]
	if !found {
		return
	}
	server, err := url.Parse(strings.Split(servers, ",")[0])
	if err != nil {
		return
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if connection, err := net.DialTimeout("tcp", server.Host, time.Second); err == nil {
			connection.Close()
			return
		}
	}
}

// startBeforeHealth returns the arguments with which a component that needs a healthy API server may start before it is, however
// long that takes.
//
// The controller manager itself asks every second for ten seconds, and ends. The kubelet then starts it again after pauses
// that double: on a slow machine these add minutes to the start of a cluster. The scheduler is forbidden everything until the
// API server has loaded its roles, and tries again a second later.
//
// What a component does before it reads its kubeconfig, such as making a key for its own certificate, is done by the time the
// API server is healthy, because that file is a pipe, which is empty until then. It begins with that half a second after the
// API server first answers: until then, the API server and the first pods need the processors more.
func startBeforeHealth(arguments []string) []string {
	path, found := flagsOf(arguments)["kubeconfig"]
	if !found {
		return arguments // it is only asked for its help or version
	}
	client, address, err := clientOf(path)
	if err != nil {
		// The component knows better than this what is wrong.
		fmt.Fprintf(os.Stderr, "coracle: cannot wait for the API server: %v\n", err)
		return arguments
	}
	server := server{client, address + "/healthz"}
	if server.waitFor(http.StatusOK, http.StatusInternalServerError) == http.StatusOK {
		return arguments
	}
	time.Sleep(headStart)
	later, err := delayed(path, func() { server.waitFor(http.StatusOK) })
	if err != nil {
		server.waitFor(http.StatusOK)
		return arguments
	}
	return append(arguments, "--kubeconfig="+later)
}

// kept are the reading ends of pipes, which a component opens under the name of their number: they must stay open.
var kept []*os.File

// delayed returns the path of a pipe from which a kubeconfig can be read once, as soon as the wait is over.
func delayed(path string, wait func()) (string, error) {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return "", err
	}
	if err := clientcmd.ResolveLocalPaths(config); err != nil {
		return "", err
	}
	content, err := clientcmd.Write(*config)
	if err != nil {
		return "", err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return "", err
	}
	kept = append(kept, reader)
	go func() {
		wait()
		_, _ = writer.Write(content)
		writer.Close()
	}()
	return fmt.Sprintf("/proc/self/fd/%d", reader.Fd()), nil
}

// clientOf returns a client with the credentials of a kubeconfig, and the address of its server.
func clientOf(path string) (*http.Client, string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, "", err
	}
	client, err := rest.HTTPClientFor(config)
	return client, config.Host, err
}

// server is an API server that is asked for its health, again and again.
type server struct {
	client *http.Client
	url    string
}

// waitFor asks until the answer has one of these statuses, which it returns, and says from time to time why it has another.
func (s server) waitFor(statuses ...int) int {
	began, reported := time.Now(), time.Now()
	for patience := firstPatience; ; time.Sleep(healthInterval) {
		status, cause, isSilent := s.ask(patience)
		if slices.Contains(statuses, status) {
			return status
		}
		if isSilent {
			patience = min(2*patience, lastPatience)
		}
		if time.Since(reported) > reportInterval {
			reported = time.Now()
			waited := time.Since(began).Round(time.Second)
			fmt.Fprintf(os.Stderr, "coracle: waiting for the API server since %v: %s\n", waited, cause)
		}
	}
}

// ask asks once; it returns the status of the answer, or 0, why it is not well, and whether that is because no answer came.
func (s server) ask(patience time.Duration) (status int, cause string, isSilent bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return 0, err.Error(), false
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, err.Error(), ctx.Err() != nil
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if answer.StatusCode == http.StatusOK {
		return answer.StatusCode, "", false
	}
	return answer.StatusCode, unhealthy(answer.Status, string(body)), false
}

// unhealthy tells what an API server lacks that is not healthy: its answer lists all checks, and the failed ones with a minus.
func unhealthy(status, body string) string {
	var failed []string
	for _, line := range strings.Split(body, "\n") {
		if strings.HasPrefix(line, "[-]") {
			failed = append(failed, strings.TrimPrefix(line, "[-]"))
		}
	}
	if len(failed) == 0 {
		return status
	}
	return status + ": " + strings.Join(failed, "; ")
}
