package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

// within fails if a function has not returned by then.
func within(t *testing.T, limit time.Duration, run func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { run(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("not within %v", limit)
	}
}

// kubeconfig writes one for a server, and returns the flag that names it.
func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "a", "users": [{"name": "a"}],
		"clusters": [{"name": "a", "cluster": {"server": %q}}],
		"contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]}`, server)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--kubeconfig=" + path
}

// read starts reading the file that these arguments name as the kubeconfig, as a component does.
func read(t *testing.T, arguments []string) <-chan string {
	t.Helper()
	content := make(chan string, 1)
	go func() {
		config, err := clientcmd.BuildConfigFromFlags("", flagsOf(arguments)["kubeconfig"])
		if err != nil {
			content <- err.Error()
			return
		}
		content <- config.Host
	}()
	return content
}

func TestAComponentStartsWhenTheServerAnswersAndReadsItsKubeconfigWhenThatIsHealthy(t *testing.T) {
	var asked, healthy atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/healthz" {
			t.Error(request.URL.Path)
		}
		switch count := asked.Add(1); {
		case count < 3: // the roles are not loaded, or another process answers in its place
			answer.WriteHeader([]int{http.StatusServiceUnavailable, http.StatusForbidden}[count-1])
		case healthy.Load() == 0:
			answer.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	var arguments []string
	within(t, 10*time.Second, func() { arguments = startBeforeHealth([]string{kubeconfig(t, server.URL)}) })
	if found := asked.Load(); found < 3 {
		t.Errorf("it starts after %d questions", found)
	}
	host := read(t, arguments)
	select {
	case found := <-host:
		t.Fatalf("it has read %q before the server is healthy", found)
	case <-time.After(300 * time.Millisecond):
	}
	healthy.Store(1)
	within(t, 10*time.Second, func() {
		if found := <-host; found != server.URL {
			t.Errorf("the server is %q, not %q", found, server.URL)
		}
	})
}

func TestAKubeconfigMayBeReadLongAfterTheServerIsHealthy(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			answer.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	arguments := startBeforeHealth([]string{kubeconfig(t, server.URL)})
	runtime.GC()
	time.Sleep(200 * time.Millisecond)
	runtime.GC()
	within(t, 10*time.Second, func() {
		if found := <-read(t, arguments); found != server.URL {
			t.Errorf("the server is %q, not %q", found, server.URL)
		}
	})
}

func TestNothingIsDelayedWhereTheServerIsHealthy(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	began, flag := time.Now(), kubeconfig(t, server.URL)
	if arguments := startBeforeHealth([]string{flag}); len(arguments) != 1 || arguments[0] != flag {
		t.Error(arguments)
	}
	if time.Since(began) >= headStart {
		t.Error("nothing is left to wait for")
	}
}

func TestAServerThatLeavesAQuestionWithoutAnswerIsAskedAgain(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		if asked.Add(1) == 1 {
			<-request.Context().Done()
		}
	}))
	defer server.Close()
	within(t, 20*time.Second, func() { <-read(t, startBeforeHealth([]string{kubeconfig(t, server.URL)})) })
	if found := asked.Load(); found != 2 {
		t.Errorf("asked %d times", found)
	}
}

func TestNobodyWaitsWhereThereIsNoServerToAsk(t *testing.T) {
	within(t, time.Second, func() {
		startBeforeHealth([]string{"kube-controller-manager", "--help"})
		startBeforeHealth([]string{"--kubeconfig=/no/such/file"})
		waitForEtcd([]string{"kube-apiserver", "--version"}, time.Hour)
		waitForEtcd([]string{"--etcd-servers=:"}, time.Hour)
	})
}

func TestTheAPIServerGivesEtcdAMoment(t *testing.T) {
	address := "127.0.0.1:" + freePort(t)
	flag := []string{"--etcd-servers=https://" + address + ",https://192.0.2.1:2379"}
	began := time.Now()
	within(t, 10*time.Second, func() { waitForEtcd(flag, 200*time.Millisecond) })
	if waited := time.Since(began); waited < 200*time.Millisecond {
		t.Errorf("waited only %v for an etcd that does not listen", waited)
	}
	listening := make(chan net.Listener, 1)
	time.AfterFunc(100*time.Millisecond, func() {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
		}
		listening <- listener
	})
	within(t, 10*time.Second, func() { waitForEtcd(flag, time.Hour) })
	(<-listening).Close()
}

func TestWhatAServerLacksIsTold(t *testing.T) {
	body := "[+]ping ok\n[-]poststarthook/rbac/bootstrap-roles failed: not finished\n[-]etcd failed\n"
	if text := unhealthy("500 Internal Server Error", body); text !=
		"500 Internal Server Error: poststarthook/rbac/bootstrap-roles failed: not finished; etcd failed" {
		t.Error(text)
	}
	if text := unhealthy("401 Unauthorized", "Unauthorized"); text != "401 Unauthorized" {
		t.Error(text)
	}
}
