package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	// bootGrowth is GOGC while a component starts: Go's own default. Twice as much would save 0.4 s more, and leave a heap
	// with so many holes that the node keeps 10 MB more for good.
	bootGrowth = 100
	// boot is how long a component starts, at most, on a machine that is not very slow.
	boot = 20 * time.Second
	// firstCollection is what the API server may use before it collects garbage at all, in bytes: less than what it keeps.
	// Otherwise, a heap of a few megabytes is collected each time it has doubled. The others keep less, and would stay larger.
	firstCollection = 64 << 20
)

// bootIsOver tells that a component has its usual GOGC.
var bootIsOver atomic.Bool

// collectLater lets a component grow more between two garbage collections while it starts, if the environment keeps it small
// afterwards. It makes most of its garbage then, and collecting it takes more of the processors than anything else.
func collectLater() {
	usual, err := strconv.Atoi(os.Getenv("GOGC"))
	if err != nil || usual <= 0 || usual >= bootGrowth {
		return
	}
	debug.SetGCPercent(bootGrowth)
	time.AfterFunc(boot, func() {
		bootIsOver.Store(true)
		debug.SetGCPercent(usual)
		debug.FreeOSMemory()
	})
}

// skipFirstCollections lets a component that keeps much grow to firstCollection before it collects garbage.
func skipFirstCollections() {
	growth := debug.SetGCPercent(-1) // until the limit
	if growth != bootGrowth {
		debug.SetGCPercent(growth) // somebody wants something else
		return
	}
	limit := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(limit, firstCollection))
	afterCollection(func() {
		debug.SetMemoryLimit(limit)
		if !bootIsOver.Load() {
			debug.SetGCPercent(growth)
		}
	})
}

// afterCollection calls a function once, when garbage has been collected for the first time.
func afterCollection(call func()) {
	type garbage struct{ it *int }
	runtime.SetFinalizer(&garbage{}, func(*garbage) { call() })
}
