package history

import (
	"slices"
	"time"

	"github.com/sessiond/sessiond/server/history/check"
	"github.com/sessiond/sessiond/server/history/record"
)

// falsification makes a true history false, in a way that the checker must notice.
type falsification struct {
	name string
	rule check.Rule
	// apply returns false where the history is no specimen for it.
	apply func(h *check.History) bool
}

var falsifications = []falsification{
	{"accepted after the bound", check.P3, func(h *check.History) bool {
		e, ok := theEnd(h)
		return ok && e.Until > e.Acked && add(h, otherWorker, record.Accepted, record.Plain, e.Until+1)
	}},
	{"accepted after Revoke", check.P4, func(h *check.History) bool {
		e, ok := theEnd(h)
		return ok && e.Until == e.Acked && add(h, otherWorker, record.Accepted, record.Plain, e.Until+1)
	}},
	{"accepted after a refusal", check.P5, func(h *check.History) bool {
		e, ok := theEnd(h)
		n := slices.IndexFunc(h.Calls, func(c check.Call) bool { return c.Outcome == record.Refused && c.End < e.Until })
		return ok && n >= 0 && add(h, h.Calls[n].Worker, record.Accepted, record.Plain, h.Calls[n].End+1)
	}},
	{"strict and stale", check.Fresh, func(h *check.History) bool {
		e, ok := theEnd(h)
		return ok && e.Until > e.Acked && add(h, otherWorker, record.Accepted, record.Strict, e.Acked+1)
	}},
	{"refused before the end", check.FalseRefusal, func(h *check.History) bool {
		e, ok := theEnd(h)
		for _, c := range h.Changes { // attempts before it, too
			e.Sent = min(e.Sent, c.Sent)
		}
		return ok && add(h, otherWorker, record.Refused, record.Plain, e.Sent-int64(time.Millisecond))
	}},
	{"an old field", check.P3, func(h *check.History) bool {
		if !hasUpdate(h) {
			return false
		}
		// As if the session had not ended, which is another breach.
		h.Changes, h.Calls = nil, nil
		add(h, otherWorker, record.Accepted, record.Plain, h.User[0].Until+1)
		h.Calls[0].UserVersion = 0
		return true
	}},
}

// otherWorker is nobody's number: what it is made to say stands alone.
const otherWorker = 1 << 20

// theEnd returns the change that ended the session, if one did and the store never
// lost anything of it.
func theEnd(h *check.History) (check.Change, bool) {
	var end check.Change
	for _, c := range h.Changes {
		switch {
		case c.Kind == check.Ends && end.Kind == 0:
			end = c
		case c.Kind != check.MayEnd:
			return check.Change{}, false
		}
	}
	return end, end.Kind == check.Ends
}

// hasUpdate reports whether a field of the user was surely updated.
func hasUpdate(h *check.History) bool {
	return len(h.User) > 0 && h.User[0].Until != check.Forever && h.User[0].Lost == check.Forever
}

// specimens are true histories, some of each kind that a falsification needs.
type specimens struct{ revoked, deleted, updated []check.History }

// maxSpecimens is how many histories of a kind are kept.
const maxSpecimens = 64

// add keeps a history in which something can be falsified, where it is one of few.
func (s *specimens) add(h *check.History) {
	end, ok := theEnd(h)
	if !ok || !slices.ContainsFunc(h.Calls, func(c check.Call) bool { return c.Outcome == record.Refused }) {
		return
	}
	kind := &s.deleted
	switch {
	case hasUpdate(h) && len(s.updated) < maxSpecimens:
		kind = &s.updated
	case end.Until == end.Acked:
		kind = &s.revoked
	}
	if len(*kind) < maxSpecimens {
		*kind = append(*kind, *h)
	}
}

func (s *specimens) all() []check.History { return slices.Concat(s.revoked, s.deleted, s.updated) }

// add adds a call of a tenth of a millisecond. It returns true.
func add(h *check.History, worker int, outcome record.Outcome, way record.Way, start int64) bool {
	h.Calls = append(h.Calls, check.Call{Worker: worker, Record: record.Record{
		Kind: record.Call, Outcome: outcome, Source: record.FromCache, Way: way, Start: start, End: start + int64(100*time.Microsecond),
		// Its fields are true.
		UserVersion: latest(h.User, start), SessionVersion: latest(h.Session, start),
	}})
	return true
}

// latest is the newest version that may have been read by then.
func latest(updates []check.Update, at int64) int32 {
	n := int32(0)
	for _, u := range updates {
		if u.Sent <= at {
			n = u.Version
		}
	}
	return n
}

// control falsifies true histories and returns which falsifications the checker
// caught, which it missed, and which no history was a specimen for.
func control(truths []check.History) (caught, missed, untried []string) {
	for _, f := range falsifications {
		verdict := &untried
		for _, h := range truths {
			lie := h
			lie.Calls, lie.Changes = slices.Clone(h.Calls), slices.Clone(h.Changes)
			if !f.apply(&lie) {
				continue
			}
			verdict = &missed
			if slices.ContainsFunc(check.Check(&lie), func(v check.Violation) bool { return v.Rule == f.rule }) {
				verdict = &caught
			}
			break
		}
		*verdict = append(*verdict, f.name)
	}
	return caught, missed, untried
}
