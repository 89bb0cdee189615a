package main

import (
	"bytes"
	"encoding/json"
	"expvar"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	// electionPatience is how long a lone member of etcd is asked to elect itself: it does so without being asked after two
	// election timeouts at most, a second each by default.
	electionPatience = 5 * time.Second
	// electionInterval is the pause between two questions.
	electionInterval = 5 * time.Millisecond
)

// electAtOnce has a lone member of etcd elect itself as soon as it can.
//
// A member that starts waits for one to two election timeouts, since another one might lead. A lone member waits for nobody,
// and with it the whole control plane. Timeouts short enough not to matter need a heartbeat every 20 ms, and each wakes etcd
// for as long as the cluster runs, which is half a percent of a core. So etcd keeps its own timeouts, and this program asks
// for the election in the way in which a leader hands over to another member. etcd ignores it whenever Raft does not allow
// an election, and a failure is no harm: the timeouts still hold.
//
// It is asked when it has applied its log. Before, Raft would look in the log for changes of the members, of which etcd may
// have removed a part just then, and ends with "requested index is unavailable due to compaction".
func electAtOnce(arguments []string) {
	flags := flagsOf(arguments)
	peers, metrics := flags["initial-advertise-peer-urls"], flags["listen-metrics-urls"]
	isLone := len(peerURLs(flags["initial-cluster"], flags["name"])) == 0
	if !isLone || peers == "" || metrics == "" || strings.Contains(peers+metrics, ",") {
		return
	}
	client, err := peerClient(flags)
	if err != nil {
		return // etcd knows better than this what is wrong
	}
	go func() {
		defer client.CloseIdleConnections()
		cause := "it was never asked"
		for end := time.Now().Add(electionPatience); time.Now().Before(end); time.Sleep(electionInterval) {
			if hasLeader(client, metrics) {
				return
			}
			if !hasApplied() {
				cause = "it has not applied its log"
			} else if err := askForElection(client, peers); err != nil {
				cause = err.Error()
			} else {
				cause = "it was asked, and still has no leader"
			}
		}
		fmt.Fprintf(os.Stderr, "coracle: this member of etcd did not elect itself at once: %s\n", cause)
	}()
}

// hasApplied tells whether the member of etcd in this process has applied all that it knows to be committed. A lone one without a
// leader gets nothing new.
var hasApplied = func() bool {
	status := expvar.Get("raft.status")
	if status == nil {
		return false
	}
	var raft struct{ Commit, Applied uint64 }
	err := json.Unmarshal([]byte(status.String()), &raft)
	return err == nil && raft.Commit > 0 && raft.Applied == raft.Commit
}

// hasLeader tells whether etcd knows a leader, which it says where it has its metrics.
func hasLeader(client *http.Client, metrics string) bool {
	answer, err := client.Get(metrics + "/health")
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// askForElection asks the only member of a cluster to elect itself, at the URL for its peers.
func askForElection(client *http.Client, address string) error {
	answer, err := client.Get(address + "/members")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var members []struct {
		ID uint64 `json:"id"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&members); err != nil {
		return err
	}
	if len(members) != 1 {
		return fmt.Errorf("the cluster has %d members", len(members))
	}
	message := raftpb.Message{Type: raftpb.MsgTimeoutNow, From: members[0].ID, To: members[0].ID}
	body, err := message.Marshal()
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodPost, address+"/raft", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/protobuf")
	request.Header.Set("X-Etcd-Cluster-ID", answer.Header.Get("X-Etcd-Cluster-ID"))
	request.Header.Set("X-Server-From", fmt.Sprintf("%x", members[0].ID))
	request.Header.Set("X-Server-Version", version.Version)
	request.Header.Set("X-Min-Cluster-Version", version.MinClusterVersion)
	taken, err := client.Do(request)
	if err != nil {
		return err
	}
	taken.Body.Close()
	if taken.StatusCode != http.StatusNoContent {
		return fmt.Errorf("etcd answered %s", taken.Status)
	}
	return nil
}
