// Package clock holds the time and the arithmetic of the staleness bound, as the
// coherence protocol needs them (docs/contract.md): monotonic instants of one
// process, never compared with another machine's, and drift always taken into
// account. It never reads the wall clock.
package clock

import "time"

// Instant is a reading of this process's monotonic clock, in nanoseconds since an
// arbitrary origin. It means nothing to another process.
type Instant int64

// Never is earlier than every reading.
const Never Instant = -1 << 62

var origin = time.Now()

// Now reads the monotonic clock.
func Now() Instant { return Instant(time.Since(origin)) }

// Sub returns the time from u to i.
func (i Instant) Sub(u Instant) time.Duration { return time.Duration(i - u) }

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// driftShare is 1/r: the monotonic clocks of two machines are taken to run within
// 1 ± r of real time, r = 1 %.
const driftShare = 100

// Bound is the staleness bound B: no answer is used longer than this after the
// moment it speaks of.
type Bound time.Duration

// DefaultBound is the bound where nobody sets another.
const DefaultBound = Bound(5 * time.Second)

// Lease is B(1−r): knowledge is used while it is younger than this on the clock
// of whoever uses it.
func (b Bound) Lease() time.Duration { return time.Duration(b) - time.Duration(b)/driftShare }

// Wait is B(1+r), rounded up: after this time on one's own clock every lease that
// began before has ended on every clock.
func (b Bound) Wait() time.Duration { return time.Duration(b) + time.Duration(b)/driftShare + 1 }

// Beat is B/5: how often a replica beats and a client renews.
func (b Bound) Beat() time.Duration { return time.Duration(b) / 5 }

// AsOf is the latest moment, on one's own clock, of which an answer is surely
// true: the sending of the question minus the age that the answer states, which
// another clock counted and this one may count faster.
func AsOf(sent Instant, age time.Duration) Instant {
	return sent.Add(-Stretch(age))
}

// Stretch converts an age that another clock counted into the longest time that
// may have passed on this one: age·(1+r)/(1−r), rounded up.
func Stretch(age time.Duration) time.Duration {
	if age <= 0 {
		return 0
	}
	return age + age/driftShare*2 + age/driftShare/driftShare*4 + 100
}

// Within converts a time of this clock into one that another clock has surely not
// counted to sooner: d·(1−r)/(1+r), rounded down; at least 0. It is the max_age of
// a question that must be answered by knowledge younger than d.
func Within(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return max(d-d/driftShare*2-100, 0)
}
