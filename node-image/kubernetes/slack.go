package main

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// timerSlack is how much later than asked for a timer of a component may fire once it has started; the kernel's default is
	// 50 µs. Nothing in a component waits for less than 100 ms as long as nothing happens.
	timerSlack = 5 * time.Millisecond
	// slackInterval is the pause between two looks at which thread has the timers.
	slackInterval = time.Second
	// firstSlacks is how many of the first looks have a pause of a hundredth of that.
	firstSlacks = 100
)

// wakeTogether lets the kernel wake a component once for several of its timers, after it has started.
//
// Components have hundreds of timers, and wake several hundred times a second when nothing happens. With the slack, a node
// at rest takes 5.9 % of a core instead of 6.3 % (docs/decisions/0034-at-rest.md). Calls, answers and events still wake a
// component at once. Containers do not inherit it: they are children of containerd, which does not have it.
func wakeTogether() {
	time.AfterFunc(boot, func() { slacken(timerSlack) })
}

// slacken gives the slack to each thread that waits for timers. A thread can only set its own, and Go's scheduler changes the
// one that waits: this runs on it, because it waits for a timer as well.
func slacken(slack time.Duration) {
	for look := 0; ; look++ {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack.Nanoseconds()), 0, 0, 0)
		if look < firstSlacks {
			time.Sleep(slackInterval / 100)
		} else {
			time.Sleep(slackInterval)
		}
	}
}
