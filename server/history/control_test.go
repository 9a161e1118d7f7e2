package history

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/history/check"
	"github.com/sessiond/sessiond/server/history/record"
)

const ms = int64(time.Millisecond)

func madeCall(worker int, outcome record.Outcome, start, end int64, user int32) check.Call {
	return check.Call{Worker: worker, Record: record.Record{
		Kind: record.Call, Outcome: outcome, Source: record.FromCache, Way: record.Plain, Start: start * ms, End: end * ms, UserVersion: user,
	}}
}

// truths are two true histories, of a Revoke and of a delete by SQL.
func truths(bound int64) []check.History {
	calls := []check.Call{madeCall(0, record.Accepted, 1000, 1001, 1), madeCall(0, record.Refused, 1012, 1013, 0), madeCall(1, record.Refused, 1022, 1023, 0)}
	update := check.Update{Version: 1, Sent: 900 * ms, Acked: 910 * ms, Until: 910*ms + bound, Lost: check.Forever}
	return []check.History{
		{Name: "revoked", Calls: calls, User: []check.Update{update}, Changes: []check.Change{{Kind: check.Ends, How: "revoke", Sent: 1010 * ms, Acked: 1020 * ms, Until: 1020 * ms}}},
		{Name: "deleted", Calls: calls, User: []check.Update{update}, Changes: []check.Change{{Kind: check.Ends, How: "delete", Sent: 1010 * ms, Acked: 1020 * ms, Until: 1020*ms + bound}}},
	}
}

func TestControl(t *testing.T) {
	bound := 500 * ms
	for _, h := range truths(bound) {
		if found := check.Check(&h); len(found) > 0 {
			t.Fatalf("the specimen %s is not true: %+v", h.Name, found)
		}
		var kept specimens
		if kept.add(&h); len(kept.all()) != 1 {
			t.Errorf("the specimen %s is not taken", h.Name)
		}
	}
	if caught, missed, untried := control(truths(bound)); len(caught) != len(falsifications) {
		t.Errorf("caught %q, missed %q, not tried %q", caught, missed, untried)
	}
	if caught, missed, untried := control(nil); len(untried) != len(falsifications) {
		t.Errorf("without a history: caught %q, missed %q, not tried %q", caught, missed, untried)
	}
}

func TestTimelineTellsWhatHappened(t *testing.T) {
	bound := 500 * ms
	h := truths(bound)[0]
	for n := range int64(10) {
		h.Calls = append(h.Calls, madeCall(2, record.Accepted, 1030+n, 1031+n, 1))
	}
	found := check.Check(&h)
	n := slices.IndexFunc(found, func(v check.Violation) bool { return v.Rule == check.P4 })
	if n < 0 {
		t.Fatalf("found %+v, want a breach of P4", found)
	}
	story := timeline(&h, found[n], []incident{{fault: "worker-pause", what: "worker-2", begun: 1005 * ms}, {fault: "long ago", begun: -9000 * ms, ended: -8000 * ms}}, bound)
	for _, want := range []string{
		"[-20.000, -10.000] revoke; nobody may go by what was before from -10.000 on",
		"[-130.000, -120.000] version 1 of the user is written",
		"[-25.000, ...] fault worker-pause worker-2",
		"[+0.000, +1.000] worker 2: accepted (plain, cache) versions 1 and 0",
		"[+9.000, +10.000] worker 2: accepted (plain, cache) versions 1 and 0, after 8 more like it",
		"worker 1: refused (plain, cache)",
	} {
		if !strings.Contains(story, want) {
			t.Errorf("the timeline does not say %q:\n%s", want, story)
		}
	}
	if strings.Contains(story, "long ago") {
		t.Errorf("the timeline names a fault that was long over:\n%s", story)
	}
}

func TestChosenFaults(t *testing.T) {
	faults := slices.Concat(processFaults, (&postgresStore{}).faults())
	if all, not, err := chosenFaults("all", faults); err != nil || len(all) != len(faults) || len(not) != 1 || !strings.HasPrefix(not[0], "clock-step: not run") {
		t.Errorf("all: %d faults, %q, %v", len(all), not, err)
	}
	if none, _, err := chosenFaults("none", faults); err != nil || len(none) != 0 {
		t.Errorf("none: %d faults, %v", len(none), err)
	}
	if some, _, err := chosenFaults("failover,store-cut", faults); err != nil || len(some) != 2 || some[0].name != "failover" {
		t.Errorf("two: %d faults, %v", len(some), err)
	}
	if _, _, err := chosenFaults("failover,flood", faults); err == nil || !strings.Contains(err.Error(), "flood") {
		t.Errorf("an unknown fault: %v", err)
	}
}
