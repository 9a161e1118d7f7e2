package check_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/history/check"
	"github.com/sessiond/sessiond/server/history/record"
)

// bound is the staleness bound of these histories, whose times are small numbers.
const bound = 100

func call(worker int, outcome record.Outcome, start, end int64) check.Call {
	return check.Call{Worker: worker, Record: record.Record{
		Kind: record.Call, Outcome: outcome, Source: record.FromCache, Way: record.Plain, Start: start, End: end,
	}}
}

func accepted(worker int, start, end int64) check.Call {
	return call(worker, record.Accepted, start, end)
}

func refused(worker int, start, end int64) check.Call {
	return call(worker, record.Refused, start, end)
}

func strict(c check.Call) check.Call {
	c.Way = record.Strict
	return c
}

func version(c check.Call, user int32) check.Call {
	c.UserVersion = user
	return c
}

func bySQL(sent, acked int64) check.Change {
	return check.Change{Kind: check.Ends, How: "delete", Sent: sent, Acked: acked, Until: acked + bound}
}

func byRevoke(sent, acked int64) check.Change {
	return check.Change{Kind: check.Ends, How: "revoke", Sent: sent, Acked: acked, Until: acked}
}

func lost(sent, acked int64) check.Change {
	return check.Change{Kind: check.MayRestore, How: "lost", Sent: sent, Acked: acked, Until: acked}
}

func TestCheck(t *testing.T) {
	update := check.Update{Version: 2, Sent: 10, Acked: 20, Until: 20 + bound, Lost: check.Forever}
	lostUpdate := update
	lostUpdate.Lost = 50
	for _, tt := range []struct {
		name    string
		calls   []check.Call
		changes []check.Change
		user    []check.Update
		want    []check.Rule
	}{
		{name: "nothing happened"},
		{name: "accepted and never ended", calls: []check.Call{accepted(0, 1, 2), accepted(1, 500, 501)}},
		{name: "undecided says nothing", calls: []check.Call{call(0, record.Undecided, 1, 2), accepted(0, 3, 4)}},
		{
			name: "stale within the bound", changes: []check.Change{bySQL(10, 20)},
			calls: []check.Call{accepted(0, 120, 400), refused(0, 121, 122)},
		},
		{
			name: "stale past the bound", changes: []check.Change{bySQL(10, 20)},
			calls: []check.Call{accepted(0, 121, 122)}, want: []check.Rule{check.P3},
		},
		{
			name: "one worker knows and another not yet", changes: []check.Change{bySQL(10, 20)},
			calls: []check.Call{refused(0, 12, 13), accepted(1, 30, 31)},
		},
		{
			name: "the same during a revoke", changes: []check.Change{byRevoke(10, 90)},
			calls: []check.Call{refused(0, 12, 13), accepted(1, 30, 31)},
		},
		{
			name: "a call under way when the revoke returned", changes: []check.Change{byRevoke(10, 20)},
			calls: []check.Call{accepted(0, 20, 99), refused(0, 21, 22)},
		},
		{
			name: "accepted after the revoke", changes: []check.Change{byRevoke(10, 20)},
			calls: []check.Call{accepted(0, 21, 22)}, want: []check.Rule{check.P4},
		},
		{
			name: "risen within the bound", changes: []check.Change{bySQL(10, 20)},
			calls: []check.Call{refused(0, 12, 13), accepted(0, 14, 15)}, want: []check.Rule{check.P5},
		},
		{
			name: "crossed answers", changes: []check.Change{bySQL(10, 20)},
			calls: []check.Call{refused(0, 12, 14), accepted(0, 13, 16)},
		},
		{
			name:  "refused before anything was sent",
			calls: []check.Call{refused(0, 1, 9)}, changes: []check.Change{bySQL(10, 20)}, want: []check.Rule{check.FalseRefusal},
		},
		{name: "refused and never ended", calls: []check.Call{refused(0, 1, 2)}, want: []check.Rule{check.FalseRefusal}},
		{
			name: "strict and stale", changes: []check.Change{bySQL(10, 20)},
			calls: []check.Call{strict(accepted(0, 21, 22))}, want: []check.Rule{check.Fresh},
		},
		{
			name: "strict calls of two workers in disorder", changes: []check.Change{bySQL(10, 20)},
			calls: []check.Call{strict(refused(0, 11, 12)), strict(accepted(1, 13, 14))}, want: []check.Rule{check.Order},
		},
		{
			name:    "an attempt that may have ended it",
			changes: []check.Change{{Kind: check.MayEnd, How: "delete", Sent: 10, Acked: check.Forever, Until: check.Forever}},
			calls:   []check.Call{accepted(0, 300, 301), refused(0, 302, 303), accepted(1, 400, 401)},
		},
		{
			name:    "an attempt does not excuse what follows a refusal",
			changes: []check.Change{{Kind: check.MayEnd, How: "delete", Sent: 10, Acked: check.Forever, Until: check.Forever}},
			calls:   []check.Call{refused(0, 302, 303), accepted(0, 400, 401)}, want: []check.Rule{check.P5},
		},
		{
			name: "the store lost the revocation", changes: []check.Change{byRevoke(10, 20), lost(50, 60)},
			calls: []check.Call{refused(0, 21, 22), accepted(0, 55, 56), accepted(1, 300, 301)},
		},
		{
			name: "accepted before the store lost it", changes: []check.Change{byRevoke(10, 20), lost(50, 60)},
			calls: []check.Call{accepted(0, 21, 22)}, want: []check.Rule{check.P4},
		},
		{
			name: "ended again after the loss", changes: []check.Change{byRevoke(10, 20), lost(50, 60), byRevoke(70, 80)},
			calls: []check.Call{refused(0, 21, 22), accepted(0, 65, 66), refused(0, 81, 82)},
		},
		{
			name: "ended by two commits, the first of them lost", changes: []check.Change{
				{Kind: check.MayEnd, How: "delete", Sent: 10, Acked: check.Forever, Until: check.Forever}, byRevoke(10, 80), lost(50, 60),
			},
			calls: []check.Call{refused(0, 21, 22), accepted(0, 65, 66), refused(0, 81, 82)},
		},
		{
			name: "accepted after it was ended again", changes: []check.Change{byRevoke(10, 20), lost(50, 60), byRevoke(70, 80)},
			calls: []check.Call{accepted(0, 81, 82)}, want: []check.Rule{check.P4},
		},
		{name: "an old field within the bound", user: []check.Update{update}, calls: []check.Call{version(accepted(0, 120, 121), 1)}},
		{
			name: "an old field past the bound", user: []check.Update{update},
			calls: []check.Call{version(accepted(0, 121, 122), 1)}, want: []check.Rule{check.P3},
		},
		{name: "a new field", user: []check.Update{update}, calls: []check.Call{version(accepted(0, 11, 122), 2)}},
		{
			name: "a field of the future", user: []check.Update{update},
			calls: []check.Call{version(accepted(0, 1, 2), 2)}, want: []check.Rule{check.Order},
		},
		{
			name: "an old field for a strict call", user: []check.Update{update},
			calls: []check.Call{strict(version(accepted(0, 21, 22), 1))}, want: []check.Rule{check.Fresh},
		},
		{name: "the store lost the update", user: []check.Update{lostUpdate}, calls: []check.Call{version(accepted(0, 300, 301), 1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []check.Rule
			for _, v := range check.Check(&check.History{Name: "s", Calls: tt.calls, Changes: tt.changes, User: tt.user}) {
				if strings.TrimSpace(v.Text) == "" || v.At == 0 {
					t.Errorf("%s comes without a text or a time", v.Rule)
				}
				got = append(got, v.Rule)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}

// TestOrderAlone holds the search for an order to the named rules: whatever one of
// them finds, it finds too.
func TestOrderAlone(t *testing.T) {
	for _, h := range []check.History{
		{Calls: []check.Call{accepted(0, 121, 122)}, Changes: []check.Change{bySQL(10, 20)}},
		{Calls: []check.Call{accepted(0, 21, 22)}, Changes: []check.Change{byRevoke(10, 20)}},
		{Calls: []check.Call{refused(0, 12, 13), accepted(0, 14, 15)}, Changes: []check.Change{bySQL(10, 20)}},
		{Calls: []check.Call{refused(0, 1, 2)}},
		{Calls: []check.Call{strict(accepted(0, 21, 22))}, Changes: []check.Change{bySQL(10, 20)}},
	} {
		if got := check.CheckOrder(&h); len(got) == 0 {
			t.Errorf("an order was found for %+v", h)
		}
	}
}
