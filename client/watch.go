package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
)

// watchProtocol is the version of the Watch that this client speaks.
const watchProtocol = 1

// How long a Watch that broke waits before it is opened again, at first and at
// most, and one that the authority does not offer.
const (
	firstWatchPause = 20 * time.Millisecond
	maxWatchPause   = time.Second
	noWatchPause    = 30 * time.Second
)

// helloTimeout is how long a Watch may take to open.
const helloTimeout = 10 * time.Second

var (
	errNoHello = errors.New("the authority sent no hello in time")
	errSilent  = errors.New("the authority no longer answers renewals")
)

// watcher keeps a Watch open: it applies events to the cache and renews its lease.
type watcher struct {
	rpc    sessiondv1.SessionServiceClient
	cache  *cache
	intake *intakeSource
	name   string

	begun atomic.Bool
	now   atomic.Value // WatchState
}

func (w *watcher) state() WatchState {
	state, _ := w.now.Load().(WatchState)
	return state
}

// run opens Watches, one after the other, until the context ends.
func (w *watcher) run(ctx context.Context) {
	for pause := firstWatchPause; ; pause = min(2*pause, maxWatchPause) {
		w.now.Store(WatchOpening)
		opened, err := w.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := pause
		switch code := status.Code(err); {
		case code == codes.Unimplemented || code == codes.FailedPrecondition:
			w.now.Store(WatchUnsupported)
			wait = noWatchPause
		case opened > maxWatchPause:
			pause, wait = firstWatchPause/2, firstWatchPause
		}
		wait -= rand.N(wait / 2) // not all clients of a replica at once
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// watch is one Watch, and one epoch if a hello comes. It returns for how long the
// Watch was open.
func (w *watcher) watch(parent context.Context) (opened time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	stream, err := w.rpc.Watch(ctx)
	if err != nil {
		return 0, fmt.Errorf("open the watch: %w", err)
	}
	in, number, err := w.hello(stream, cancel)
	if err != nil {
		return 0, fmt.Errorf("open the watch: %w", err)
	}
	w.intake.learn(in)
	began := clock.Now()
	epoch := w.cache.begin(in.instances[0], clock.Bound(in.bound))
	defer w.cache.endWatch(epoch)
	w.now.Store(WatchLive)

	r := &renewals{bound: clock.Bound(in.bound), sent: map[uint64]clock.Instant{}, acks: make(chan uint64, 1)}
	r.ack(number)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel(nil)
	sending.Go(func() { cancel(r.run(ctx, stream, w.cache)) })
	for {
		message, err := stream.Recv()
		if err != nil {
			return clock.Now().Sub(began), fmt.Errorf("watch: %w", err)
		}
		w.take(epoch, message, r.answered, r.ack)
	}
}

// take does what a message says, events before the grant, and acknowledges it only
// then (C3).
func (w *watcher) take(epoch uint64, message *sessiondv1.WatchResponse, answered func(renew uint64) (clock.Instant, bool), ack func(number uint64)) {
	if len(message.GetEvents()) > 0 {
		w.cache.apply(epoch, changesOf(message.GetEvents()))
	}
	if g := message.GetGrant(); g != nil {
		if sent, ok := answered(g.GetRenew()); ok {
			w.cache.grant(epoch, clock.AsOf(sent, g.GetAge().AsDuration()))
		}
	}
	ack(message.GetNumber())
}

// hello opens a stream and returns what its first message says, and the number of that.
func (w *watcher) hello(stream sessiondv1.SessionService_WatchClient, cancel context.CancelCauseFunc) (*intake, uint64, error) {
	late := time.AfterFunc(helloTimeout, func() { cancel(errNoHello) })
	defer late.Stop()
	sentAt := time.Now()
	// Why it failed, Recv tells.
	if err := stream.Send(&sessiondv1.WatchRequest{Protocol: watchProtocol, Client: w.name}); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, 0, err
	}
	if first.GetHello().GetIntake() == nil {
		return nil, 0, errors.New("the first message is no hello")
	}
	in := newIntake(first.GetHello().GetIntake(), sentAt)
	if in.bound <= 0 {
		return nil, 0, errors.New("the authority names no staleness bound")
	}
	return in, first.GetNumber(), nil
}

// renewals sends renewals and acknowledgements. A lease counts from the sending of
// the renewal that its grant answers (C1, W2).
type renewals struct {
	bound clock.Bound
	acks  chan uint64 // capacity 1, the newest

	mu     sync.Mutex
	number uint64
	sent   map[uint64]clock.Instant
}

// run sends until the stream ends. It renews at once, at every beat while there is
// something to be lent for, and when something has come to be.
func (r *renewals) run(ctx context.Context, stream sessiondv1.SessionService_WatchClient, cache *cache) error {
	ticker := time.NewTicker(r.bound.Beat())
	defer ticker.Stop()
	request := &sessiondv1.WatchRequest{Renew: r.next()}
	for {
		if err := stream.Send(request); err != nil {
			return err
		}
		var err error
		if request, err = r.wait(ctx, ticker, cache); err != nil {
			return err
		}
	}
}

// wait returns what is to be sent next, when it is due.
func (r *renewals) wait(ctx context.Context, ticker *time.Ticker, cache *cache) (*sessiondv1.WatchRequest, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case number := <-r.acks:
			return &sessiondv1.WatchRequest{Ack: number}, nil
		case <-cache.wanted:
		case <-ticker.C:
			if r.silent() {
				return nil, errSilent
			}
			if cache.idle() {
				continue
			}
		}
		return &sessiondv1.WatchRequest{Renew: r.next()}, nil
	}
}

func (r *renewals) next() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.number++
	r.sent[r.number] = clock.Now() // before it is sent
	return r.number
}

// silent reports that renewals have been without an answer for two bounds. An
// authority whose store is away answers none, and another stream would not help:
// so the stream is given up only when what was kept is of little use any more.
func (r *renewals) silent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := clock.Now()
	for _, sent := range r.sent {
		if now.Sub(sent) > 2*time.Duration(r.bound) {
			return true
		}
	}
	return false
}

// answered returns when a renewal was sent, and forgets it and all before it.
func (r *renewals) answered(number uint64) (clock.Instant, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent, ok := r.sent[number]
	for n := range r.sent {
		if n <= number {
			delete(r.sent, n)
		}
	}
	return sent, ok
}

// ack has the newest number acknowledged, which covers all before it.
func (r *renewals) ack(number uint64) {
	for {
		select {
		case r.acks <- number:
			return
		case <-r.acks:
		}
	}
}

func changesOf(events []*sessiondv1.Event) []change {
	out := make([]change, len(events))
	for i, e := range events {
		switch scope := e.GetScope().(type) {
		case *sessiondv1.Event_SessionKey:
			if len(scope.SessionKey) == len(out[i].key) {
				out[i] = change{key: sessionDigest(scope.SessionKey), hasKey: true}
				continue
			}
			out[i].all = true
		case *sessiondv1.Event_UserId:
			out[i].user = scope.UserId
		default:
			out[i].all = true // what is not understood may mean anything
		}
	}
	return out
}
