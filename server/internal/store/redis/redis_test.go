package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/redis"
	"github.com/sessiond/sessiond/sessioncookie"
)

func open(t testing.TB, c redis.Config) *redis.Store {
	t.Helper()
	s, err := redis.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func lookup(t testing.TB, s *redis.Store, token string) store.Record {
	t.Helper()
	records, err := s.Lookup(t.Context(), "", []string{token})
	if err != nil {
		t.Fatal(err)
	}
	return records[0]
}

const (
	goodSession = `"session":{"expiresAt":"2099-01-01T00:00:00.420Z","token":"t","createdAt":"2024-01-02T03:04:05.006Z","updatedAt":1704164645006,"ipAddress":"203.0.113.7","userAgent":"","userId":"u","id":"s","activeOrganizationId":null,"impersonatedBy":"a","theme":"dark","seats":3,"ratio":0.5,"beta":true,"tags":["x"],"seenAt":"2024-01-02T03:04:05.678Z","nothing":null,"secretNote":"n"}`
	goodUser    = `"user":{"id":7,"name":"Ann","email":"ann@example.com","emailVerified":true,"image":null,"createdAt":"2024-01-02T03:04:05.006Z","updatedAt":"2024-01-02T03:04:05.006Z","role":"admin","banned":true,"banExpires":"2024-02-02T03:04:05.006Z","deletedAt":"2024-02-02T03:04:05.006Z"}`
)

func TestLookup(t *testing.T) {
	server := redistest.Start(t)
	i := redistest.NewIssuer(t, server, prefix)
	i.Do("SET", prefix+"t", "{"+goodSession+","+goodUser+"}")
	i.Do("SET", "t", "{"+goodSession+","+goodUser+"}")
	s := open(t, redis.Config{URL: server.URL(), Prefix: prefix, SoftDeleteField: "deletedAt", HideSession: []string{"secretNote"}, HideUser: []string{"banned"}})

	r := lookup(t, s, "t")
	at := time.Date(2024, 1, 2, 3, 4, 5, 6e6, time.UTC)
	switch got := r.Session; {
	case !r.Found || r.Unreadable != "" || r.Revoked:
		t.Fatalf("%+v", r)
	case got.ID != "s" || got.UserID != "u" || !got.CreatedAt.Equal(at) || !got.UpdatedAt.Equal(at),
		!got.ExpiresAt.Equal(time.Date(2099, 1, 1, 0, 0, 0, 420e6, time.UTC)),
		*got.IPAddress != "203.0.113.7" || *got.UserAgent != "" || got.ActiveOrganizationID != nil || *got.ImpersonatedBy != "a":
		t.Errorf("%+v", got)
	}
	var kinds []string
	for _, a := range r.Session.Attributes {
		kinds = append(kinds, a.Name+":"+strconv.Itoa(int(a.Kind)))
	}
	want := fmt.Sprintf("beta:%d nothing:%d ratio:%d seats:%d seenAt:%d tags:%d theme:%d", store.KindBool, store.KindNull, store.KindFloat, store.KindInt, store.KindTime, store.KindJSON, store.KindString)
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("attributes %s, want %s", got, want)
	}
	switch u := r.User; {
	case u.ID != "7" || u.Name != "Ann" || !u.EmailVerified || u.Image != nil || *u.Role != "admin" || !u.Banned || u.BanExpires == nil || !u.Deleted:
		t.Errorf("%+v", u)
	case len(u.Attributes) != 2 || u.Attributes[0].Name != "banExpires" || u.Attributes[1].Name != "deletedAt":
		t.Errorf("%+v", u.Attributes)
	}

	if plain := open(t, redis.Config{URL: server.URL()}); !lookup(t, plain, "t").Found {
		t.Error("a key without a prefix is not found")
	} else if lookup(t, plain, prefix+"t").Session.ID != "s" {
		t.Error("the whole key is the token where there is no prefix")
	}
}

// TestLookupOddValues: what is no session is refused, and nothing of it is told.
func TestLookupOddValues(t *testing.T) {
	server := redistest.Start(t)
	i := redistest.NewIssuer(t, server, prefix)
	s := open(t, redis.Config{URL: server.URL(), Prefix: prefix, RevokedMarks: true})
	without := func(field string) string {
		return "{" + strings.Replace(goodSession, `"`+field+`"`, `"other"`, 1) + "," + goodUser + "}"
	}
	for name, value := range map[string]string{
		"not JSON": "hunter2", "null": "null", "a number": "5", "a list": `[{"token":"hunter2"}]`, "nothing": "{}", "no session": "{" + goodUser + "}",
		"something after it": "{" + goodSession + "," + goodUser + "} hunter2",
		"no userId":          without("userId"), "no expiresAt": without("expiresAt"), "no createdAt": without("createdAt"),
		"a date that is none": strings.Replace("{"+goodSession+","+goodUser+"}", "2099-01-01T00:00:00.420Z", "hunter2", 1),
	} {
		i.Do("SET", prefix+"t", value)
		r := lookup(t, s, "t")
		if !r.Found || r.Unreadable == "" || strings.Contains(r.Unreadable, "hunter2") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	i.Do("SET", prefix+"t", "{"+goodSession+"}")
	if r := lookup(t, s, "t"); !r.Found || r.Unreadable != "" || r.User != nil {
		t.Errorf("no user: %+v", r)
	}
	i.Do("SET", prefix+"t", "")
	if lookup(t, s, "t").Found {
		t.Error("an empty value is a session")
	}
	i.Do("DEL", prefix+"t")
	i.Do("LPUSH", prefix+"t", "x")
	if r := lookup(t, s, "t"); !r.Found || r.Unreadable == "" {
		t.Errorf("a key of another type: %+v", r)
	}
	i.Do("SET", prefix+"active-sessions-u", "{"+goodSession+","+goodUser+"}")
	for _, token := range []string{"active-sessions-u", "nul\x00", "\xff", ""} {
		if lookup(t, s, token).Found {
			t.Errorf("%q is a session", token)
		}
	}
}

// TestRevokedMark: a mark of the user refuses the sessions that are older, as
// JavaScript compares.
func TestRevokedMark(t *testing.T) {
	server := redistest.Start(t)
	i := redistest.NewIssuer(t, server, prefix)
	i.Do("SET", prefix+"t", "{"+goodSession+","+goodUser+"}") // createdAt 1704164645006
	marked := open(t, redis.Config{URL: server.URL(), Prefix: prefix, RevokedMarks: true})
	unmarked := open(t, redis.Config{URL: server.URL(), Prefix: prefix})
	for mark, want := range map[string]bool{
		"1704164645007": true, "1704164645006": false, " 1704164645007 ": true, "1.8e12": true, "Infinity": true, "0xffffffffffff": true,
		"": false, "soon": false, "NaN": false, "inf": false, "1704164645007ms": false, "1_704_164_645_007": false, "-1": false,
	} {
		i.Do("SET", prefix+"revoked-sessions-before-u", mark)
		if got := lookup(t, marked, "t").Revoked; got != want {
			t.Errorf("mark %q: revoked %t, want %t", mark, got, want)
		}
		if lookup(t, unmarked, "t").Revoked {
			t.Errorf("mark %q counts where the issuer has none", mark)
		}
	}
}

// TestMarkAfterTheKey: a user's sessions all end, with a mark, between the reading of
// one of them and of the mark. That one is gone; it was never there and revoked.
func TestMarkAfterTheKey(t *testing.T) {
	server := redistest.Start(t)
	i := redistest.NewIssuer(t, server, prefix)
	token, _ := i.SignIn("ann")
	l := newLink(t, server, 0)
	l.before = func(chunk []byte) {
		if strings.Contains(string(chunk), "revoked-sessions-before-ann") {
			i.Do("EVAL", "redis.call('SET', KEYS[1], '4070908800000') redis.call('DEL', KEYS[2])", "2", prefix+"revoked-sessions-before-ann", prefix+token)
		}
	}
	s := open(t, redis.Config{URL: l.url, Prefix: prefix, RevokedMarks: true})
	if r := lookup(t, s, token); r.Found {
		t.Errorf("%+v", r)
	}
}

// TestAway: nothing is found out from a server that is away, or that is another than
// before.
func TestAway(t *testing.T) {
	server := redistest.Start(t)
	i := redistest.NewIssuer(t, server, prefix)
	token, _ := i.SignIn("ann")
	f := openFeed(t, server, redis.Config{Prefix: prefix})
	reg, err := f.Register(t.Context(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, redis.Config{URL: server.URL(), Prefix: prefix})
	if r, err := s.Lookup(t.Context(), reg.Era, []string{token}); err != nil || !r[0].Found {
		t.Fatalf("%+v, %v", r, err)
	}
	server.Restart(t)
	var other *store.EraError
	for err = error(nil); !errors.As(err, &other); _, err = s.Lookup(t.Context(), reg.Era, []string{token}) {
		if err != nil && !errors.Is(err, store.ErrUnavailable) || t.Context().Err() != nil {
			t.Fatalf("after a restart: %v", err)
		}
	}
	server.Stop(t)
	if _, err := s.Lookup(t.Context(), "", []string{token}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("away: %v", err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("away: %v", err)
	}
	if _, err := redis.Open(t.Context(), redis.Config{URL: server.URL()}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("opened: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Lookup(ctx, "", []string{token}); err == nil {
		t.Error("a call that has ended found something out")
	}
}

// TestOpenRefuses: servers that cannot be used, and URLs, whose passwords are not told.
func TestOpenRefuses(t *testing.T) {
	primary := redistest.Start(t)
	host, port, _ := strings.Cut(primary.Address, ":")
	replica := redistest.Start(t, "--replicaof", host, port)
	if _, err := redis.Open(t.Context(), redis.Config{URL: replica.URL()}); err == nil || !strings.Contains(err.Error(), "replica") {
		t.Errorf("a replica: %v", err)
	}
	cluster := redistest.Start(t, "--cluster-enabled", "yes")
	if _, err := redis.Open(t.Context(), redis.Config{URL: cluster.URL()}); err == nil || !strings.Contains(err.Error(), "cluster") {
		t.Errorf("a cluster: %v", err)
	}
	guarded := redistest.Start(t, "--requirepass", "correct")
	for _, url := range []string{"http://hunter2@h", "redis://:hunter2@" + guarded.Address, "hunter2", "redis://u:hunter2@h:x/9"} {
		if _, err := redis.Open(t.Context(), redis.Config{URL: url}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
	open(t, redis.Config{URL: "redis://:correct@" + guarded.Address + "/3"})
}

func TestClues(t *testing.T) {
	server := redistest.Start(t)
	i := redistest.NewIssuer(t, server, prefix)
	s := open(t, redis.Config{URL: server.URL(), Prefix: prefix})
	clues := func(s *redis.Store, token string) store.Clues {
		t.Helper()
		c, err := s.Clues(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	i.Do("SET", "other", "x")
	i.Do("SET", prefix+"active-sessions-u", "[]")
	if c := clues(s, "t"); !c.Empty || c.Prefix != nil {
		t.Errorf("without sessions: %+v", c)
	}
	i.Do("SET", prefix+"one", "x")
	if c := clues(s, "t"); c.Empty || c.Prefix != nil {
		t.Errorf("with another's session: %+v", c)
	}
	i.Do("SET", "session:t", "x")
	if c := clues(s, "t"); c.Prefix == nil || *c.Prefix != "session:" {
		t.Errorf("under another prefix: %+v", c)
	}
	i.Do("ACL", "SETUSER", "reader", "on", ">password", "~"+prefix+"*", "+@all")
	narrow := open(t, redis.Config{URL: strings.Replace(server.URL(), "redis://", "redis://reader:password@", 1), Prefix: prefix})
	if c := clues(narrow, "t"); c.Empty || c.Prefix != nil {
		t.Errorf("where other prefixes may not be read: %+v", c)
	}
	token, other := sessioncookie.NewToken(), sessioncookie.NewToken()
	i.Do("SET", "prod:auth:"+token, "x")
	i.Do("SET", "user:"+other+":"+other, "x")
	if c := clues(s, token); c.Prefix == nil || *c.Prefix != "prod:auth:" {
		t.Errorf("under a prefix of its own: %+v", c)
	}
	// Neither is a prefix of keys: it holds a token, or most of one.
	for _, end := range []string{other, token[12:]} {
		if c := clues(s, end); c.Prefix != nil {
			t.Errorf("a prefix with a token is told, of %d bytes", len(*c.Prefix))
		}
	}
	odd := open(t, redis.Config{URL: server.URL(), Prefix: "a*[b]?\\:"})
	if c := clues(odd, "none"); !c.Empty {
		t.Errorf("a prefix of special characters: %+v", c)
	}
	i.Do("SET", "a*[b]?\\:one", "x")
	if c := clues(odd, "none"); c.Empty {
		t.Errorf("a prefix of special characters finds no key: %+v", c)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Clues(t.Context(), "t"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("closed: error %v, want ErrUnavailable", err)
	}
}
