package history

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// call is one call of a worker.
type call struct {
	start, end int64 // of the machine's monotonic clock, in nanoseconds
	accepted   bool
}

// session is one session and all that happened to it.
type session struct {
	id string
	// created is when it was committed.
	created int64
	// ended is the interval in which it has to end for every worker: from before
	// the revocation was begun until a Revoke returned, or until the staleness
	// bound after the acknowledgement of an issuer's commit. 0: it never ended.
	endStart, endEnd int64
	how              string
	// lost: the commit was not durable and a crash took it back. Nothing can be
	// said of such a session.
	lost  bool
	calls map[int][]call // by worker
}

// input is an operation of the model: a session that is alive until it ends.
type input struct{ ends, accepted bool }

// model is a register that is true and then false. For each worker the end happens
// at one moment of its interval: calls that begin after a refusal are refused, no
// call is refused before it, and none is accepted after it.
var model = porcupine.Model{
	Init: func() any { return true },
	Step: func(state, in, _ any) (bool, any) {
		alive, op := state.(bool), in.(input)
		if op.ends {
			return true, false
		}
		return op.accepted == alive, alive
	},
}

const never = int64(1) << 62

// violation is a history that the model does not allow.
type violation struct {
	session *session
	worker  int
}

// check returns what is wrong with a session's history.
func (s *session) check() []violation {
	if s.lost {
		return nil
	}
	var out []violation
	for worker, calls := range s.calls {
		operations := make([]porcupine.Operation, 0, len(calls)+1)
		if s.endStart != 0 {
			operations = append(operations, porcupine.Operation{ClientId: 0, Input: input{ends: true}, Call: s.endStart, Return: s.endEnd})
		}
		for i, c := range calls {
			operations = append(operations, porcupine.Operation{ClientId: 1 + i, Input: input{accepted: c.accepted}, Call: c.start, Return: c.end})
		}
		if !porcupine.CheckOperations(model, operations) {
			out = append(out, violation{session: s, worker: worker})
		}
	}
	return out
}

// String tells the story of a violation.
func (v violation) String() string {
	var b strings.Builder
	s := v.session
	ms := func(t int64) string { return fmt.Sprintf("%.3f", float64(t-s.created)/float64(time.Millisecond)) }
	fmt.Fprintf(&b, "session %s, worker %d; milliseconds since it was created. Ended by %s, in [%s, %s]\n", s.id, v.worker, s.how, ms(s.endStart), ms(s.endEnd))
	calls := s.calls[v.worker]
	sort.Slice(calls, func(i, j int) bool { return calls[i].start < calls[j].start })
	for i, c := range calls {
		if i > 0 && i < len(calls)-1 && calls[i-1].accepted == c.accepted && calls[i+1].accepted == c.accepted {
			continue
		}
		outcome := "refused"
		if c.accepted {
			outcome = "accepted"
		}
		fmt.Fprintf(&b, "  [%s, %s] %s\n", ms(c.start), ms(c.end), outcome)
	}
	return b.String()
}
