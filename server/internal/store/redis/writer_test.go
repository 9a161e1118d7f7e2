package redis_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/redis"
)

const week = 7 * 24 * time.Hour

// users are rows of users, who have a value of every kind.
type users []string

func (u users) UserRow(_ context.Context, id string) (store.Row, error) {
	if !slices.Contains(u, id) {
		return nil, nil
	}
	at := time.Date(2024, 1, 2, 3, 4, 5, 60e6, time.UTC)
	return store.Row{
		{Name: "name", Kind: store.KindString, Text: `Ann "<&>"`}, {Name: "image"}, {Name: "createdAt", Kind: store.KindTime, Time: at},
		{Name: "emailVerified", Kind: store.KindBool, Bool: true}, {Name: "seats", Kind: store.KindInt, Int: 3}, {Name: "ratio", Kind: store.KindFloat, Float: 0.5},
		{Name: "tags", Kind: store.KindJSON, Text: `["a", {"b": 1}]`}, {Name: "raw", Kind: store.KindBytes, Bytes: []byte{1, 255}}, {Name: "id", Kind: store.KindString, Text: id},
	}, nil
}

func (users) SessionRow(context.Context, string) (store.Row, error) { return nil, nil }
func (users) Close() error                                          { return nil }

const annsValue = `{"name":"Ann \"<&>\"","image":null,"createdAt":"2024-01-02T03:04:05.060Z","emailVerified":true,"seats":3,"ratio":0.5,` +
	`"tags":["a",{"b":1}],"raw":{"type":"Buffer","data":[1,255]},"id":"ann"}`

func openWriter(t testing.TB, s *redistest.Server, release redis.Release) *redis.Writer {
	t.Helper()
	w, err := redis.OpenWriter(redis.WriterConfig{Config: redis.Config{URL: s.URL(), Prefix: prefix}, Release: release, ExpiresIn: week, Rows: users{"ann"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// made is a session to write, as of now.
func made(token string) store.NewSession {
	now := time.Now().Truncate(time.Millisecond)
	return store.NewSession{Token: token, ID: "id of " + token, UserID: "ann", CreatedAt: now, ExpiresAt: now.Add(week)}
}

// listed are the tokens of ann's list.
func listed(t testing.TB, i *redistest.Issuer) []string {
	t.Helper()
	var list []struct{ Token string }
	if text := i.Text(prefix + "active-sessions-ann"); text != "" {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatal(err)
		}
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Token)
	}
	slices.Sort(out)
	return out
}

// awaitListed waits until a session is in ann's list.
func awaitListed(t testing.TB, i *redistest.Issuer, token string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !slices.Contains(listed(t, i), token); {
		if time.Now().After(end) {
			t.Fatal("the list lost the session")
		}
	}
}

func TestWriter(t *testing.T) {
	s := redistest.Start(t)
	i, w := redistest.NewIssuer(t, s, prefix), openWriter(t, s, redis.Release16)
	n := made("t")
	n.IPAddress, n.UserAgent = "203.0.113.9", "agent"
	if _, err := w.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	iso := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
	want := fmt.Sprintf(`{"session":{"id":"id of t","ipAddress":"203.0.113.9","userAgent":"agent","expiresAt":%q,"userId":"ann","token":"t","createdAt":%[2]q,"updatedAt":%[2]q},"user":%[3]s}`, iso(n.ExpiresAt), iso(n.CreatedAt), annsValue)
	if got := i.Text(prefix + "t"); got != want {
		t.Errorf("the value is\n%s, want\n%s", got, want)
	}
	if token, found, err := w.Token(t.Context(), "ann", "id of t"); token != "t" || !found || err != nil {
		t.Errorf("by id: %q %t %v", token, found, err)
	}
	if _, found, err := w.Token(t.Context(), "ann", ""); found || err != nil {
		t.Errorf("by no id: %t %v", found, err)
	}
	if _, err := w.Create(t.Context(), store.NewSession{Token: "x", UserID: "bob", CreatedAt: n.CreatedAt, ExpiresAt: n.ExpiresAt}); !errors.Is(err, store.ErrNoUser) || i.Text(prefix+"x") != "" {
		t.Errorf("a session of nobody: %v", err)
	}

	// What the issuer adds to a session is kept where it stands.
	i.Do("SET", prefix+"t", `{"session":{"theme":"dark","expiresAt":"2099-01-01T00:00:00.000Z","token":"t","createdAt":1704164645006,"updatedAt":"2024-01-02T03:04:05.006Z","userId":"ann","teams":[ 1 ]},"user":{"id":"ann","more":{"b":1,"a":2}},"other":1}`)
	at := time.Now()
	if done, err := w.Extend(t.Context(), "t", at.Add(week), at); !done || err != nil {
		t.Fatalf("extended: %t, %v", done, err)
	}
	want = fmt.Sprintf(`{"session":{"theme":"dark","expiresAt":%q,"token":"t","createdAt":"2024-01-02T03:04:05.006Z","updatedAt":%q,"userId":"ann","teams":[1]},"user":{"id":"ann","more":{"b":1,"a":2}}}`, iso(at.Add(week)), iso(at))
	if got := i.Text(prefix + "t"); got != want {
		t.Errorf("the value is\n%s, want\n%s", got, want)
	}

	for name, value := range map[string]string{
		"nothing": "", "no JSON": "{not json", "no session": `{"user":{}}`,
		"one that is over": `{"session":{"expiresAt":"2020-01-01T00:00:00.000Z","token":"o","createdAt":"2020-01-01T00:00:00.000Z","updatedAt":"2020-01-01T00:00:00.000Z","userId":"ann"},"user":{"id":"ann"}}`,
	} {
		i.Do("SET", prefix+"o", value)
		if done, err := w.Extend(t.Context(), "o", at.Add(week), at); done || err != nil || i.Text(prefix+"o") != value {
			t.Errorf("%s: extended: %t, %v", name, done, err)
		}
	}
}

// TestIssuersRace: the issuer reads a user's list and writes it back. A session made in
// between is lost from the list, not from its key, and is listed again.
func TestIssuersRace(t *testing.T) {
	s := redistest.Start(t)
	i, w := redistest.NewIssuer(t, s, prefix), openWriter(t, s, redis.Release16)
	i.SignIn("ann")
	before := i.Text(prefix + "active-sessions-ann")
	if _, err := w.Create(t.Context(), made("mine")); err != nil {
		t.Fatal(err)
	}
	i.Do("SET", prefix+"active-sessions-ann", before, "EX", "100000")
	awaitListed(t, i, "mine")
	if len(listed(t, i)) != 2 {
		t.Errorf("listed: %q", listed(t, i))
	}

	// One that was ended meanwhile is not.
	if _, err := w.Create(t.Context(), made("ended")); err != nil {
		t.Fatal(err)
	}
	i.Do("DEL", prefix+"ended")
	i.Do("SET", prefix+"active-sessions-ann", before, "EX", "100000")
	if _, err := w.Create(t.Context(), made("last")); err != nil { // its looks come after those
		t.Fatal(err)
	}
	i.Do("SET", prefix+"active-sessions-ann", before, "EX", "100000")
	awaitListed(t, i, "last")
	if slices.Contains(listed(t, i), "ended") {
		t.Error("a session that has ended is listed")
	}
}

// TestWritersRace has many write one list at once: it holds them all.
func TestWritersRace(t *testing.T) {
	s := redistest.Start(t)
	i := redistest.NewIssuer(t, s, prefix)
	var all sync.WaitGroup
	var want []string
	for n := range 4 {
		w := openWriter(t, s, redis.Release16)
		for m := range 8 {
			token := fmt.Sprint("token", n, m)
			want = append(want, token)
			all.Go(func() {
				if _, err := w.Create(t.Context(), made(token)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if got := listed(t, i); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

// TestExtendRaisesNobody: a session that is ended while it is extended stays ended.
func TestExtendRaisesNobody(t *testing.T) {
	s := redistest.Start(t)
	i, w := redistest.NewIssuer(t, s, prefix), openWriter(t, s, redis.Release16)
	extended := 0
	for n := range 300 {
		token := fmt.Sprint("token", n)
		if _, err := w.Create(t.Context(), made(token)); err != nil {
			t.Fatal(err)
		}
		var ended sync.WaitGroup
		ended.Go(func() {
			for range n % 10 {
				i.Do("PING")
			}
			i.Do("DEL", prefix+token)
		})
		at := time.Now()
		done, err := w.Extend(t.Context(), token, at.Add(week), at)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			extended++
		}
		ended.Wait()
		if i.Text(prefix+token) != "" {
			t.Fatalf("session %d is there again", n)
		}
		i.Do("DEL", prefix+"active-sessions-ann")
	}
	if extended == 0 || extended == 300 {
		t.Errorf("%d of 300 were extended before they ended: no race", extended)
	}
}

// TestWritesAreNoRevocation: what the feed tells of a session made or extended here
// concerns that session only.
func TestWritesAreNoRevocation(t *testing.T) {
	s := redistest.Start(t)
	w, f := openWriter(t, s, redis.Release16), openFeed(t, s, redis.Config{Prefix: prefix})
	reg, err := f.Register(t.Context(), feedtest.Bound)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Create(t.Context(), made("t")); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	if done, err := w.Extend(t.Context(), "t", at.Add(2*week), at); !done || err != nil {
		t.Fatalf("extended: %t, %v", done, err)
	}
	n, err := f.Poll(t.Context(), reg.Position)
	if err != nil || n.Overflow || len(n.Events) == 0 {
		t.Fatalf("%+v, %v", n, err)
	}
	for _, e := range n.Events {
		if e.Kind != feed.KindKey || e.Key != feed.KeyOf("t") || e.Urgent {
			t.Errorf("the feed tells %+v", e)
		}
	}
}

// TestListIsPaged: sessions of one moment, with ids and without, come once each.
func TestListIsPaged(t *testing.T) {
	for _, release := range []redis.Release{redis.Release14, redis.Release16} {
		s := redistest.Start(t)
		w := openWriter(t, s, release)
		first := made("a")
		var want []string
		for n := range 7 {
			one := first
			one.Token = fmt.Sprint("token", n)
			one.CreatedAt = one.CreatedAt.Add(time.Duration(n/3) * time.Second)
			want = append(want, one.Token)
			if _, err := w.Create(t.Context(), one); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for after := (store.Cursor{}); ; {
			page, err := w.Sessions(t.Context(), "ann", 2, after)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, n := range page {
				if got = append(got, n.Token); n.ID == n.Token {
					t.Error("a cursor holds a token")
				}
				if !after.CreatedAt.IsZero() && n.CreatedAt.After(after.CreatedAt) {
					t.Error("not the newest first")
				}
				after = n.Cursor
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
	}
}

// TestWriterFails: what cannot be written fails at once, and tells no token.
func TestWriterFails(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *redistest.Server{
		"no MGET": func(t *testing.T) *redistest.Server { return redistest.Start(t, "--rename-command", "MGET", "") },
		"no EVAL": func(t *testing.T) *redistest.Server { return redistest.Start(t, "--rename-command", "EVAL", "") },
		"stopped": func(t *testing.T) *redistest.Server { return redistest.Start(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			w := openWriter(t, s, redis.Release16)
			if name == "stopped" {
				s.Stop(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begin := time.Now()
			for what, write := range map[string]func() error{
				"create": func() error { _, err := w.Create(ctx, made("hunter2")); return err },
				"extend": func() error { _, err := w.Extend(ctx, "hunter2", begin.Add(week), begin); return err },
			} {
				if err := write(); (what == "create" || name != "no EVAL") && !errors.Is(err, store.ErrUnavailable) || err != nil && strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: %v", what, err)
				}
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestBigList: nobody bounds the issuer's list of a user's sessions; the work with it
// grows as it does, and not with its square.
func TestBigList(t *testing.T) {
	s := redistest.Start(t)
	i, w, f := redistest.NewIssuer(t, s, prefix), openWriter(t, s, redis.Release16), openFeed(t, s, redis.Config{Prefix: prefix})
	if _, err := f.Register(t.Context(), feedtest.Bound); err != nil {
		t.Fatal(err)
	}
	token, _ := i.SignIn("ann")
	entries := []string{fmt.Sprintf(`{"token":%q,"expiresAt":4070908800000}`, token)}
	for n := range 100_000 {
		entries = append(entries, fmt.Sprintf(`{"token":"a token of thirty-two letters%06d","expiresAt":4070908800000}`, n))
	}
	i.Do("SET", prefix+"active-sessions-ann", "["+strings.Join(entries, ",")+"]")
	begin := time.Now()
	if got, err := w.Sessions(t.Context(), "ann", 2, store.Cursor{}); err != nil || len(got) != 1 {
		t.Errorf("listed %d, %v", len(got), err)
	}
	if r, err := f.Revoke(t.Context(), feed.Target{User: "ann"}); err != nil || r.Sessions != 1 || len(listed(t, i)) != 0 {
		t.Errorf("revoked: %+v, %v", r, err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
