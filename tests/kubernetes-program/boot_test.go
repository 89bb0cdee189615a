package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// collector returns GOGC and GOMEMLIMIT of this process as they are now.
func collector() (growth, limit uint64) {
	samples := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}

func TestGarbageIsCollectedLater(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "40")
	collectLater()
	if growth, limit := collector(); growth != bootGrowth || limit != math.MaxInt64 {
		t.Errorf("GOGC is %d, and the limit %d", growth, limit)
	}
	skipFirstCollections()
	if growth, limit := collector(); growth != math.MaxUint64 || limit != firstCollection {
		t.Errorf("GOGC is %d, and the limit %d", growth, limit)
	}
	runtime.GC()
	within(t, 10*time.Second, func() {
		for growth, limit := collector(); growth != bootGrowth || limit != math.MaxInt64; growth, limit = collector() {
			time.Sleep(10 * time.Millisecond)
		}
	})
}

func TestWhoeverSetsItselfHowMuchIsCollectedIsLeftAlone(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	debug.SetGCPercent(150)
	for _, value := range []string{"", "off", "100", "400"} {
		t.Setenv("GOGC", value)
		growth, limit := collector()
		collectLater()
		skipFirstCollections()
		if after, limitAfter := collector(); after != growth || limitAfter != limit {
			t.Errorf("with GOGC %q, it became %d, and the limit %d", value, after, limitAfter)
		}
	}
}
