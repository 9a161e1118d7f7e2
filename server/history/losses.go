package history

import (
	"context"
	"fmt"

	"github.com/sessiond/sessiond/server/history/check"
	"github.com/sessiond/sessiond/server/history/record"
)

// losses counts the acknowledged commits that a store took back.
type losses struct{ endings, sessions, updates int }

// String names what was lost.
func (l losses) String() string {
	return fmt.Sprintf("lost %d endings, %d sessions, %d updates", l.endings, l.sessions, l.updates)
}

func (l *losses) add(o losses) {
	l.endings += o.endings
	l.sessions += o.sessions
	l.updates += o.updates
}

// learnLosses asks the store, which may have lost commits since begun, what it
// still holds, and notes it in the histories. A session that it holds as good
// again is good; what it does not know was never there. The caller holds calm.
func (r *run) learnLosses(ctx context.Context, begun int64) (losses, error) {
	r.mu.Lock()
	var known []*session
	var ids, tokens []string
	for _, s := range r.sessions {
		known = append(known, s)
		ids, tokens = append(ids, s.id), append(tokens, s.token)
	}
	r.mu.Unlock()
	asked := record.Now()
	var held map[string]row
	if err := r.insist(ctx, func() (err error) {
		asked = record.Now()
		held, err = r.store.good(ctx, ids, tokens)
		return err
	}); err != nil {
		return losses{}, err
	}
	answered := record.Now()
	var out losses
	for _, s := range known {
		row, good := held[s.id]
		out.add(s.learn(row, good, begun, asked, answered, int64(r.Bound)))
	}
	r.mu.Lock()
	r.count.lost.add(out)
	r.mu.Unlock()
	return out, nil
}

// learn notes what the store, asked in the interval [asked, answered], holds of
// the session after it may have lost commits since begun.
func (s *session) learn(held row, good bool, begun, asked, answered, bound int64) losses {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out losses
	// gone: it had ended for certain before; recent: it may have ended since, have
	// been lost, and have ended again by the next attempt.
	attempted, gone, recent := false, false, false
	for _, c := range s.history.Changes {
		if c.Kind == check.MayRestore || c.Sent > answered {
			continue
		}
		attempted = true
		gone = gone || c.Kind == check.Ends && c.Acked <= begun
		recent = recent || c.Acked > begun
		if good && c.Kind == check.Ends && c.Acked < asked && !s.lost {
			s.lost = true
			out.endings++
		}
	}
	note := func(kind check.Kind, how string, acked, until int64) {
		s.history.Changes = append(s.history.Changes, check.Change{Kind: kind, How: how, Sent: begun, Acked: acked, Until: until})
	}
	if good && attempted || !good && recent {
		note(check.MayRestore, "commits lost by the store", answered, answered)
	}
	switch {
	case !good && !attempted:
		note(check.Ends, "sign-in lost by the store", answered, answered+bound)
		out.sessions++
	case !good && !gone:
		note(check.MayEnd, "sign-in perhaps lost by the store", check.Forever, check.Forever)
	}
	user := forgetUpdates(s.history.User, held.user, begun, asked)
	session := forgetUpdates(s.history.Session, held.session, begun, asked)
	if good { // else nobody knows: what it held is gone with it
		out.updates = user + session
	}
	return out
}

// forgetUpdates notes which updates the store does not hold any more, all of them
// where it holds nothing, and returns how many those are.
func forgetUpdates(updates []check.Update, held int32, begun, asked int64) int {
	lost := 0
	for i := range updates {
		if u := &updates[i]; u.Acked < asked && u.Version > held && u.Lost > begun {
			u.Lost = begun
			lost++
		}
	}
	return lost
}
