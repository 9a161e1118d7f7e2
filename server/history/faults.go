package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sessiond/sessiond/server/history/proxy"
	"github.com/sessiond/sessiond/server/history/record"
)

// lane says which faults exclude each other: one of each lane is under way at a
// time, so that any two lanes' may meet.
type lane int

const (
	storeLane lane = iota
	linkLane
	processLane
	lanes
)

// fault is something that goes wrong for a while and is mended again.
type fault struct {
	name string
	lane lane
	do   func(context.Context, *injector, time.Duration) (what string, err error)
}

// processFaults are those that need nothing of the store but a link to it.
var processFaults = []fault{
	{"worker-pause", processLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		w := pick(i, i.workers)
		return w.name, while(ctx, d, func() error { return w.signal(syscall.SIGSTOP) }, func() error { return w.signal(syscall.SIGCONT) })
	}},
	{"authority-pause", processLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		a := pick(i, i.authorities)
		return a.name, while(ctx, d, func() error { return a.signal(syscall.SIGSTOP) }, func() error { return a.signal(syscall.SIGCONT) })
	}},
	{"authority-kill", processLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		a := pick(i, i.authorities)
		a.count(ctx)
		return a.name, while(ctx, d/4, a.kill, func() error { return a.start(context.WithoutCancel(ctx)) })
	}},
	{"worker-cut", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		w := pick(i, i.workers)
		return w.name, onLinks(ctx, d/3, w.links, (*proxy.Link).Cut)
	}},
	{"worker-hold-up", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		w := pick(i, i.workers)
		return w.name, onLinks(ctx, d, w.links, func(l *proxy.Link) { l.Hold(proxy.Up) })
	}},
	{"worker-hold-down", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		w := pick(i, i.workers)
		return w.name, onLinks(ctx, d, w.links, func(l *proxy.Link) { l.Hold(proxy.Down) })
	}},
	{"worker-delay", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		w, up, down := pick(i, i.workers), i.delay(), i.delay()
		return fmt.Sprintf("%s, up %v, down %v", w.name, up, down), onLinks(ctx, d, w.links, func(l *proxy.Link) {
			l.Delay(proxy.Up, up)
			l.Delay(proxy.Down, down)
		})
	}},
	{"home-cut", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		// One authority is gone for one worker, which goes to another.
		w := pick(i, i.workers)
		n := i.chance.IntN(len(w.links))
		return w.name + " to " + i.authorities[n].name, onLinks(ctx, d, w.links[n:n+1], (*proxy.Link).Cut)
	}},
	{"store-cut", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		what, links := i.storeLinks()
		return what, onLinks(ctx, d/2, links, (*proxy.Link).Cut)
	}},
	{"store-hold-up", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		what, links := i.storeLinks()
		return what, onLinks(ctx, d, links, func(l *proxy.Link) { l.Hold(proxy.Up) })
	}},
	{"store-hold-down", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		what, links := i.storeLinks()
		return what, onLinks(ctx, d, links, func(l *proxy.Link) { l.Hold(proxy.Down) })
	}},
	{"store-delay", linkLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
		what, links := i.storeLinks()
		up, down := i.delay()/2, i.delay()/2
		return fmt.Sprintf("%s, up %v, down %v", what, up, down), onLinks(ctx, d, links, func(l *proxy.Link) {
			l.Delay(proxy.Up, up)
			l.Delay(proxy.Down, down)
		})
	}},
}

// clockStep sets the machine's clock, which everything on the machine notices: it
// is injected only where it is named.
var clockStep = fault{"clock-step", processLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
	by := time.Hour
	if i.chance.IntN(2) == 0 {
		by = -time.Hour
	}
	return by.String(), while(ctx, d/2, func() error { return stepWallClock(by) }, func() error { return stepWallClock(-by) })
}}

func stepWallClock(by time.Duration) error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("read the wall clock: %w", err)
	}
	ts = unix.NsecToTimespec(ts.Nano() + int64(by))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the wall clock: %w", err)
	}
	return nil
}

// mayStepWallClock reports why the wall clock cannot be set; nil: it can.
func mayStepWallClock() error { return stepWallClock(0) }

// chosenFaults returns those that are named, or all but the wall clock's step for
// "all", or none for "none"; and a line on each that is not run.
func chosenFaults(names string, faults []fault) ([]fault, []string, error) {
	const why = "clock-step: not run: it sets the machine's clock; name it to have it run"
	switch names {
	case "", "all":
		return faults, []string{why}, nil
	case "none":
		return nil, []string{why}, nil
	}
	var out []fault
	var not []string
	for name := range strings.SplitSeq(names, ",") {
		n := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		switch {
		case n >= 0:
			out = append(out, faults[n])
		case name == clockStep.name:
			if err := mayStepWallClock(); err != nil {
				not = append(not, "clock-step: not run: "+err.Error())
				continue
			}
			out = append(out, clockStep)
		default:
			return nil, nil, fmt.Errorf("no such fault: %q; there are %s, %s", name, strings.Join(namesOf(faults), ", "), clockStep.name)
		}
	}
	return out, not, nil
}

func namesOf(faults []fault) []string {
	out := make([]string, len(faults))
	for i, f := range faults {
		out[i] = f.name
	}
	return out
}

// incident is a fault that was injected.
type incident struct {
	fault, what string
	begun       int64
	ended       int64 // 0: it is under way
}

// injector injects the faults of one lane.
type injector struct {
	*run
	chance *rand.Rand
}

// inject injects faults of a lane, one after the other, until the context ends.
// Each has its turn before any comes again.
func (i *injector) inject(ctx context.Context, of []fault) error {
	if len(of) == 0 {
		return nil
	}
	for {
		for _, n := range i.chance.Perm(len(of)) {
			rest := 200*time.Millisecond + time.Duration(i.chance.Int64N(int64(i.Bound/2)))
			if pause(ctx, rest) != nil {
				return nil
			}
			f := of[n]
			d := i.Bound/10 + time.Duration(i.chance.Int64N(int64(i.Bound)*3/2))
			done := i.begin(f.name)
			what, err := f.do(ctx, i, d)
			done(what)
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil // it had not begun
			}
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
}

// delay is by how much a link is late.
func (i *injector) delay() time.Duration {
	return time.Duration(i.chance.Int64N(int64(i.Bound) / 4)).Round(time.Millisecond)
}

// storeLinks chooses an authority and its way to the store; where there are two, one
// of them or both.
func (i *injector) storeLinks() (what string, links []*proxy.Link) {
	a := pick(i, i.authorities)
	n := i.chance.IntN(len(a.stores) + 1)
	if len(a.stores) == 1 || n == len(a.stores) {
		return a.name, a.stores
	}
	return fmt.Sprintf("%s to %s", a.name, i.store.addresses()[n]), a.stores[n : n+1]
}

func pick[T any](i *injector, of []T) T { return of[i.chance.IntN(len(of))] }

// while breaks something for d, or until the context ends, and always mends it.
func while(ctx context.Context, d time.Duration, spoil, mend func() error) error {
	if err := spoil(); err != nil {
		return errors.Join(err, mend())
	}
	_ = pause(ctx, d) // an early end is mended all the same
	return mend()
}

func onLinks(ctx context.Context, d time.Duration, links []*proxy.Link, spoil func(*proxy.Link)) error {
	return while(ctx, d, func() error {
		for _, l := range links {
			spoil(l)
		}
		return nil
	}, func() error {
		for _, l := range links {
			l.Heal()
		}
		return nil
	})
}

// losing does what may lose commits and then asks the store which are lost.
func (i *injector) losing(ctx context.Context, do func() error) (string, error) {
	i.calm.Lock()
	defer i.calm.Unlock()
	begun := record.Now()
	if err := do(); err != nil {
		return "", err
	}
	lost, err := i.learnLosses(ctx, begun)
	return lost.String(), err
}

// injectAll runs the lanes until the context ends and leaves everything whole.
func (r *run) injectAll(ctx context.Context, chosen []fault) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, lanes)
	var running sync.WaitGroup
	for l := range lanes {
		of := slices.DeleteFunc(slices.Clone(chosen), func(f fault) bool { return f.lane != l })
		i := &injector{run: r, chance: rand.New(rand.NewPCG(r.Seed, uint64(l)))}
		running.Go(func() {
			if errs[l] = i.inject(ctx, of); errs[l] != nil {
				cancel()
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}
