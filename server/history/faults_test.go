package history

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sessiond/sessiond/server/internal/pgtest"
)

// fault is something that goes wrong for a while.
type fault struct {
	name string
	do   func(w *world, ctx context.Context, d time.Duration)
}

// faults are those that are injected, one after the other, at random.
var faults = []fault{
	{"worker stopped", func(w *world, ctx context.Context, d time.Duration) {
		k := w.workers[w.chance.IntN(len(w.workers))]
		_ = k.process.Process.Signal(syscall.SIGSTOP)
		pause(ctx, d)
		_ = k.process.Process.Signal(syscall.SIGCONT)
	}},
	{"authority stopped", func(w *world, ctx context.Context, d time.Duration) {
		a := w.authorities[w.chance.IntN(len(w.authorities))]
		_ = a.process.Process.Signal(syscall.SIGSTOP)
		pause(ctx, d)
		_ = a.process.Process.Signal(syscall.SIGCONT)
	}},
	{"authority killed", func(w *world, _ context.Context, _ time.Duration) {
		w.authorities[w.chance.IntN(len(w.authorities))].restart()
	}},
	{"worker's link cut", func(w *world, ctx context.Context, d time.Duration) {
		w.withLink(ctx, d/4, true, direction{}, direction{})
	}},
	{"worker's link silent upwards", func(w *world, ctx context.Context, d time.Duration) {
		w.withLink(ctx, d, false, direction{silent: true}, direction{})
	}},
	{"worker's link silent downwards", func(w *world, ctx context.Context, d time.Duration) {
		w.withLink(ctx, d, false, direction{}, direction{silent: true})
	}},
	{"worker's link slow", func(w *world, ctx context.Context, d time.Duration) {
		w.withLink(ctx, d, false, direction{delay: w.bound / 5}, direction{delay: w.bound / 3})
	}},
	{"store's link cut", func(w *world, ctx context.Context, d time.Duration) {
		w.withStore(ctx, d/2, true, direction{}, direction{})
	}},
	{"store's link silent upwards", func(w *world, ctx context.Context, d time.Duration) {
		w.withStore(ctx, d, false, direction{silent: true}, direction{})
	}},
	{"store's link silent downwards", func(w *world, ctx context.Context, d time.Duration) {
		w.withStore(ctx, d, false, direction{}, direction{silent: true})
	}},
	{"store's link slow", func(w *world, ctx context.Context, d time.Duration) {
		w.withStore(ctx, d, false, direction{delay: w.bound / 10}, direction{delay: w.bound / 5})
	}},
	{"feed connections dropped", func(w *world, ctx context.Context, _ time.Duration) {
		_, _ = w.pool.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'sessiond%'")
	}},
	{"store restarted", func(w *world, _ context.Context, _ time.Duration) {
		w.cluster.Stop(w.t, pgtest.Fast)
		w.cluster.Start(w.t)
	}},
	{"store crashed", func(w *world, _ context.Context, _ time.Duration) {
		w.cluster.Stop(w.t, pgtest.Immediate)
		w.cluster.Start(w.t)
	}},
	{"trigger dropped and made again", func(w *world, ctx context.Context, _ time.Duration) {
		// In one transaction: nobody's statement runs without it.
		_, _ = w.pool.Exec(ctx, `do $$ begin
			drop trigger sessiond_delete on session;
			create trigger sessiond_delete after delete on session referencing old table as gone for each statement execute function sessiond.session_gone();
			alter table session enable always trigger sessiond_delete;
		end $$`)
	}},
}

func (w *world) withLink(ctx context.Context, d time.Duration, cut bool, up, down direction) {
	k := w.workers[w.chance.IntN(len(w.workers))]
	l := k.links[w.chance.IntN(len(k.links))]
	l.set(cut, up, down)
	pause(ctx, d)
	l.set(false, direction{}, direction{})
}

func (w *world) withStore(ctx context.Context, d time.Duration, cut bool, up, down direction) {
	l := w.authorities[w.chance.IntN(len(w.authorities))].database
	l.set(cut, up, down)
	pause(ctx, d)
	l.set(false, direction{}, direction{})
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// injectFaults injects one fault after the other until the context ends, and leaves
// everything whole.
func (w *world) injectFaults(ctx context.Context) {
	chosen := faults
	if *faultsFlag != "" {
		names := strings.Split(*faultsFlag, ",")
		chosen = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return !slices.Contains(names, f.name) })
	}
	for ctx.Err() == nil {
		pause(ctx, 200*time.Millisecond+w.bound/2)
		if len(chosen) == 0 || ctx.Err() != nil {
			continue
		}
		f := chosen[w.chance.IntN(len(chosen))]
		d := time.Duration(w.chance.Int64N(int64(w.bound*3/2))) + w.bound/10
		f.do(w, ctx, d)
		w.mu.Lock()
		w.faults[f.name]++
		w.mu.Unlock()
	}
}
