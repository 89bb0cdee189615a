package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// loneArguments returns those of a member named `it` that is alone, as far as it knows.
func loneArguments(peers, metrics string) []string {
	return []string{
		"etcd", "--name=it", "--initial-cluster=it=" + peers, "--initial-advertise-peer-urls=" + peers,
		"--listen-metrics-urls=" + metrics,
	}
}

func address(t *testing.T) url.URL {
	t.Helper()
	return url.URL{Scheme: "http", Host: "127.0.0.1:" + freePort(t)}
}

// loneEtcd starts an etcd that needs ten seconds or more to elect itself, and tells how long it took until it could be used.
func loneEtcd(t *testing.T, data string) time.Duration {
	t.Helper()
	peers, metrics := address(t), address(t)
	config := embed.NewConfig()
	config.Name, config.Dir, config.LogLevel = "it", data, "fatal"
	config.TickMs, config.ElectionMs = 10_000, 50_000
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{address(t)}, []url.URL{address(t)}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	config.ListenMetricsUrls = []url.URL{metrics}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	began := time.Now()
	electAtOnce(loneArguments(peers.String(), metrics.String()))
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case <-time.After(9 * time.Second):
		t.Fatal("it waited for its election timeout")
	}
	took := time.Since(began)
	within(t, 5*time.Second, func() {
		for !hasApplied() {
			time.Sleep(time.Millisecond)
		}
	})
	return took
}

func TestALoneEtcdElectsItselfAtOnce(t *testing.T) {
	data := t.TempDir()
	t.Logf("a new one was usable after %v", loneEtcd(t, data))
	t.Logf("one that starts again was usable after %v", loneEtcd(t, data))
}

// fakeEtcd has these members and no leader; it counts what it is asked.
func fakeEtcd(t *testing.T, members string) (address string, looks, elections *atomic.Int32) {
	t.Helper()
	looks, elections = new(atomic.Int32), new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		switch {
		case request.URL.Path == "/health":
			looks.Add(1)
			answer.WriteHeader(http.StatusServiceUnavailable)
		case request.URL.Path == "/raft":
			elections.Add(1)
			answer.WriteHeader(http.StatusNoContent)
		default:
			_, _ = answer.Write([]byte(members))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, looks, elections
}

// pretendApplied has the member of this process be as far as the result says.
func pretendApplied(t *testing.T) *atomic.Bool {
	t.Helper()
	real, applied := hasApplied, new(atomic.Bool)
	hasApplied = applied.Load
	t.Cleanup(func() { hasApplied = real })
	return applied
}

// Raft would end the whole process if it were asked while etcd removes what it has applied from its log.
func TestNobodyIsAskedBeforeTheLogIsApplied(t *testing.T) {
	applied := pretendApplied(t)
	lone, looks, elections := fakeEtcd(t, `[{"id":7}]`)
	electAtOnce(loneArguments(lone, lone))
	within(t, 5*time.Second, func() {
		for looks.Load() < 20 {
			time.Sleep(time.Millisecond)
		}
	})
	if found := elections.Load(); found != 0 {
		t.Fatalf("asked %d times", found)
	}
	applied.Store(true)
	within(t, 5*time.Second, func() {
		for elections.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
	})
}

func TestOnlyALoneMemberIsAsked(t *testing.T) {
	applied := pretendApplied(t)
	applied.Store(true)
	lone, _, elections := fakeEtcd(t, `[{"id":7}]`)
	electAtOnce(loneArguments(lone, lone))
	grown, looks, ofGrown := fakeEtcd(t, `[{"id":7},{"id":8}]`)
	electAtOnce(loneArguments(grown, grown))
	planned, looksOfPlanned, _ := fakeEtcd(t, `[{"id":7}]`)
	arguments := strings.Join(loneArguments(planned, planned), " ")
	electAtOnce(strings.Fields(strings.Replace(arguments, "=it=", "=other=http://127.0.0.9:1,it=", 1)))
	for end := time.Now().Add(5 * time.Second); elections.Load() == 0 || looks.Load() < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d elections of the lone member, %d looks at the grown cluster", elections.Load(), looks.Load())
		}
	}
	if ofGrown.Load() != 0 || looksOfPlanned.Load() != 0 {
		t.Fatalf("asked with two members: %d elections, %d looks", ofGrown.Load(), looksOfPlanned.Load())
	}
}
