package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
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

// waitForHealth waits until the API server is healthy, however long that takes.
//
// The controller manager itself asks every second for ten seconds, and ends. The kubelet then starts it again after pauses
// that double: on a slow machine these add minutes to the start of a cluster.
func waitForHealth(arguments []string) {
	path, found := flagsOf(arguments)["kubeconfig"]
	if !found {
		return // it is only asked for its help or version
	}
	client, server, err := clientOf(path)
	if err != nil {
		// The controller manager knows better than this what is wrong.
		fmt.Fprintf(os.Stderr, "coracle: cannot wait for the API server: %v\n", err)
		return
	}
	began, reported := time.Now(), time.Now()
	for patience := firstPatience; ; time.Sleep(healthInterval) {
		cause, isSilent := health(client, server, patience)
		if cause == "" {
			return
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

// clientOf returns a client with the credentials of a kubeconfig, and the address of its server.
func clientOf(path string) (*http.Client, string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, "", err
	}
	client, err := rest.HTTPClientFor(config)
	return client, config.Host, err
}

// health asks once; it returns why the server is not healthy, and whether that is because no answer came.
func health(client *http.Client, server string, patience time.Duration) (cause string, isSilent bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/healthz", nil)
	if err != nil {
		return err.Error(), false
	}
	answer, err := client.Do(request)
	if err != nil {
		return err.Error(), ctx.Err() != nil
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if answer.StatusCode == http.StatusOK {
		return "", false
	}
	return unhealthy(answer.Status, string(body)), false
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
