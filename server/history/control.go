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
	apply func(h *check.History, bound int64) bool
}

var falsifications = []falsification{
	{"accepted after the bound", check.P3, func(h *check.History, _ int64) bool {
		e, ok := theEnd(h)
		return ok && e.Until > e.Acked && add(h, otherWorker, record.Accepted, record.Plain, e.Until+1)
	}},
	{"accepted after Revoke", check.P4, func(h *check.History, _ int64) bool {
		e, ok := theEnd(h)
		return ok && e.Until == e.Acked && add(h, otherWorker, record.Accepted, record.Plain, e.Until+1)
	}},
	{"accepted after a refusal", check.P5, func(h *check.History, _ int64) bool {
		e, ok := theEnd(h)
		n := slices.IndexFunc(h.Calls, func(c check.Call) bool { return c.Outcome == record.Refused && c.End < e.Until })
		return ok && n >= 0 && add(h, h.Calls[n].Worker, record.Accepted, record.Plain, h.Calls[n].End+1)
	}},
	{"strict and stale", check.Fresh, func(h *check.History, _ int64) bool {
		e, ok := theEnd(h)
		return ok && e.Until > e.Acked && add(h, otherWorker, record.Accepted, record.Strict, e.Acked+1)
	}},
	{"refused before the end", check.FalseRefusal, func(h *check.History, _ int64) bool {
		e, ok := theEnd(h)
		for _, c := range h.Changes { // attempts before it, too
			e.Sent = min(e.Sent, c.Sent)
		}
		return ok && add(h, otherWorker, record.Refused, record.Plain, e.Sent-int64(time.Millisecond))
	}},
	{"an old field", check.P3, func(h *check.History, bound int64) bool {
		if len(h.User) == 0 || h.User[0].Until == check.Forever || h.User[0].Lost != check.Forever {
			return false
		}
		// As if the session had not ended, which is another breach.
		h.Changes, h.Calls = nil, nil
		add(h, otherWorker, record.Accepted, record.Plain, h.User[0].Acked+bound+1)
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

// fitsControl returns the end of a history in which something can be falsified.
func fitsControl(h *check.History) (check.Change, bool) {
	end, ok := theEnd(h)
	return end, ok && slices.ContainsFunc(h.Calls, func(c check.Call) bool { return c.Outcome == record.Refused })
}

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
// caught and which it did not, or had no history for.
func control(specimens []check.History, bound int64) (caught, missed []string) {
	for _, f := range falsifications {
		found := false
		for _, h := range specimens {
			lie := h
			lie.Calls, lie.Changes = slices.Clone(h.Calls), slices.Clone(h.Changes)
			if !f.apply(&lie, bound) {
				continue
			}
			found = slices.ContainsFunc(check.Check(&lie), func(v check.Violation) bool { return v.Rule == f.rule })
			break
		}
		if found {
			caught = append(caught, f.name)
		} else {
			missed = append(missed, f.name)
		}
	}
	return caught, missed
}
