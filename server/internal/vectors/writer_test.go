package vectors_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/config"
	"github.com/sessiond/sessiond/server/internal/lifecycle"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

// TestWriteEverySchema makes, reads, extends and lists a session in every schema that
// real Better Auth made: every version, renamed tables, serial and native ids, dates
// of every form.
func TestWriteEverySchema(t *testing.T) {
	s, err := load(filepath.Join("testdata", "better-auth"))
	if err != nil {
		t.Fatal(err)
	}
	users := make(map[string]string)
	for _, v := range s.Vectors {
		if v.Expected.Valid {
			users[v.Dataset] = v.Expected.UserID
		}
	}
	written := make(map[string]int)
	for _, d := range s.Datasets {
		if d.SecondaryStorage != nil || d.Tables["session"].Table == "" || users[d.ID] == "" {
			continue
		}
		t.Run(d.ID, func(t *testing.T) {
			source := d.sources()[0]
			cfg, place := configured(t, s, d, source)
			st, err := server.OpenStore(t.Context(), cfg.Server.Store)
			if err != nil {
				return // it needs more than discovery, as TestVectors configures; those written are counted below
			}
			defer st.Close()
			var w store.Writer
			if d.Backend == "postgres" {
				w, err = postgres.OpenWriter(t.Context(), postgres.Config{DSN: place, Zone: cfg.Server.Store.Zone})
			} else {
				w, err = sqlite.OpenWriter(t.Context(), sqlite.Config{Path: place})
			}
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			a, err := authority.New(cfg.Server.Authority, authority.Direct(st))
			if err != nil {
				t.Fatal(err)
			}
			l := lifecycle.New(a, st, w, cfg.Server.Cookies)
			user, now := users[d.ID], time.Now().Truncate(time.Millisecond)
			made, err := l.Create(t.Context(), now, lifecycle.Wish{UserID: user, IPAddress: "203.0.113.9", UserAgent: "test"})
			if err != nil {
				t.Fatal(err)
			}
			r := made.Record.Session
			if !made.Verdict.Good() || r.ID == "" || r.UserID != user || !r.CreatedAt.Equal(now) || !r.UpdatedAt.Equal(now) || *r.IPAddress != "203.0.113.9" || *r.UserAgent != "test" {
				t.Errorf("%+v %+v", made.Verdict, r)
			}
			if life := r.ExpiresAt.Sub(now); life != cfg.Server.Authority.Policy.ExpiresIn {
				t.Errorf("it lasts %v", life)
			}
			header := made.CookieName + "=" + made.CookieValue
			answer, err := a.Validate(t.Context(), authority.Call{Now: now, Arrived: clock.Now()}, authority.Credential{Cookie: header})
			if err != nil || !answer.Verdict.Good() || answer.Record.Session.ID != r.ID {
				t.Errorf("its cookie: %+v, %v", answer.Verdict, err)
			}
			later := now.Add(cfg.Server.Authority.Policy.ExpiresIn - time.Minute)
			refreshed, err := l.Refresh(t.Context(), later, authority.Credential{Cookie: header})
			if err != nil || !refreshed.Done || !refreshed.Record.Session.UpdatedAt.Equal(later) || !refreshed.Record.Session.ExpiresAt.Equal(later.Add(cfg.Server.Authority.Policy.ExpiresIn)) {
				t.Errorf("refreshed: %t %+v, %v", refreshed.Done, refreshed.Record.Session, err)
			}
			checkPages(t, l, now, user, r.ID)
			if got, err := l.Get(t.Context(), now, user, r.ID); err != nil || got.Record.Session.ID != r.ID {
				t.Errorf("by ids: %v", err)
			}
			if _, err := l.Create(t.Context(), now, lifecycle.Wish{UserID: "nobody"}); err == nil {
				t.Error("a session of nobody was made")
			}
			written[d.Backend]++
		})
	}
	if written["postgres"] < 50 || written["sqlite"] < 10 {
		t.Errorf("written into %v schemas: too few to say much", written)
	}
}

// checkPages lists a user's sessions one by one and at once, and wants the same.
func checkPages(t *testing.T, l *lifecycle.Lifecycle, now time.Time, user, id string) {
	t.Helper()
	whole, next, err := l.List(t.Context(), now, user, 1000, store.Cursor{})
	if err != nil || next != (store.Cursor{}) {
		t.Fatalf("next %v, %v", next, err)
	}
	var paged []string
	found := false
	for after := (store.Cursor{}); ; after = next {
		var page []lifecycle.Session
		if page, next, err = l.List(t.Context(), now, user, 1, after); err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			paged, found = append(paged, s.Record.Session.ID), found || s.Record.Session.ID == id
		}
		if next == (store.Cursor{}) || len(paged) > len(whole) {
			break
		}
	}
	if len(paged) != len(whole) || !found {
		t.Errorf("%d sessions page by page, %d at once; the new one is among them: %t", len(paged), len(whole), found)
	}
	for i := range min(len(paged), len(whole)) {
		if paged[i] != whole[i].Record.Session.ID {
			t.Errorf("page %d is another session than at once", i)
		}
	}
}

// configured restores a dump and returns serve's configuration over it, by discovery.
func configured(t *testing.T, s *suite, d dataset, source string) (cfg config.Config, place string) {
	t.Helper()
	flags := d.flags()
	current, _ := d.secret()
	env := []string{"SESSIOND_ISSUER_SECRET=" + current}
	place, err := restore(t, s, d, source)
	if err != nil {
		t.Fatal(err)
	}
	if d.Backend == "postgres" {
		flags["store.driver"] = server.DriverPostgres
		env = append(env, "SESSIOND_STORE_DSN="+place)
	} else {
		flags["store.path"] = place
	}
	flags["issuer.disable_session_refresh"] = "false"
	if cfg, err = config.Load(config.Sources{Flags: flags, Env: env}, false); err != nil {
		t.Fatal(err)
	}
	return cfg, place
}
