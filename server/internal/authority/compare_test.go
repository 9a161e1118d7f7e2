package authority

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// TestCompare: explain says in what the places of a store disagree. What real stores
// hold is compared in the package differential; here is what the issuer does not make.
func TestCompare(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	record := func(change func(*store.Record)) store.Record {
		r := store.Record{Found: true, User: &store.User{ID: "u"}, Session: store.Session{ExpiresAt: now.Add(time.Hour)}}
		change(&r)
		return r
	}
	same := func(*store.Record) {}
	broken := func(r *store.Record) { r.Unreadable = "broken" }
	for _, tt := range []struct {
		name     string
		key, row func(*store.Record)
		want     string
		advice   bool
	}{
		{"the same", same, same, "", false},
		{"both broken", broken, broken, "", false},
		{"row broken", same, broken, "the row cannot be read", true},
		{"ban over", same, func(r *store.Record) { r.User.Banned, r.User.BanExpires = true, &time.Time{} }, "", false},
		{"marked deleted", same, func(r *store.Record) { r.User.Deleted = true }, "the user is marked deleted by the row: true, by the key: false", true},
		{"longer and banned", func(r *store.Record) { r.User.Banned = true }, func(r *store.Record) { r.Session.ExpiresAt = now.Add(2 * time.Hour) }, "the row ends 1h0m0s after the key; the user is banned by the row: false, by the key: true", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var e Explanation
			advice := e.compare([]store.Finding{
				{Where: store.Description{Driver: "redis"}, Record: record(tt.key)}, {Where: store.Description{Driver: "postgres"}, Record: record(tt.row)},
			}, now, Policy{RefuseBanned: true})
			says, steps := "", 2
			if tt.want != "" {
				says, steps = "redis and postgres disagree: "+tt.want, 3
			}
			if len(e.Steps) != steps || says != "" && e.Steps[2].Detail != says {
				t.Errorf("%+v, want %q", e.Steps, says)
			}
			if (len(advice) == 1) != tt.advice {
				t.Errorf("advice %+v", advice)
			}
		})
	}

	var e Explanation
	e.compare([]store.Finding{{Where: store.Description{Driver: "redis"}, Err: errors.New("gone")}, {}}, now, Policy{})
	if !slices.ContainsFunc(e.Steps, func(s Step) bool { return strings.Contains(s.Detail, "redis: could not be asked: gone") }) {
		t.Errorf("a place that could not be asked is not among %+v", e.Steps)
	}
	e = Explanation{}
	if e.compare(nil, now, Policy{}); len(e.Steps) != 0 {
		t.Errorf("of one place: %+v", e.Steps)
	}
}
