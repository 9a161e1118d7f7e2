package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
)

const (
	keyPrefix = "better-auth:"
	// milliseconds is an instant as the issuer writes it.
	milliseconds = "2006-01-02T15:04:05.000Z"
)

// storage is a version of the issuer with a way of keeping sessions.
type storage struct {
	Version string `json:"version"`
	Storage string `json:"storage"` // redis, both, preserved
	DSN     string `json:"database"`
	Redis   string `json:"redis"`
}

// inDatabase reports whether sessions have rows.
func (s storage) inDatabase() bool { return s.Storage != "redis" }

// vault is a house whose issuer has secondary storage.
type vault struct {
	*house
	storage

	keys *redistest.Issuer
}

// newVaults starts issuers over storages of their own, and authorities beside them.
func newVaults(t *testing.T, storages []storage) []*vault {
	t.Helper()
	root := moduleRoot(t)
	cluster, secret := pgtest.Start(t), strings.Repeat("vault secret ", 3)
	var vaults []*vault
	for i := range storages {
		s := &storages[i]
		redis := redistest.Start(t)
		s.DSN, s.Redis = cluster.NewDatabase(t), redis.URL()
		vaults = append(vaults, &vault{storage: *s, keys: redistest.NewIssuer(t, redis, keyPrefix)})
	}
	issuers := startIssuers(t, root, storages, secret)
	binaries := buildAuthority(t, root) // meanwhile
	bases := basesOf(t, issuers)
	for i, v := range vaults {
		f := &fleet{
			binaries: binaries, dsn: v.DSN, redis: v.Redis, secret: secret, authority: "127.0.0.1:" + freePort(t), issuer: &issuer{issuers, bases[i]},
			settings: []string{
				"--staleness-bound=3s", "--issuer-version=" + v.Version, "--issuer-base-url=" + bases[i].String(),
				"--secondary-store-in-database=" + strconv.FormatBool(v.inDatabase()), "--secondary-preserve-in-database=" + strconv.FormatBool(v.Storage == "preserved"),
			},
		}
		if v.inDatabase() {
			f.installFeed(t, "--staleness-bound=3s")
		}
		f.startAuthority(t)
		v.house = f.house(t)
	}
	return vaults
}

func startIssuers(t *testing.T, root string, storages []storage, secret string) *process {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("the issuers need Node.js 20 or later: run `make test`, which prepares it (%v)", err)
	}
	dir := filepath.Join(root, "server", "internal", "differential", "issuer")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "better-auth-1.7", "package.json")); err != nil {
		t.Fatalf("the issuers' packages are not installed: run `make test`, which prepares them (%v)", err)
	}
	config, err := json.Marshal(storages)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, "issuers", dir, []string{"PATH=" + os.Getenv("PATH"), "TZ=UTC", "BETTER_AUTH_SECRET=" + secret, "ISSUERS=" + string(config)}, node, "lifecycle.mjs")
}

// basesOf waits until issuers are ready.
func basesOf(t *testing.T, issuers *process) []*url.URL {
	t.Helper()
	const ready = "issuers: ready on "
	line := issuers.await(t, 0, "that they are ready", func(line string) bool { return strings.HasPrefix(line, ready) })
	var texts []string
	decode(t, strings.TrimPrefix(line, ready), &texts)
	var bases []*url.URL
	for _, text := range texts {
		base, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		bases = append(bases, base)
	}
	return bases
}

// tokenIn is the token of a Cookie header's session.
func tokenIn(t *testing.T, cookie string) string {
	t.Helper()
	for pair := range strings.SplitSeq(cookie, "; ") {
		if value, ok := strings.CutPrefix(pair, sessionCookie+"="); ok {
			token, _, _ := strings.Cut(value, ".")
			return token
		}
	}
	t.Fatal("there is no session in the Cookie header")
	return ""
}

// signIn signs a user in again and returns the Cookie header.
func (v *vault) signIn(t *testing.T, u user, remember bool) string {
	t.Helper()
	var pairs []string
	for _, c := range v.ask(t, http.MethodPost, "sign-in/email", "", map[string]any{"email": u.Email, "password": userPassword, "rememberMe": remember}, new(any)) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// what is left of a user's sessions.
type left struct {
	// sessions says of each token what is left of it, without what differs from
	// session to session.
	sessions map[string]string
	// user says what is left beside them.
	user string
}

func (l left) String() string {
	lines := slices.Sorted(maps.Values(l.sessions))
	return strings.Join(append(lines, l.user), "\n")
}

type listEntry struct {
	Token     string
	ExpiresAt int64
}

// left looks at both stores.
func (v *vault) left(t *testing.T, user string) left {
	t.Helper()
	parts := map[string][]string{}
	if v.inDatabase() {
		for _, row := range v.rowsOf(t, user) {
			token := row["token"].(string)
			parts[token] = append(parts[token], fmt.Sprint("row ", form(t, row)))
		}
	}
	var list []listEntry
	listKey := keyPrefix + "active-sessions-" + user
	if text := v.keys.Text(listKey); text != "" {
		decode(t, text, &list)
	}
	names, err := v.keys.Do("KEYS", keyPrefix+"*").AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	expires := map[string]int64{}
	for _, name := range names {
		token := strings.TrimPrefix(name, keyPrefix)
		var value struct{ Session struct{ UserID string } }
		text := v.keys.Text(name)
		if json.Unmarshal([]byte(text), &value) != nil || value.Session.UserID != user {
			continue
		}
		shape, at := shapeOf(t, text)
		expires[token] = at["expiresAt"].UnixMilli()
		listed := "not listed"
		for _, e := range list {
			if e.Token == token {
				listed = fmt.Sprintf("listed until %v after its expiry", time.Duration(e.ExpiresAt-expires[token])*time.Millisecond)
			}
		}
		parts[token] = append(parts[token], fmt.Sprintf("key %s lasts %s; expires %v after its update, %v after its creation; %s", shape, v.lasts(t, name, expires[token]),
			at["expiresAt"].Sub(at["updatedAt"]).Round(100*time.Millisecond), at["expiresAt"].Sub(at["createdAt"]).Round(time.Minute), listed))
	}
	out := left{sessions: map[string]string{}, user: "no list"}
	for token, p := range parts {
		out.sessions[token] = strings.Join(p, "; ")
	}
	if len(list) > 0 {
		// The issuer ends several at once, each with a list that holds the others: what
		// has no key is as good as not there.
		last := list[len(list)-1].ExpiresAt
		living := slices.DeleteFunc(slices.Clone(list), func(e listEntry) bool { return expires[e.Token] == 0 })
		ordered := slices.IsSortedFunc(list, func(a, b listEntry) int { return int(a.ExpiresAt - b.ExpiresAt) })
		out.user = fmt.Sprintf("list of %d, ordered %t, lasts %s", len(living), ordered, v.lasts(t, listKey, last))
	}
	mark := keyPrefix + "revoked-sessions-before-" + user
	if text := v.keys.Text(mark); text != "" {
		at, err := strconv.ParseInt(text, 10, 64)
		if err != nil || time.Since(time.UnixMilli(at)) > time.Minute {
			t.Errorf("the mark is %q", text)
		}
		out.user += ", mark lasts " + v.lasts(t, mark, time.UnixMilli(at).Add(7*24*time.Hour).UnixMilli())
	}
	return out
}

// lasts says whether a key ends when it should.
func (v *vault) lasts(t *testing.T, key string, expires int64) string {
	t.Helper()
	ms, err := v.keys.Do("PTTL", key).AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	until := time.Until(time.UnixMilli(expires))
	if d := (until - time.Duration(ms)*time.Millisecond).Abs(); d <= 2*time.Second {
		return "as long"
	}
	return fmt.Sprintf("%v of %v", time.Duration(ms)*time.Millisecond, until)
}

// rowsOf are the session rows of a user.
func (v *vault) rowsOf(t *testing.T, user string) []map[string]any {
	t.Helper()
	return slices.Collect(maps.Values(v.rows(t, user)))
}

// idOf is the id of a session; empty: it has none.
func (v *vault) idOf(t *testing.T, user, token string) string {
	t.Helper()
	if v.inDatabase() {
		for _, row := range v.rowsOf(t, user) {
			if row["token"] == token {
				return row["id"].(string)
			}
		}
	}
	var value struct{ Session struct{ ID string } }
	decode(t, v.keys.Text(keyPrefix+token), &value)
	return value.Session.ID
}

// shapeOf is a value with its values' kinds in their place, and its session's dates.
func shapeOf(t *testing.T, text string) (string, map[string]time.Time) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	var b strings.Builder
	dates := map[string]time.Time{}
	name, last := false, ""
	for {
		token, err := dec.Token()
		if err != nil {
			return b.String(), dates
		}
		switch v := token.(type) {
		case json.Delim:
			b.WriteString(v.String())
			name = v == '{' || v == '}' || v == ']'
			continue
		case string:
			at, err := time.Parse(milliseconds, v)
			switch {
			case name:
				b.WriteString(v + ":")
				last = v
			case err == nil:
				b.WriteString("date ")
				if _, again := dates[last]; !again && strings.Contains(b.String(), "session:{") && !strings.Contains(b.String(), "user:{") {
					dates[last] = at
				}
			case len(v) == 32:
				b.WriteString("text of 32 ")
			default:
				b.WriteString("text ")
			}
		default:
			fmt.Fprintf(&b, "%T ", v)
		}
		if dec.More() {
			name = !name
		}
	}
}

var (
	sessionPart = regexp.MustCompile(`"session":\{[^}]*\}`)
	dateMember  = regexp.MustCompile(`"(createdAt|updatedAt|expiresAt)":"([^"]*)"`)
)

// age makes all sessions of a user two days older.
func (v *vault) age(t *testing.T, user string) {
	t.Helper()
	const by = 48 * time.Hour
	if v.inDatabase() {
		if _, err := v.conn.Exec(t.Context(), `UPDATE session SET "createdAt" = "createdAt" - interval '2 days', "updatedAt" = "updatedAt" - interval '2 days', "expiresAt" = "expiresAt" - interval '2 days' WHERE "userId" = $1`, user); err != nil {
			t.Fatal(err)
		}
	}
	var list []listEntry
	decode(t, v.keys.Text(keyPrefix+"active-sessions-"+user), &list)
	var entries []string
	for _, e := range list {
		key := keyPrefix + e.Token
		aged := sessionPart.ReplaceAllStringFunc(v.keys.Text(key), func(part string) string {
			return dateMember.ReplaceAllStringFunc(part, func(member string) string {
				m := dateMember.FindStringSubmatch(member)
				at, err := time.Parse(time.RFC3339Nano, m[2])
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf(`"%s":"%s"`, m[1], at.Add(-by).Format(milliseconds))
			})
		})
		v.keys.Do("SET", key, aged, "KEEPTTL")
		entries = append(entries, fmt.Sprintf(`{"token":%q,"expiresAt":%d}`, e.Token, e.ExpiresAt-by.Milliseconds()))
	}
	v.keys.Do("SET", keyPrefix+"active-sessions-"+user, "["+strings.Join(entries, ",")+"]", "KEEPTTL")
	v.settle(t)
}

// same wants two to be left alike.
func same(t *testing.T, what, theirs, ours string) {
	t.Helper()
	if theirs != ours {
		t.Errorf("%s: the issuer leaves\n%s\nsessiond\n%s", what, theirs, ours)
	}
}

// TestLifecycleSecondary is TestLifecycle where the issuer has secondary storage.
func TestLifecycleSecondary(t *testing.T) {
	for _, v := range newVaults(t, []storage{
		{Version: "1.7", Storage: "redis"}, {Version: "1.7", Storage: "both"}, {Version: "1.7", Storage: "preserved"},
		{Version: "1.4", Storage: "redis"}, {Version: "1.4", Storage: "both"},
	}) {
		t.Run(v.Version+" "+v.Storage, func(t *testing.T) {
			t.Parallel()
			t.Run("create", v.testCreate)
			t.Run("list", v.testList)
			t.Run("refresh", v.testRefresh)
			t.Run("not to be remembered", v.testDontRemember)
			t.Run("sign out", v.testSignOut)
			v.testRevoke(t)
		})
	}
	text, err := os.ReadFile(filepath.Join(moduleRoot(t), "docs", "lifecycle.md"))
	if err != nil || !strings.Contains(string(text), "TestLifecycleSecondary") {
		t.Errorf("docs/lifecycle.md does not name this test: %v", err)
	}
}

func (v *vault) newUser(t *testing.T) (cookie string, u user) {
	t.Helper()
	b := newBrowser(t, v.issuer)
	u = b.signUp(t)
	return b.cookie(t), u
}

// make makes a session with sessiond and returns its Cookie header.
func (v *vault) make(t *testing.T, user string, flags ...string) string {
	t.Helper()
	out, _ := v.sessions(t, "", append([]string{"create", "--user=" + user, "--format=set-cookie", "--user-agent=sessiond test"}, flags...)...)
	var pairs []string
	for line := range strings.Lines(out) {
		pair, _, _ := strings.Cut(strings.TrimPrefix(line, "Set-Cookie: "), ";")
		pairs = append(pairs, pair)
	}
	return strings.Join(pairs, "; ")
}

func (v *vault) testCreate(t *testing.T) {
	theirs, u := v.newUser(t)
	ours := v.make(t, u.ID)
	answer, set := v.get(t, ours)
	if answer == nil || answer.User.ID != u.ID || len(set) != 0 {
		t.Fatalf("the issuer says %+v and sets %v", answer, written(set))
	}
	if out, code := v.sessions(t, ours, "get"); code != 0 {
		t.Errorf("sessiond does not find it: %s", out)
	}
	l := v.left(t, u.ID)
	same(t, "create", l.sessions[tokenIn(t, theirs)], l.sessions[tokenIn(t, ours)])
	_, users, _ := strings.Cut(v.keys.Text(keyPrefix+tokenIn(t, theirs)), `"user":`)
	_, copied, _ := strings.Cut(v.keys.Text(keyPrefix+tokenIn(t, ours)), `"user":`)
	same(t, "the user", users, copied)

	_, other := v.newUser(t)
	v.signIn(t, other, true)
	same(t, "two sessions", v.left(t, other.ID).user, l.user)
	if out, code := v.sessions(t, "", "create", "--user=nobody", "--format=json"); code != 1 || out != "" {
		t.Errorf("a session of nobody: exit code %d", code)
	}
}

// testList also lists where a key is gone, which from 1.7 on the row makes up for.
func (v *vault) testList(t *testing.T) {
	cookie, u := v.newUser(t)
	v.make(t, u.ID)
	gone := v.make(t, u.ID)
	for _, all := range []int{3, 2} {
		var theirs []struct{ CreatedAt time.Time }
		v.ask(t, http.MethodGet, "list-sessions", cookie, nil, &theirs)
		out, _ := v.sessions(t, "", "list", "--user="+u.ID, "--json")
		var ours []struct {
			Session struct {
				CreatedAt time.Time `json:"created_at"`
			}
		}
		decode(t, out, &ours)
		var want, got []string
		for _, s := range theirs {
			want = append(want, s.CreatedAt.Format(milliseconds))
		}
		for _, s := range ours {
			got = append(got, s.Session.CreatedAt.Format(milliseconds))
		}
		if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) {
			t.Errorf("not the newest first: %q", got)
		}
		slices.Sort(want)
		slices.Sort(got)
		if v.Version == "1.7" && v.Storage == "both" {
			all = 3
		}
		if !slices.Equal(want, got) || len(got) != all {
			t.Errorf("the issuer lists %q, sessiond %q", want, got)
		}
		v.keys.Do("DEL", keyPrefix+tokenIn(t, gone))
	}
}

// testRefresh has each refresh its own session, and then the other's.
func (v *vault) testRefresh(t *testing.T) {
	refresh := func(cookie string) []*http.Cookie {
		out, _ := v.sessions(t, cookie, "refresh")
		header := http.Header{}
		for line := range strings.Lines(out) {
			header.Add("Set-Cookie", strings.TrimSuffix(strings.TrimPrefix(line, "Set-Cookie: "), "\n"))
		}
		return (&http.Response{Header: header}).Cookies()
	}
	theirs, u := v.newUser(t)
	ours := v.make(t, u.ID)
	before := v.left(t, u.ID)
	if out, _ := v.sessions(t, ours, "refresh"); !strings.HasPrefix(out, "not due") {
		t.Errorf("a refresh that is not due: %d bytes", len(out))
	}
	if _, set := v.get(t, ours); len(set) != 0 {
		t.Errorf("the issuer refreshes what sessiond does not")
	}
	same(t, "not due", before.String(), v.left(t, u.ID).String())
	for turn, cookies := range [][2]string{{theirs, ours}, {ours, theirs}} {
		v.age(t, u.ID)
		_, byIssuer := v.get(t, cookies[0])
		byUs := refresh(cookies[1])
		for _, c := range byIssuer { // up to 1.4 it counts from the milliseconds it took
			c.MaxAge = (c.MaxAge + 1) / 10 * 10
		}
		if len(byIssuer) == 0 || !slices.Equal(written(byIssuer), written(byUs)) {
			t.Errorf("turn %d: the issuer sets\n%q, sessiond\n%q", turn, written(byIssuer), written(byUs))
		}
		l := v.left(t, u.ID)
		same(t, "refresh", l.sessions[tokenIn(t, cookies[0])], l.sessions[tokenIn(t, cookies[1])])
		same(t, "the list", before.user, l.user)
		if again, set := v.get(t, cookies[1]); again == nil || len(set) != 0 {
			t.Errorf("turn %d: the issuer says %+v and sets %v", turn, again, written(set))
		}
		if out, _ := v.sessions(t, cookies[0], "refresh"); !strings.HasPrefix(out, "not due") {
			t.Errorf("turn %d: a second refresh: %d bytes", turn, len(out))
		}
	}
	if v.Storage != "both" {
		return
	}
	// A key that is gone stays gone, and the row is extended.
	v.age(t, u.ID)
	v.keys.Do("DEL", keyPrefix+tokenIn(t, theirs), keyPrefix+tokenIn(t, ours))
	v.settle(t)
	if _, set := v.get(t, theirs); len(set) == 0 || len(refresh(ours)) == 0 {
		t.Error("a session without its key is not refreshed")
	}
	l := v.left(t, u.ID)
	same(t, "refresh without a key", l.sessions[tokenIn(t, theirs)], l.sessions[tokenIn(t, ours)])
}

func (v *vault) testDontRemember(t *testing.T) {
	_, other := v.newUser(t)
	v.signIn(t, other, false)
	_, u := v.newUser(t)
	ours := v.make(t, u.ID, "--dont-remember-me")
	same(t, "create", v.left(t, other.ID).String(), v.left(t, u.ID).String())
	theirs := v.signIn(t, u, false)
	before := v.left(t, u.ID)
	for _, cookie := range []string{theirs, ours} {
		if answer, set := v.get(t, cookie); answer == nil || len(set) != 0 {
			t.Errorf("the issuer says %+v and sets %v", answer, written(set))
		}
		if out, _ := v.sessions(t, cookie, "refresh"); !strings.HasPrefix(out, "not due") {
			t.Errorf("sessiond refreshes it: %d bytes", len(out))
		}
	}
	same(t, "after get-session and refresh", before.String(), v.left(t, u.ID).String())
}

// testSignOut signs out at the issuer of its own session and of sessiond's.
func (v *vault) testSignOut(t *testing.T) {
	theirs, a := v.newUser(t)
	v.make(t, a.ID)
	_, b := v.newUser(t)
	ours := v.make(t, b.ID)
	for _, cookie := range []string{theirs, ours} {
		v.ask(t, http.MethodPost, "sign-out", cookie, struct{}{}, new(any))
		if answer, _ := v.get(t, cookie); answer != nil {
			t.Error("the issuer accepts a session that signed out")
		}
	}
	same(t, "sign-out", v.left(t, a.ID).String(), v.left(t, b.ID).String())
	v.settle(t)
	for _, cookie := range []string{theirs, ours} {
		if _, code := v.sessions(t, cookie, "refresh"); code != 1 {
			t.Errorf("sessiond refreshes what has signed out: exit code %d", code)
		}
	}
}

// testRevoke: each way of revoking is done by the issuer to one user and by sessiond to
// another, who both have the issuer's session and two of sessiond's.
func (v *vault) testRevoke(t *testing.T) {
	type party struct {
		user   user
		cookie string   // the issuer's session
		others []string // the cookies of sessiond's
	}
	newParty := func(t *testing.T) party {
		t.Helper()
		cookie, u := v.newUser(t)
		return party{u, cookie, []string{v.make(t, u.ID), v.make(t, u.ID)}}
	}
	// A list that lost a session is left by writers that were in each other's way. What
	// ends all sessions finds those of the list; from 1.7 on its mark refuses the others.
	unlist := func(t *testing.T, p party) {
		var list []listEntry
		key := keyPrefix + "active-sessions-" + p.user.ID
		decode(t, v.keys.Text(key), &list)
		var entries []string
		for _, e := range list {
			if e.Token != tokenIn(t, p.cookie) {
				entries = append(entries, fmt.Sprintf(`{"token":%q,"expiresAt":%d}`, e.Token, e.ExpiresAt))
			}
		}
		v.keys.Do("SET", key, "["+strings.Join(entries, ",")+"]", "KEEPTTL")
	}
	unlisted := 0
	if v.Version == "1.4" {
		unlisted = 1
	}
	ids := v.Version != "1.4" || v.inDatabase() // else only a credential names a session
	revokeAll := func(t *testing.T, p party) {
		v.ask(t, http.MethodPost, "revoke-sessions", p.cookie, struct{}{}, new(any))
	}
	revokeAllHere := func(t *testing.T, p party) { v.sessions(t, "", "revoke-all", "--user="+p.user.ID) }
	for _, way := range []struct {
		name                 string
		before, theirs, ours func(t *testing.T, p party)
		left                 int
	}{
		{"revoke one", nil, func(t *testing.T, p party) {
			v.ask(t, http.MethodPost, "revoke-session", p.cookie, map[string]any{"token": tokenIn(t, p.others[0])}, new(any))
		}, func(t *testing.T, p party) {
			if !ids {
				v.sessions(t, p.others[0], "revoke")
				return
			}
			v.sessions(t, "", "revoke", "--user="+p.user.ID, "--session="+v.idOf(t, p.user.ID, tokenIn(t, p.others[0])))
		}, 2},
		{"revoke others", nil, func(t *testing.T, p party) {
			v.ask(t, http.MethodPost, "revoke-other-sessions", p.cookie, struct{}{}, new(any))
		}, func(t *testing.T, p party) {
			if !ids {
				v.sessions(t, p.others[0], "revoke")
				v.sessions(t, p.others[1], "revoke")
				return
			}
			v.sessions(t, "", "revoke-all", "--user="+p.user.ID, "--except="+v.idOf(t, p.user.ID, tokenIn(t, p.cookie)))
		}, 1},
		{"revoke all", nil, revokeAll, revokeAllHere, 0},
		{"revoke all, one not listed", unlist, revokeAll, revokeAllHere, unlisted},
	} {
		t.Run(way.name, func(t *testing.T) {
			a, b := newParty(t), newParty(t)
			if way.before != nil {
				way.before(t, a)
				way.before(t, b)
			}
			way.theirs(t, a)
			way.ours(t, b)
			same(t, way.name, v.left(t, a.user.ID).String(), v.left(t, b.user.ID).String())
			for _, p := range []party{a, b} {
				living := 0
				for _, cookie := range append([]string{p.cookie}, p.others...) {
					answer, _ := v.get(t, cookie)
					_, code := v.sessions(t, cookie, "get")
					if answer != nil {
						living++
					}
					if (answer != nil) != (code == 0) {
						t.Errorf("the issuer accepts: %t; sessiond's exit code: %d", answer != nil, code)
					}
				}
				if living != way.left {
					t.Errorf("%d sessions are left, want %d", living, way.left)
				}
			}
		})
	}
}
