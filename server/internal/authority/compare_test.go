package authority

import (
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
			f := finding{diagnosis: &diagnosis{Authority: &Authority{cfg: Config{Policy: Policy{RefuseBanned: true}}}}, now: now}
			f.clues.Places = []store.Place{
				{Description: store.Description{Driver: "redis"}, Record: record(tt.key)}, {Description: store.Description{Driver: "postgres"}, Record: record(tt.row)},
			}
			advice := f.disagreement(e.comparePlaces(f.clues.Places, now, ""), false)
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
	if e.comparePlaces(nil, now, ""); len(e.Steps) != 0 {
		t.Errorf("of one place: %+v", e.Steps)
	}
}
