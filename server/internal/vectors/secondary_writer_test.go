package vectors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/config"
)

// TestWriteEverySecondaryStorage makes, reads, extends and lists a session beside those
// that real Better Auth left, in every version and mode, and wants its value to have
// the form of the issuer's own: the same members in the same order, of the same kinds.
func TestWriteEverySecondaryStorage(t *testing.T) {
	s, err := load(filepath.Join("testdata", "better-auth"))
	if err != nil {
		t.Fatal(err)
	}
	written, same := 0, 0
	for _, d := range s.Datasets {
		if d.SecondaryStorage == nil {
			continue
		}
		t.Run(d.ID, func(t *testing.T) {
			k := newKeys(t, s, d)
			theirs, user, made := k.create(t)
			ours := k.text(t, tokenOf(t, made))
			if a, b := shapeOf(t, theirs), shapeOf(t, ours); a != b {
				t.Errorf("the issuer's value is\n%s, ours\n%s", a, b)
			}
			if part(t, theirs, "user") == part(t, ours, "user") {
				same++ // else the row was changed by other hands than the issuer's
			}
			k.checkLife(t, tokenOf(t, made), week)
			k.checkListed(t, user, tokenOf(t, made), now.Add(week))

			later := now.Add(week - time.Hour)
			k.at = later
			refreshed, err := k.admin.RefreshSession(t.Context(), &sessiondv1.RefreshSessionRequest{Credential: &sessiondv1.Credential{
				Kind: &sessiondv1.Credential_CookieValue{CookieValue: []byte(made.GetCookieValue())},
			}})
			if err != nil || !refreshed.GetRefreshed() || !refreshed.GetSession().GetExpiresAt().AsTime().Equal(later.Add(week)) {
				t.Fatalf("refreshed: %v, %v", refreshed.GetRefreshed(), err)
			}
			extended := k.text(t, tokenOf(t, made))
			if a, b := shapeOf(t, ours), shapeOf(t, extended); a != b || part(t, ours, "user") != part(t, extended, "user") {
				t.Errorf("it was\n%s, and is\n%s", a, b)
			}
			k.checkLife(t, tokenOf(t, made), week)
			moved := later.Add(week)
			if d.BetterAuthVersion < "1.4" { // the issuer leaves the list alone
				moved = now.Add(week)
			}
			k.checkListed(t, user, tokenOf(t, made), moved)

			listed, err := k.admin.ListSessions(t.Context(), &sessiondv1.ListSessionsRequest{UserId: user})
			if err != nil || len(listed.GetSessions()) == 0 || !listed.GetSessions()[0].GetSession().GetCreatedAt().AsTime().Equal(now) {
				t.Errorf("listed: %v, %v", listed, err)
			}
			k.checkShort(t, user)
			written++
		})
	}
	if written < 15 || same < written-3 {
		t.Errorf("%d storages written, the user was the same in %d: too few to say much", written, same)
	}
}

const week = 7 * 24 * time.Hour

// now is when the dumps' sessions are good.
var now = time.Date(2098, 12, 26, 0, 0, 0, 0, time.UTC)

// keys are a restored Redis, and an authority over it.
type keys struct {
	client  rueidis.Client
	dump    map[string]string // by name without prefix
	prefix  string
	version string
	admin   sessiondv1.SessionAdminServiceClient
	at      time.Time
}

func newKeys(t *testing.T, s *suite, d dataset) *keys {
	t.Helper()
	k := &keys{dump: make(map[string]string), prefix: d.SecondaryStorage.KeyPrefix, version: d.BetterAuthVersion, at: now}
	content, err := os.ReadFile(filepath.Join(s.dir, d.Files.Redis))
	if err != nil {
		t.Fatal(err)
	}
	var dump struct{ Keys []struct{ Key, Value string } }
	if err := json.Unmarshal(content, &dump); err != nil {
		t.Fatal(err)
	}
	for _, e := range dump.Keys {
		k.dump[strings.TrimPrefix(e.Key, k.prefix)] = e.Value
	}
	url, err := restoreRedis(t, s, d)
	if err != nil {
		t.Fatal(err)
	}
	if k.client, err = rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{strings.TrimSuffix(strings.TrimPrefix(url, "redis://"), "/0")}, DisableCache: true, ForceSingleClient: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.client.Close)
	place, err := restore(t, s, d, d.Files.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	current, _ := d.secret()
	flags := d.flags()
	maps.Copy(flags, d.SecondaryStorage.settings())
	maps.Copy(flags, map[string]string{
		"listen": "127.0.0.1:0", "admin.listen": "", "store.driver": server.DriverPostgres, "issuer.disable_session_refresh": "false",
		"issuer.expires_in": week.String(), "issuer.update_age": "24h",
	})
	cfg, err := config.Load(config.Sources{Flags: flags, Env: []string{"SESSIOND_ISSUER_SECRET=" + current, "SESSIOND_SECONDARY_URL=" + url, "SESSIOND_STORE_DSN=" + place}}, false)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Server.Now = func() time.Time { return k.at }
	srv, err := server.New(t.Context(), cfg.Server, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	conn, err := grpc.NewClient(srv.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	k.admin = sessiondv1.NewSessionAdminServiceClient(conn)
	return k
}

// create makes a session of a user who has one of the issuer's, and returns that.
func (k *keys) create(t *testing.T) (theirs, user string, made *sessiondv1.CreateSessionResponse) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(k.dump)) {
		var value struct {
			Session struct{ UserID string }
			User    struct{ ID string }
		}
		if json.Unmarshal([]byte(k.dump[name]), &value) != nil || value.User.ID == "" {
			continue
		}
		made, err := k.admin.CreateSession(t.Context(), &sessiondv1.CreateSessionRequest{UserId: value.User.ID, IpAddress: "203.0.113.9", UserAgent: "test"})
		if status.Code(err) == codes.NotFound {
			continue // the user was deleted
		}
		if err != nil {
			t.Fatal(err)
		}
		return k.dump[name], value.User.ID, made
	}
	t.Fatal("no user of the dump is there")
	return "", "", nil
}

func tokenOf(t *testing.T, made *sessiondv1.CreateSessionResponse) string {
	t.Helper()
	token, _, ok := strings.Cut(made.GetCookieValue(), ".")
	if !ok {
		t.Fatal("the cookie's value has no signature")
	}
	return token
}

func (k *keys) text(t *testing.T, name string) string {
	t.Helper()
	text, err := k.client.Do(t.Context(), k.client.B().Get().Key(k.prefix+name).Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (k *keys) checkLife(t *testing.T, name string, want time.Duration) {
	t.Helper()
	ms, err := k.client.Do(t.Context(), k.client.B().Pttl().Key(k.prefix+name).Build()).AsInt64()
	if got := time.Duration(ms) * time.Millisecond; err != nil || got > want || got < want-20*time.Second {
		t.Errorf("the key lasts %v, want %v (%v)", got, want, err)
	}
}

// checkListed wants the user's list to hold what it held, and the session.
func (k *keys) checkListed(t *testing.T, user, token string, expires time.Time) {
	t.Helper()
	type entry struct {
		Token     string
		ExpiresAt int64
	}
	var before, after []entry
	if text := k.dump["active-sessions-"+user]; text != "" {
		if err := json.Unmarshal([]byte(text), &before); err != nil {
			t.Fatal(err)
		}
	}
	text := k.text(t, "active-sessions-"+user)
	if err := json.Unmarshal([]byte(text), &after); err != nil {
		t.Fatal(err)
	}
	filtered := k.at
	if k.version < "1.4" { // when it was written last
		filtered = now
	}
	before = slices.DeleteFunc(before, func(e entry) bool { return e.ExpiresAt <= filtered.UnixMilli() })
	want := append(before, entry{token, expires.UnixMilli()})
	ordered := slices.IsSortedFunc(after, func(a, b entry) int { return int(a.ExpiresAt - b.ExpiresAt) })
	if k.version >= "1.4" && !ordered || k.version < "1.4" && after[len(after)-1].Token != token {
		t.Errorf("the order of %d entries is not the issuer's", len(after))
	}
	compare := func(a, b entry) int { return strings.Compare(a.Token, b.Token) }
	slices.SortFunc(want, compare)
	slices.SortFunc(after, compare)
	if !slices.Equal(want, after) {
		t.Errorf("the list has %d entries, want %d, or others", len(after), len(want))
	}
}

// checkShort makes a session for a day, of which the list of 1.2 says that it lasts as
// long as others.
func (k *keys) checkShort(t *testing.T, user string) {
	t.Helper()
	made, err := k.admin.CreateSession(t.Context(), &sessiondv1.CreateSessionRequest{UserId: user, DontRememberMe: true})
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	listed := day
	if k.version < "1.3" {
		listed = week
	}
	k.checkLife(t, tokenOf(t, made), day)
	if entry := fmt.Sprintf(`{"token":%q,"expiresAt":%d}`, tokenOf(t, made), k.at.Add(listed).UnixMilli()); !strings.Contains(k.text(t, "active-sessions-"+user), entry) {
		t.Errorf("the list does not hold the session until %v from now", listed)
	}
}

// part is a member of a value as it stands.
func part(t *testing.T, text, name string) string {
	t.Helper()
	var parts map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		t.Fatal(err)
	}
	return string(parts[name])
}

// shapeOf is JSON with its values' kinds in their place.
func shapeOf(t *testing.T, text string) string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	var b strings.Builder
	name := false
	for {
		token, err := dec.Token()
		if err != nil {
			return b.String()
		}
		switch v := token.(type) {
		case json.Delim:
			b.WriteString(v.String())
			name = true
			continue
		case string:
			_, err := time.Parse("2006-01-02T15:04:05.000Z", v)
			switch {
			case name:
				b.WriteString(v + ":")
			case err == nil:
				b.WriteString("date ")
			default:
				b.WriteString("text ")
			}
		default:
			fmt.Fprintf(&b, "%T ", v)
		}
		name = !name
	}
}
