// Package check judges histories: what workers accepted and refused, against what
// was done to the sessions meanwhile.
//
// Each worker's view of a session is a register that Validate reads: good until
// the session ends. A revocation through the authority ends it between the call
// and its return (P4); a change by SQL between the sending of the statement and
// the bound after its acknowledgement (P3). Within one worker the register does
// not turn back (P5). Calls that ask for fresh knowledge are one register for all
// workers, without the bound. A call that was not decided is no operation.
package check

import (
	"fmt"
	"math"
	"time"

	"github.com/sessiond/sessiond/server/history/record"
)

// Kind says what a change does to a session.
type Kind uint8

// The kinds.
const (
	// Ends: after it the session is not good.
	Ends Kind = 1 + iota
	// MayEnd: a change whose outcome nobody was told; its transaction may commit
	// at any time after it was sent, or never.
	MayEnd
	// MayRestore: the store lost commits, and with them perhaps the end.
	MayRestore
)

// Forever is the end of an interval that has none.
const Forever = math.MaxInt64

// Change is one thing that was done to a session.
type Change struct {
	Kind Kind
	// How names it.
	How string
	// Sent is when it was sent; it took effect no sooner.
	Sent int64
	// Acked is when it was acknowledged; in the store it took effect no later.
	Acked int64
	// Until is from when on nobody may go by what was before: Acked for a
	// revocation that waits for everybody, and the bound later for others.
	Until int64
}

// Update is a change of a field: the row's version from then on.
type Update struct {
	// Version is greater than those before.
	Version int32
	// Sent, Acked and Until are as in [Change]; Acked and Until are [Forever]
	// where the outcome is not known.
	Sent, Acked, Until int64
	// Lost is from when on the store may have lost it; [Forever]: it never did.
	Lost int64
}

// Call is one call of one worker.
type Call struct {
	Worker int
	record.Record
}

// History is everything that happened to one session.
type History struct {
	// Name identifies the session; it is no secret.
	Name string
	// Calls are the workers' calls, in any order.
	Calls []Call
	// Changes are what ended the session, in any order.
	Changes []Change
	// User and Session are the updates of its two rows, by version.
	User, Session []Update
}

// Rule names what a violation breaks.
type Rule string

// The rules.
const (
	// P3 is bounded staleness: accepted, or an old field returned, by a call that
	// began later than the bound after the acknowledged commit.
	P3 Rule = "P3 bounded staleness"
	// P4 is revoke means revoked: accepted by a call that began after the
	// revocation had returned.
	P4 Rule = "P4 revoke means revoked"
	// P5 is no resurrection: accepted by a call that began after the same worker
	// had refused.
	P5 Rule = "P5 no resurrection"
	// Fresh is the promise to calls that ask for fresh knowledge.
	Fresh Rule = "fresh answers"
	// FalseRefusal is a refusal of a session that nobody had ended.
	FalseRefusal Rule = "no false refusal"
	// Order is any other breach: no order of the operations explains the answers.
	Order Rule = "linearizable"
	// Undecided is a history that could not be judged in time.
	Undecided Rule = "could not be judged"
)

// Violation is one breach.
type Violation struct {
	Rule Rule
	// Text says what happened.
	Text string
	// At is when, for a timeline around it.
	At int64
}

// Check returns the breaches of one history. It is safe for concurrent use.
func Check(h *History) []Violation {
	var out []Violation
	out = append(out, checkEnds(h)...)
	out = append(out, checkRefusals(h)...)
	out = append(out, checkUpdates(h, "user", h.User, func(c Call) int32 { return c.UserVersion })...)
	out = append(out, checkUpdates(h, "session", h.Session, func(c Call) int32 { return c.SessionVersion })...)
	named := len(out) > 0
	for _, v := range checkOrder(h) {
		// A named breach is the same one, told better.
		if v.Rule != Order || !named {
			out = append(out, v)
		}
	}
	return out
}

// checkEnds looks for sessions accepted after their end.
func checkEnds(h *History) []Violation {
	var out []Violation
	for _, c := range h.Calls {
		if c.Outcome != record.Accepted {
			continue
		}
		for _, e := range h.Changes {
			if e.Kind != Ends || restored(h, e.Sent, c.End) {
				continue
			}
			var rule Rule
			switch {
			case c.Way.Fresh() && c.Start > e.Acked:
				rule = Fresh
			case c.Start <= e.Until:
				continue
			case e.Until == e.Acked:
				rule = P4
			default:
				rule = P3
			}
			out = append(out, Violation{Rule: rule, At: c.Start, Text: fmt.Sprintf(
				"worker %d accepted (%s, %s) in a call that began %v after %s was acknowledged, %v after the last moment allowed",
				c.Worker, c.Way, c.Source, since(e.Acked, c.Start), e.How, since(e.Until, c.Start))})
			break
		}
	}
	return out
}

// restored reports whether the store may have lost, by the time until, an end
// that was sent at the time from.
func restored(h *History, from, until int64) bool {
	for _, r := range h.Changes {
		if r.Kind == MayRestore && r.Acked >= from && r.Sent <= until {
			return true
		}
	}
	return false
}

// checkRefusals looks for refusals without a cause, and for refusals taken back.
func checkRefusals(h *History) []Violation {
	var out []Violation
	refused := map[int]Call{} // by worker: the refusal that was returned first
	for _, c := range h.Calls {
		if c.Outcome != record.Refused {
			continue
		}
		if !mayHaveEnded(h, c.End) {
			out = append(out, Violation{Rule: FalseRefusal, At: c.Start, Text: fmt.Sprintf(
				"worker %d was refused (%s, %s) and nobody had ended the session", c.Worker, c.Way, c.Source)})
		}
		if first, ok := refused[c.Worker]; !ok || c.End < first.End {
			refused[c.Worker] = c
		}
	}
	for _, c := range h.Calls {
		first, ok := refused[c.Worker]
		if c.Outcome == record.Accepted && ok && c.Start > first.End && !restored(h, first.Start, c.End) {
			out = append(out, Violation{Rule: P5, At: c.Start, Text: fmt.Sprintf(
				"worker %d accepted (%s, %s) in a call that began %v after it had been refused", c.Worker, c.Way, c.Source, since(first.End, c.Start))})
		}
	}
	return out
}

// mayHaveEnded reports whether anything that ends the session was sent before at.
func mayHaveEnded(h *History, at int64) bool {
	for _, e := range h.Changes {
		if e.Kind != MayRestore && e.Sent <= at {
			return true
		}
	}
	return false
}

// checkUpdates looks for fields that are too old, or that nobody has written yet.
func checkUpdates(h *History, row string, updates []Update, version func(Call) int32) []Violation {
	var out []Violation
	for _, c := range h.Calls {
		if c.Outcome != record.Accepted {
			continue
		}
		got := version(c)
		for _, u := range updates {
			limit := u.Until
			if c.Way.Fresh() {
				limit = u.Acked
			}
			switch {
			case got < u.Version && c.Start > limit && c.End < u.Lost:
				rule := P3
				if c.Way.Fresh() {
					rule = Fresh
				}
				out = append(out, Violation{Rule: rule, At: c.Start, Text: fmt.Sprintf(
					"worker %d was given version %d of the %s (%s, %s) in a call that began %v after version %d was acknowledged, %v after the last moment allowed",
					c.Worker, got, row, c.Way, c.Source, since(u.Acked, c.Start), u.Version, since(limit, c.Start))})
			case got == u.Version && c.End < u.Sent:
				out = append(out, Violation{Rule: Order, At: c.Start, Text: fmt.Sprintf(
					"worker %d was given version %d of the %s before anybody had written it", c.Worker, got, row)})
			}
		}
	}
	return out
}

func since(from, to int64) time.Duration { return time.Duration(to - from).Round(time.Microsecond) }
