package clienttest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
)

const watchProtocol = 1

// watcher is an open Watch. Its fields but wake are the Authority's, under its lock.
type watcher struct {
	queue         []*sessiondv1.WatchResponse
	pushed, acked uint64
	wake          chan struct{} // capacity 1
}

// push queues a message. The caller holds the Authority's lock.
func (w *watcher) push(m *sessiondv1.WatchResponse) {
	w.pushed++
	m.Number = w.pushed
	w.queue = append(w.queue, m)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Watch implements SessionService.
func (a *Authority) Watch(stream sessiondv1.SessionService_WatchServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if v := first.GetProtocol(); v != watchProtocol {
		return status.Errorf(codes.FailedPrecondition, "watch protocol %d, this authority speaks %d", v, watchProtocol)
	}
	w := &watcher{wake: make(chan struct{}, 1)}
	a.mu.Lock()
	if err := a.failure; err != nil {
		a.mu.Unlock()
		return err
	}
	a.watchers[w] = struct{}{}
	w.push(&sessiondv1.WatchResponse{Hello: &sessiondv1.WatchHello{Intake: a.intake()}})
	a.mu.Unlock()
	defer a.leave(w)

	ended := make(chan error, 1)
	go func() { ended <- a.receive(stream, w) }() // ends with the stream
	for {
		a.mu.Lock()
		queue := w.queue
		w.queue = nil
		a.mu.Unlock()
		for _, m := range queue {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-w.wake:
		case err := <-ended:
			return err
		}
	}
}

// receive takes renewals and acknowledgements until the client closes its side.
func (a *Authority) receive(stream sessiondv1.SessionService_WatchServer, w *watcher) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		a.mu.Lock()
		if n := request.GetAck(); n > w.acked && n <= w.pushed {
			w.acked = n
			a.progressed()
		}
		// What is in memory is always current; without it there is no grant.
		if n := request.GetRenew(); n > 0 && a.failure == nil {
			w.push(&sessiondv1.WatchResponse{Grant: &sessiondv1.Grant{Renew: n, Age: durationpb.New(0)}})
		}
		a.mu.Unlock()
	}
}

func (a *Authority) leave(w *watcher) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.watchers, w)
	a.progressed()
}

// progressed wakes those who wait for Watches. The caller holds the lock.
func (a *Authority) progressed() {
	close(a.progress)
	a.progress = make(chan struct{})
}

// tell sends an event to all Watches, and waits until each has acknowledged it or
// has ended, or the leases are over. change is made before, in the same step.
func (a *Authority) tell(event *sessiondv1.Event, change func()) {
	a.mu.Lock()
	change()
	a.revision++
	pending := map[*watcher]uint64{}
	for w := range a.watchers {
		w.push(&sessiondv1.WatchResponse{Events: []*sessiondv1.Event{event}})
		pending[w] = w.pushed
	}
	a.mu.Unlock()
	over := time.NewTimer(clock.Bound(staleness).Wait())
	defer over.Stop()
	for {
		a.mu.Lock()
		for w, number := range pending {
			if _, open := a.watchers[w]; !open || w.acked >= number {
				delete(pending, w)
			}
		}
		progress := a.progress
		a.mu.Unlock()
		if len(pending) == 0 {
			return
		}
		select {
		case <-progress:
		case <-over.C:
			return
		}
	}
}

const revisionPrefix = "clienttest-"

// covers says what is wrong with the revision of a request. What is in memory
// covers all of them. The caller holds the lock.
func (a *Authority) covers(revision string) error {
	if revision != "" && !strings.HasPrefix(revision, revisionPrefix) {
		return status.Error(codes.InvalidArgument, "at_least: the text is no revision of this authority: take one from GetRevision")
	}
	return nil
}

func (a *Authority) presentRevision() string { return fmt.Sprint(revisionPrefix, a.revision) }
