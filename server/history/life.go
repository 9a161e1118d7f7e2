package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/sessiond/sessiond/sessioncookie"

	"github.com/sessiond/sessiond/server/history/check"
	"github.com/sessiond/sessiond/server/history/record"
)

// session is one session and its history so far.
type session struct {
	number uint32
	id     string // in the store
	token  string
	group  *group

	mu      sync.Mutex
	history check.History
	silent  int           // workers that call no more
	over    chan struct{} // closed when all of them are silent
	lost    bool          // the store took back its end
}

// group is a user and the user's sessions, which live together.
type group struct {
	user     string
	sessions []*session
	updates  sync.Mutex // one update of the rows at a time, so that versions are in order
}

// change notes a change of the session and returns its index.
func (s *session) change(c check.Change) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history.Changes = append(s.history.Changes, c)
	return len(s.history.Changes) - 1
}

// settle notes that a change was acknowledged.
func (s *session) settle(index int, acked, until int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.history.Changes[index]
	c.Kind, c.Acked, c.Until = check.Ends, acked, until
	s.lost = false
}

// take notes a worker's record. It reports whether the worker was the last of n.
func (s *session) take(worker int, r record.Record, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Kind == record.Call {
		s.history.Calls = append(s.history.Calls, check.Call{Worker: worker, Record: r})
		return
	}
	if s.silent++; s.silent == n {
		close(s.over)
	}
}

func (s *session) wasLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// live leads a group from its sign-in to the judgement.
func (r *run) live(ctx context.Context, e ending) error {
	g, err := r.signIn(ctx, e)
	if err != nil {
		return err
	}
	defer r.forget(g)
	for _, s := range g.sessions {
		cookie := cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign(s.token, r.secret))
		r.tell("add " + strconv.FormatUint(uint64(s.number), 10) + " " + cookie)
	}
	warmth := 200*time.Millisecond + rand.N(800*time.Millisecond)
	if err := pause(ctx, warmth/2); err != nil {
		return err
	}
	if rand.IntN(3) == 0 {
		r.update(ctx, g)
	}
	if err := pause(ctx, warmth/2); err != nil {
		return err
	}

	targets := e.targets(g)
	r.heat(targets)
	if err := pause(ctx, 10*time.Millisecond); err != nil {
		return err
	}
	if e.brink {
		r.awaitBrink(ctx)
	}
	if err := r.end(ctx, g, targets, e); err != nil {
		return err
	}
	if rand.IntN(3) == 0 {
		r.update(ctx, g) // whoever is left
	}
	for {
		// Long enough to see a session that comes back when the bound is over.
		if err := pause(ctx, r.Bound+r.Bound/4+300*time.Millisecond); err != nil {
			return err
		}
		again := lostOf(targets)
		if len(again) == 0 {
			break
		}
		if err := r.end(ctx, g, again, r.store.endings()[0]); err != nil {
			return err
		}
	}
	return r.judge(ctx, g)
}

// brinkTimeout is how long an ending waits for a crash.
const brinkTimeout = 1500 * time.Millisecond

// awaitBrink waits until the store is about to crash, but not for long.
func (r *run) awaitBrink(ctx context.Context) {
	r.mu.Lock()
	brink := r.brink
	r.mu.Unlock()
	timer := time.NewTimer(brinkTimeout)
	defer timer.Stop()
	select {
	case <-brink:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// reachBrink has those go on who wait for a crash.
func (r *run) reachBrink() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.brink)
	r.brink = make(chan struct{})
}

func lostOf(sessions []*session) []*session {
	var out []*session
	for _, s := range sessions {
		if s.wasLost() {
			out = append(out, s)
		}
	}
	return out
}

// signIn makes the group and its rows.
func (r *run) signIn(ctx context.Context, e ending) (*group, error) {
	first := r.numbers.Add(uint32(e.size)) - uint32(e.size)
	g := &group{user: fmt.Sprintf("u%d", first)}
	var ids, tokens []string
	for i := range uint32(e.size) {
		s := &session{number: first + i, id: fmt.Sprintf("s%d", first+i), token: sessioncookie.NewToken(), group: g, over: make(chan struct{})}
		s.history.Name = s.id
		g.sessions = append(g.sessions, s)
		ids, tokens = append(ids, s.id), append(tokens, s.token)
	}
	// No store is lost between the commit and the note of it.
	r.calm.RLock()
	defer r.calm.RUnlock()
	if err := r.insist(ctx, func() error { return r.store.signIn(ctx, g.user, ids, tokens) }); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range g.sessions {
		r.sessions[s.number] = s
	}
	r.count.sessions += len(g.sessions)
	return g, nil
}

// insist repeats what may be repeated until it succeeds.
func (r *run) insist(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%w; the last failure: %w", ctx.Err(), err)
		}
	}
}

func (r *run) tell(command string) {
	for _, w := range r.workers {
		w.tell(command)
	}
}

func (r *run) heat(sessions []*session) {
	// Of many at once some are enough.
	for _, s := range sessions[:min(len(sessions), 8)] {
		r.tell("hot " + strconv.FormatUint(uint64(s.number), 10))
	}
}

// end ends sessions and repeats it until it was acknowledged. Attempts without an
// acknowledgement stay in the history as what may have happened.
func (r *run) end(ctx context.Context, g *group, targets []*session, e ending) error {
	begun := record.Now()
	for {
		sent := record.Now()
		notes := make([]int, len(targets))
		for i, s := range targets {
			for range e.before { // the store may lose these and keep the last
				s.change(check.Change{Kind: check.MayEnd, How: e.name + ", an earlier commit", Sent: sent, Acked: check.Forever, Until: check.Forever})
			}
			notes[i] = s.change(check.Change{Kind: check.MayEnd, How: e.name, Sent: sent, Acked: check.Forever, Until: check.Forever})
		}
		err := e.do(ctx, r, g, targets)
		acked := record.Now()
		if err == nil {
			until := acked
			if !e.waits {
				until += int64(r.Bound)
			}
			for i, s := range targets {
				s.settle(notes[i], acked, until)
			}
			r.ended(e, len(targets), time.Duration(acked-begun))
			return nil
		}
		r.failed(fmt.Errorf("%s: %w", e.name, err))
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%w; the last failure of %s: %w", ctx.Err(), e.name, err)
		}
	}
}

// update writes a field of the user and of each session. Without an
// acknowledgement nothing follows from it.
func (r *run) update(ctx context.Context, g *group) {
	g.updates.Lock()
	defer g.updates.Unlock()
	next := func(updates []check.Update) check.Update {
		return check.Update{Version: int32(len(updates)) + 1, Sent: record.Now(), Acked: check.Forever, Until: check.Forever, Lost: check.Forever}
	}
	var user, session check.Update
	for _, s := range g.sessions {
		s.mu.Lock()
		if user.Version == 0 {
			user, session = next(s.history.User), next(s.history.Session)
		}
		s.history.User, s.history.Session = append(s.history.User, user), append(s.history.Session, session)
		s.mu.Unlock()
	}
	settle := func(of func(*check.History) []check.Update, err error) {
		if err != nil {
			return
		}
		acked := record.Now()
		for _, s := range g.sessions {
			s.mu.Lock()
			updates := of(&s.history)
			u := &updates[len(updates)-1]
			u.Acked, u.Until = acked, acked+int64(r.Bound)
			s.mu.Unlock()
		}
		r.updated()
	}
	settle(func(h *check.History) []check.Update { return h.User },
		r.store.updateUser(ctx, g, version(user)))
	settle(func(h *check.History) []check.Update { return h.Session },
		r.store.updateSessions(ctx, g, version(session)))
}

func version(u check.Update) string { return "v" + strconv.Itoa(int(u.Version)) }

// judge waits until no worker calls about the group any more, and checks it.
func (r *run) judge(ctx context.Context, g *group) error {
	for _, s := range g.sessions {
		r.tell("drop " + strconv.FormatUint(uint64(s.number), 10))
	}
	for _, s := range g.sessions {
		select {
		case <-s.over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// While commits are being lost it is not known yet which.
	r.calm.RLock()
	defer r.calm.RUnlock()
	for _, s := range g.sessions {
		r.judged(&s.history, check.Check(&s.history))
	}
	return nil
}

// forget takes the group off the books.
func (r *run) forget(g *group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range g.sessions {
		delete(r.sessions, s.number)
	}
}
