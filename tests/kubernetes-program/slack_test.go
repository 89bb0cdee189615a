package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// slackOf returns the slack of a thread in nanoseconds; only with CAP_SYS_NICE can that of another thread be read.
func slackOf(t *testing.T, thread string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + thread + "/timerslack_ns")
	if err != nil {
		t.Skipf("the slack of a thread cannot be read here: %v", err)
	}
	return strings.TrimSpace(string(text))
}

// wakes returns how often each thread of this process has gone to sleep by itself.
func wakes(t *testing.T) map[string]int {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, thread := range threads {
		text, _ := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		_, after, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		var count int
		_, _ = fmt.Sscan(after, &count)
		counts[thread.Name()] = count
	}
	return counts
}

func TestThreadsWithTimersAreWokenTogether(t *testing.T) {
	for index := range 50 {
		go func() {
			for range 500 {
				time.Sleep(time.Duration(10+index) * time.Millisecond)
			}
		}()
	}
	before := wakes(t)
	time.Sleep(time.Second)
	usual := 0
	for thread, count := range wakes(t) {
		usual += count - before[thread]
	}
	go slacken(timerSlack)
	time.Sleep(2 * time.Second)
	before = wakes(t)
	time.Sleep(time.Second)
	with, without := 0, 0
	for thread, count := range wakes(t) {
		if slackOf(t, thread) == fmt.Sprint(timerSlack.Nanoseconds()) {
			with += count - before[thread]
		} else {
			without += count - before[thread]
		}
	}
	t.Logf("woken %d times a second, and then threads with the slack %d times and others %d times", usual, with, without)
	if with+without > usual*3/4 {
		t.Fatal("the slack makes no difference")
	}
}
