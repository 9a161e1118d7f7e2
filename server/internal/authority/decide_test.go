package authority_test

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// record is a session made a day before noon, refreshed an hour before it, and
// good for six days more.
func record(change ...func(*store.Record)) store.Record {
	r := store.Record{
		Found: true,
		Session: store.Session{
			ID: "s1", UserID: "u1",
			CreatedAt: noon.Add(-24 * time.Hour), UpdatedAt: noon.Add(-time.Hour), ExpiresAt: noon.Add(6 * 24 * time.Hour),
		},
		User: &store.User{ID: "u1"},
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func TestDecide(t *testing.T) {
	const ms = time.Millisecond
	expires := func(at time.Time) func(*store.Record) {
		return func(r *store.Record) { r.Session.ExpiresAt = at }
	}
	banned := func(until *time.Time) func(*store.Record) {
		return func(r *store.Record) { r.User.Banned, r.User.BanExpires = true, until }
	}
	at := func(d time.Duration) *time.Time { v := noon.Add(d); return &v }
	day := 24 * time.Hour

	tests := []struct {
		name   string
		record store.Record
		policy authority.Policy
		want   authority.Verdict
	}{
		{"good", record(), authority.Policy{}, authority.Verdict{Remaining: 6 * day}},
		{"no row", store.Record{}, authority.Policy{}, authority.Verdict{Reason: authority.ReasonNotFound}},
		{"unreadable row", store.Record{Found: true, Unreadable: "expiresAt: not a date"}, authority.Policy{}, authority.Verdict{Reason: authority.ReasonStoredValueUnreadable}},
		{"no user", record(func(r *store.Record) { r.User = nil }), authority.Policy{}, authority.Verdict{Reason: authority.ReasonUserNotFound}},
		{"1 ms before expiry", record(expires(noon.Add(ms))), authority.Policy{}, authority.Verdict{Remaining: ms}},
		{"at expiry", record(expires(noon)), authority.Policy{}, authority.Verdict{}},
		{"1 ms after expiry", record(expires(noon.Add(-ms))), authority.Policy{}, authority.Verdict{Reason: authority.ReasonExpired}},

		{"banned, rule off", record(banned(nil)), authority.Policy{}, authority.Verdict{Remaining: 6 * day}},
		{"banned for good", record(banned(nil)), authority.Policy{RefuseBanned: true}, authority.Verdict{Reason: authority.ReasonUserBanned}},
		{"banned until later", record(banned(at(ms))), authority.Policy{RefuseBanned: true}, authority.Verdict{Reason: authority.ReasonUserBanned}},
		{"banned until now", record(banned(at(0))), authority.Policy{RefuseBanned: true}, authority.Verdict{Reason: authority.ReasonUserBanned}},
		{"ban over", record(banned(at(-ms))), authority.Policy{RefuseBanned: true}, authority.Verdict{Remaining: 6 * day}},
		{"ban date without ban", record(func(r *store.Record) { r.User.BanExpires = at(ms) }), authority.Policy{RefuseBanned: true}, authority.Verdict{Remaining: 6 * day}},

		{"deleted, rule off", record(func(r *store.Record) { r.User.Deleted = true }), authority.Policy{}, authority.Verdict{Remaining: 6 * day}},
		{"deleted", record(func(r *store.Record) { r.User.Deleted = true }), authority.Policy{RefuseDeleted: true}, authority.Verdict{Reason: authority.ReasonUserDeleted}},

		{"lifetime below the cap", record(), authority.Policy{MaxLifetime: day + ms}, authority.Verdict{Remaining: ms}},
		{"lifetime at the cap", record(), authority.Policy{MaxLifetime: day}, authority.Verdict{}},
		{"lifetime over the cap", record(), authority.Policy{MaxLifetime: day - ms}, authority.Verdict{Reason: authority.ReasonLifetimeCap}},
		{"idle at the cap", record(), authority.Policy{MaxIdle: time.Hour}, authority.Verdict{}},
		{"idle over the cap", record(), authority.Policy{MaxIdle: time.Hour - ms}, authority.Verdict{Reason: authority.ReasonIdleCap}},
		{"the least of all rules remains", record(), authority.Policy{MaxIdle: 2 * time.Hour, MaxLifetime: 30 * time.Hour}, authority.Verdict{Remaining: time.Hour}},
		{"expiry before other rules", record(expires(noon.Add(-ms)), banned(nil)), authority.Policy{RefuseBanned: true, MaxIdle: ms}, authority.Verdict{Reason: authority.ReasonExpired}},

		{"refresh due to the ms", record(), authority.Policy{ExpiresIn: 7 * day, UpdateAge: day}, authority.Verdict{Remaining: 6 * day, NeedsRefresh: true}},
		{"refresh not yet due", record(), authority.Policy{ExpiresIn: 7 * day, UpdateAge: day + ms}, authority.Verdict{Remaining: 6 * day}},
		{"refresh off", record(), authority.Policy{ExpiresIn: 7 * day, UpdateAge: day, NoRefresh: true}, authority.Verdict{Remaining: 6 * day}},
		{"beyond a duration", record(expires(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))), authority.Policy{}, authority.Verdict{Remaining: 9223372036854 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := authority.Decide(&tt.record, noon, tt.policy); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// The issuer's Date.now() has no microseconds: within the millisecond of its
// expiry a session is good.
func TestDecideWholeMilliseconds(t *testing.T) {
	r := record(func(r *store.Record) { r.Session.ExpiresAt = noon })
	if got := authority.Decide(&r, noon.Add(999*time.Microsecond), authority.Policy{}); !got.Good() {
		t.Errorf("refused within the millisecond of expiry: %+v", got)
	}
	if got := authority.Decide(&r, noon.Add(time.Millisecond), authority.Policy{}); got.Reason != authority.ReasonExpired {
		t.Errorf("got %+v, want EXPIRED", got)
	}
}

// FuzzDecide checks what must hold for any record, instant and policy.
func FuzzDecide(f *testing.F) {
	f.Add(int64(0), int64(0), int64(0), int64(0), int64(0), int64(0), uint8(0xff), uint8(0xff))
	f.Add(int64(1_780_000_000_000), int64(1_780_000_000_000), int64(1_780_600_000_000), int64(1_780_000_000_000), int64(3_600_000), int64(60_000), uint8(0x0f), uint8(0))
	f.Fuzz(func(t *testing.T, created, updated, expires, now, lifetimeMs, idleMs int64, shape, rules uint8) {
		const year10k = 253_402_300_800_000
		for _, ms := range []int64{created, updated, expires, now} {
			if ms < -year10k || ms > year10k {
				return
			}
		}
		bound := func(ms int64) time.Duration { return time.Duration(ms%year10k%(1<<40)) * time.Millisecond }
		r := store.Record{Found: shape&1 != 0, Session: store.Session{CreatedAt: time.UnixMilli(created), UpdatedAt: time.UnixMilli(updated), ExpiresAt: time.UnixMilli(expires)}}
		if shape&2 != 0 {
			r.User = &store.User{Banned: shape&4 != 0, Deleted: shape&8 != 0}
		}
		if shape&16 != 0 {
			r.Unreadable = "x"
		}
		strict := authority.Policy{RefuseBanned: rules&1 != 0, RefuseDeleted: rules&2 != 0, MaxLifetime: max(0, bound(lifetimeMs)), MaxIdle: max(0, bound(idleMs)), ExpiresIn: 168 * time.Hour, UpdateAge: time.Hour}
		at := time.UnixMilli(now)
		parity, got := authority.Decide(&r, at, authority.Policy{}), authority.Decide(&r, at, strict)

		good := r.Found && r.Unreadable == "" && r.User != nil && expires >= now
		if parity.Good() != good {
			t.Fatalf("parity says %+v for found %t, user %t, expires-now %d", parity, r.Found, r.User != nil, expires-now)
		}
		if got.Good() && !parity.Good() {
			t.Fatalf("a stricter policy accepted what the issuer refuses: %+v, %+v", got, parity)
		}
		if got.Good() {
			if got.Remaining < 0 {
				t.Fatalf("good for %s", got.Remaining)
			}
			// Good now means good until Remaining is over, and refused after it.
			if later := authority.Decide(&r, at.Add(got.Remaining), strict); !later.Good() {
				t.Fatalf("said good for %s, refused then: %+v", got.Remaining, later)
			}
			if after := authority.Decide(&r, at.Add(got.Remaining+time.Millisecond), strict); after.Good() && got.Remaining < 200*365*24*time.Hour {
				t.Fatalf("still good after %s", got.Remaining)
			}
		} else if got.Remaining != 0 || got.NeedsRefresh {
			t.Fatalf("a refusal with a lifetime: %+v", got)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	r := record()
	p := authority.Policy{RefuseBanned: true, MaxLifetime: 720 * time.Hour, ExpiresIn: 168 * time.Hour, UpdateAge: 24 * time.Hour}
	b.ReportAllocs()
	for b.Loop() {
		if !authority.Decide(&r, noon, p).Good() {
			b.Fatal("refused")
		}
	}
}
