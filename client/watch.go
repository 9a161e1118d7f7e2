package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
)

// watchProtocol is the version of the Watch that this client speaks.
const watchProtocol = 1

// How long a Watch that broke waits before it is opened again, and one that the
// authority does not offer.
const (
	firstWatchPause = 20 * time.Millisecond
	maxWatchPause   = time.Second
	noWatchPause    = 30 * time.Second
)

// watcher keeps a Watch open: it applies events to the cache and renews its lease.
type watcher struct {
	rpc    sessiondv1.SessionServiceClient
	cache  *cache
	intake *intakeSource
	name   string
	bound  clock.Bound // the most that this client takes; 0: the authority's

	once    sync.Once
	running sync.WaitGroup
}

// start opens the Watch, the first time it is called.
func (w *watcher) start(lifetime context.Context) {
	w.once.Do(func() { w.running.Go(func() { w.run(lifetime) }) })
}

func (w *watcher) run(ctx context.Context) {
	pause := firstWatchPause
	for {
		opened, err := w.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case opened:
			pause = firstWatchPause
		case status.Code(err) == codes.Unimplemented, status.Code(err) == codes.FailedPrecondition:
			pause = noWatchPause // another version: until then every call asks
		default:
			pause = min(2*pause, maxWatchPause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

var errSilent = errors.New("the authority no longer answers renewals")

// watch is one Watch, one epoch if a hello comes. opened reports that it did.
func (w *watcher) watch(parent context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	stream, err := w.rpc.Watch(ctx)
	if err != nil {
		return false, fmt.Errorf("open the watch: %w", err)
	}
	if err := stream.Send(&sessiondv1.WatchRequest{Protocol: watchProtocol, Client: w.name}); err != nil {
		return false, streamError(stream, err)
	}
	sentAt := time.Now()
	first, err := stream.Recv()
	if err != nil {
		return false, fmt.Errorf("watch: %w", err)
	}
	if first.GetHello().GetIntake() == nil {
		return false, errors.New("watch: the first message is no hello")
	}
	in := newIntake(first.GetHello().GetIntake(), sentAt)
	w.intake.learn(in)
	bound := clock.Bound(in.bound)
	if w.bound > 0 {
		bound = min(bound, w.bound)
	}
	if bound <= 0 {
		return false, errors.New("watch: the authority names no staleness bound")
	}
	epoch := w.cache.begin(in.instances[0], bound)
	defer w.cache.endWatch(epoch)

	s := &renewals{sent: map[uint64]clock.Instant{}, acks: make(chan uint64, 1)}
	s.acks <- first.GetNumber()
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel(nil)
	sending.Go(func() { cancel(s.send(ctx, stream, bound)) })
	for {
		message, err := stream.Recv()
		if err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
				err = cause
			}
			return true, fmt.Errorf("watch: %w", err)
		}
		if len(message.GetEvents()) > 0 {
			w.cache.apply(epoch, changesOf(message.GetEvents()))
		}
		if g := message.GetGrant(); g != nil {
			if sent, ok := s.answered(g.GetRenew()); ok {
				w.cache.grant(epoch, clock.AsOf(sent, g.GetAge().AsDuration()))
			}
		}
		s.ack(message.GetNumber())
	}
}

func streamError(stream sessiondv1.SessionService_WatchClient, err error) error {
	if _, cause := stream.Recv(); cause != nil {
		err = cause
	}
	return fmt.Errorf("watch: %w", err)
}

// renewals sends renewals and acknowledgements. A lease counts from the sending of
// the renewal that its grant answers (C1, W2).
type renewals struct {
	acks chan uint64 // capacity 1, the newest

	mu     sync.Mutex
	number uint64
	sent   map[uint64]clock.Instant
}

func (r *renewals) send(ctx context.Context, stream sessiondv1.SessionService_WatchClient, bound clock.Bound) error {
	ticker := time.NewTicker(bound.Beat())
	defer ticker.Stop()
	for first := true; ; first = false {
		request := &sessiondv1.WatchRequest{}
		if first {
			request.Renew = r.next()
		} else {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case request.Ack = <-r.acks:
			case <-ticker.C:
				// So many renewals without a grant, or the grant's stream is silent.
				if r.waiting() > maxUnanswered {
					return errSilent
				}
				request.Renew = r.next()
			}
		}
		if err := stream.Send(request); err != nil {
			return err
		}
	}
}

// maxUnanswered is how many renewals may be without an answer, about two bounds'
// worth, before the stream is given up: an authority whose store is away answers
// none, and another stream would not help.
const maxUnanswered = 10

func (r *renewals) next() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.number++
	r.sent[r.number] = clock.Now() // before it is sent
	return r.number
}

func (r *renewals) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sent)
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
