package check

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sessiond/sessiond/server/history/record"
)

// orderTimeout bounds the search for an order of one register's operations. What
// it does not decide is reported: nothing passes for want of time.
const orderTimeout = 20 * time.Second

// state is the set of what a register may hold: a change whose outcome nobody
// knows leaves more than one possibility.
type state uint8

const (
	good  state = 1 << iota // the session is good
	ended                   // it is not
)

// operation is one thing that happens to a register: a call or a change.
type operation struct {
	outcome record.Outcome // of a call
	change  Kind           // of a change
}

// register is the sequential meaning of a session.
var register = porcupine.Model{
	Init: func() any { return good },
	Step: func(before, input, _ any) (bool, any) {
		after := before.(state).after(input.(operation))
		return after != 0, after
	},
	Equal: func(a, b any) bool { return a.(state) == b.(state) },
}

// after returns the states that are possible after o; none where o is not.
func (s state) after(o operation) state {
	switch {
	case o.outcome == record.Accepted:
		return s & good
	case o.outcome == record.Refused:
		return s & ended
	case o.change == Ends:
		return ended
	case o.change == MayEnd:
		return s | ended
	case o.change == MayRestore:
		return s | good
	default:
		return s
	}
}

// checkOrder asks for each register whether there is an order of its operations,
// each within its interval, that explains all answers.
func checkOrder(h *History) []Violation {
	workers, fresh := map[int][]Call{}, []Call(nil)
	for _, c := range h.Calls {
		if c.Outcome == record.Undecided {
			continue
		}
		workers[c.Worker] = append(workers[c.Worker], c)
		if c.Way.Fresh() {
			fresh = append(fresh, c)
		}
	}
	var out []Violation
	judge := func(who string, calls []Call, limit func(Change) int64) {
		switch porcupine.CheckOperationsTimeout(register, operations(h, calls, limit), orderTimeout) {
		case porcupine.Illegal:
			out = append(out, Violation{Rule: Order, At: calls[0].Start, Text: fmt.Sprintf("no order of the operations explains the answers that %s got", who)})
		case porcupine.Unknown:
			out = append(out, Violation{Rule: Undecided, At: calls[0].Start, Text: fmt.Sprintf("the %d answers that %s got were not judged within %v", len(calls), who, orderTimeout)})
		case porcupine.Ok:
		}
	}
	for worker, calls := range workers {
		judge(fmt.Sprintf("worker %d", worker), calls, func(c Change) int64 { return c.Until })
	}
	if len(fresh) > 0 {
		judge("the calls for fresh knowledge", fresh, func(c Change) int64 { return c.Acked })
	}
	return out
}

func operations(h *History, calls []Call, limit func(Change) int64) []porcupine.Operation {
	out := make([]porcupine.Operation, 0, len(calls)+len(h.Changes))
	for _, c := range calls {
		out = append(out, porcupine.Operation{Input: operation{outcome: c.Outcome}, Call: c.Start, Return: c.End})
	}
	for _, c := range h.Changes {
		out = append(out, porcupine.Operation{Input: operation{change: c.Kind}, Call: c.Sent, Return: limit(c)})
	}
	return out
}
