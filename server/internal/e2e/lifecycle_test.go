package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/pgtest"
)

// house is an issuer and an authority over one database, without workers.
type house struct {
	*fleet
	conn *pgx.Conn
}

func newHouse(t *testing.T) *house {
	t.Helper()
	root := moduleRoot(t)
	f := &fleet{binaries: buildAuthority(t, root), secret: strings.Repeat("house secret ", 3), authority: "127.0.0.1:" + freePort(t)}
	f.dsn = pgtest.StartOwn(t).NewDatabase(t)
	f.issuer = startIssuer(t, root, f.dsn, f.secret)
	f.installFeed(t)
	f.startAuthority(t)
	return f.house(t)
}

// buildAuthority compiles the authority and returns the folder it is in.
func buildAuthority(t *testing.T, root string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+string(filepath.Separator), "./server/cmd/sessiond")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// house looks into the database of a fleet that is up.
func (f *fleet) house(t *testing.T) *house {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return &house{fleet: f, conn: conn}
}

// sessions runs sessiond sessions and returns what it printed.
func (h *house) sessions(t *testing.T, stdin string, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(h.binaries, "sessiond"), slices.Concat([]string{"sessions"}, args[:1], []string{"--server=" + h.authority}, args[1:])...)
	cmd.Env, cmd.Stdin = []string{}, strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() > 1 {
		t.Fatalf("sessiond sessions %s: %v\n%s", args[0], err, errs.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// create makes a session with sessiond and returns its Cookie header and its id.
func (h *house) create(t *testing.T, user string) (cookie, id string) {
	t.Helper()
	out, _ := h.sessions(t, "", "create", "--user="+user, "--format=json", "--user-agent=sessiond test")
	var made struct {
		Session                 struct{ ID string }
		CookieName, CookieValue string
	}
	decode(t, strings.NewReplacer("cookie_name", "cookieName", "cookie_value", "cookieValue").Replace(out), &made)
	return made.CookieName + "=" + made.CookieValue, made.Session.ID
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %d bytes", err, len(text))
	}
}

// ask calls the issuer with a Cookie header, and returns the answer and its Set-Cookie.
func (h *house) ask(t *testing.T, method, path, cookie string, body, into any) []*http.Cookie {
	t.Helper()
	sent, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodGet {
		sent = nil
	}
	req, err := http.NewRequestWithContext(t.Context(), method, h.issuer.base.String()+"/api/auth/"+path, bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", h.issuer.base.String())
	req.Header.Set("Cookie", cookie)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("issuer: %s: %s, %v", path, resp.Status, err)
	}
	decode(t, string(text), into)
	return resp.Cookies()
}

// who is whose session the issuer takes a cookie for.
type who struct {
	Session struct{ ID, UserID string }
	User    user
}

func (h *house) get(t *testing.T, cookie string) (*who, []*http.Cookie) {
	t.Helper()
	var answer *who
	set := h.ask(t, http.MethodGet, "get-session", cookie, nil, &answer)
	return answer, set
}

// rows are the session rows of a user, by id, as PostgreSQL prints them.
func (h *house) rows(t *testing.T, user string) map[string]map[string]any {
	t.Helper()
	rows, err := h.conn.Query(t.Context(), `SELECT id, to_jsonb(s) FROM session s WHERE "userId" = $1`, user)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]any{}
	var id string
	var row map[string]any
	if _, err := pgx.ForEachRow(rows, []any{&id, &row}, func() error {
		out[id] = row
		row = nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// form is what two rows of one origin have in common: which columns hold what kind of
// value, how long its texts are, and what lies between its times.
func form(t *testing.T, row map[string]any) map[string]string {
	t.Helper()
	at := func(column string) time.Time {
		text, ok := row[column].(string)
		if !ok {
			t.Fatalf("%s is no text", column)
		}
		parsed, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Nanosecond()%int(time.Millisecond) != 0 {
			t.Errorf("%s holds more than milliseconds", column)
		}
		return parsed
	}
	out := map[string]string{}
	for column, value := range row {
		out[column] = fmt.Sprintf("%T", value)
	}
	for _, column := range []string{"id", "token"} {
		out[column] += fmt.Sprintf(" of %d", len(row[column].(string)))
	}
	// The issuer reads the clock for each column anew.
	out["expires after its update"] = at("expiresAt").Sub(at("updatedAt")).Round(100 * time.Millisecond).String()
	out["updated after its creation"] = at("updatedAt").Sub(at("createdAt")).Round(time.Minute).String()
	return out
}

// written are the names and attributes of Set-Cookie lines, without their values.
func written(cookies []*http.Cookie) []string {
	var out []string
	for _, c := range cookies {
		out = append(out, fmt.Sprintf("%s Path=%s Domain=%s MaxAge=%d HttpOnly=%t Secure=%t SameSite=%d Expires=%t", c.Name, c.Path, c.Domain, c.MaxAge, c.HttpOnly, c.Secure, c.SameSite, !c.Expires.IsZero()))
	}
	slices.Sort(out)
	return out
}

// TestLifecycle has the issuer go on from what sessiond did, and sessiond from what the
// issuer did. docs/lifecycle.md lists the operations.
func TestLifecycle(t *testing.T) {
	h := newHouse(t)
	newUser := func(t *testing.T) (*browser, user) {
		t.Helper()
		b := newBrowser(t, h.issuer)
		return b, b.signUp(t)
	}

	t.Run("create", func(t *testing.T) {
		b, u := newUser(t)
		issuers, _ := h.get(t, b.cookie(t))
		cookie, id := h.create(t, u.ID)
		answer, set := h.get(t, cookie)
		if answer == nil || answer.Session.ID != id || answer.User.ID != u.ID || len(set) != 0 {
			t.Fatalf("the issuer says %+v and sets %v", answer, written(set))
		}
		rows := h.rows(t, u.ID)
		theirs, ours := form(t, rows[issuers.Session.ID]), form(t, rows[id])
		if !maps.Equal(theirs, ours) {
			t.Errorf("the rows differ in form:\n%v\n%v", theirs, ours)
		}
	})

	t.Run("create, sign-out at the issuer", func(t *testing.T) {
		_, u := newUser(t)
		cookie, id := h.create(t, u.ID)
		var answer struct{ Success bool }
		h.ask(t, http.MethodPost, "sign-out", cookie, struct{}{}, &answer)
		if _, there := h.rows(t, u.ID)[id]; there || !answer.Success {
			t.Error("the row is there after signing out at the issuer")
		}
		h.settle(t)
		if _, code := h.sessions(t, cookie, "revoke"); code != 1 {
			t.Errorf("revoking what is gone: exit code %d", code)
		}
	})

	t.Run("list", func(t *testing.T) {
		b, u := newUser(t)
		h.create(t, u.ID)
		h.create(t, u.ID)
		var theirs []struct{ ID string }
		h.ask(t, http.MethodGet, "list-sessions", b.cookie(t), nil, &theirs)
		out, _ := h.sessions(t, "", "list", "--user="+u.ID, "--json")
		var ours []struct{ Session struct{ ID string } }
		decode(t, out, &ours)
		var want, got []string
		for _, s := range theirs {
			want = append(want, s.ID)
		}
		for _, s := range ours {
			got = append(got, s.Session.ID)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) || len(got) != 3 {
			t.Errorf("the issuer lists %q, sessiond %q", want, got)
		}
	})

	// age makes all sessions of a user as old as a refresh wants them.
	age := func(t *testing.T, user string) {
		t.Helper()
		if _, err := h.conn.Exec(t.Context(), `UPDATE session SET "createdAt" = "createdAt" - interval '2 days', "updatedAt" = "updatedAt" - interval '2 days', "expiresAt" = "expiresAt" - interval '2 days' WHERE "userId" = $1`, user); err != nil {
			t.Fatal(err)
		}
		h.settle(t)
	}
	t.Run("refresh", func(t *testing.T) {
		b, u := newUser(t)
		issuers, _ := h.get(t, b.cookie(t))
		cookie, id := h.create(t, u.ID)
		age(t, u.ID)
		_, theirs := h.get(t, b.cookie(t))
		out, _ := h.sessions(t, cookie, "refresh")
		header := http.Header{}
		for line := range strings.Lines(out) {
			header.Add("Set-Cookie", strings.TrimSuffix(strings.TrimPrefix(line, "Set-Cookie: "), "\n"))
		}
		ours := (&http.Response{Header: header}).Cookies()
		if len(theirs) == 0 || !slices.Equal(written(theirs), written(ours)) {
			t.Errorf("the issuer sets\n%q, sessiond\n%q", written(theirs), written(ours))
		}
		rows := h.rows(t, u.ID)
		if a, b := form(t, rows[issuers.Session.ID]), form(t, rows[id]); !maps.Equal(a, b) {
			t.Errorf("the rows differ in form:\n%v\n%v", a, b)
		}
		if again, set := h.get(t, ours[0].Name+"="+ours[0].Value); again == nil || len(set) != 0 {
			t.Errorf("the issuer says %+v to the relayed cookie and sets %v", again, written(set))
		}
		if out, _ := h.sessions(t, cookie, "refresh"); !strings.HasPrefix(out, "not due") {
			t.Errorf("a second refresh: %d bytes", len(out))
		}
	})
	t.Run("refresh of one that was not to be remembered", func(t *testing.T) {
		_, u := newUser(t)
		out, _ := h.sessions(t, "", "create", "--user="+u.ID, "--format=set-cookie", "--dont-remember-me")
		var pairs []string
		for line := range strings.Lines(out) {
			pair, _, _ := strings.Cut(strings.TrimPrefix(line, "Set-Cookie: "), ";")
			pairs = append(pairs, pair)
		}
		jar := strings.Join(pairs, "; ")
		before := h.rows(t, u.ID)
		answer, set := h.get(t, jar)
		if answer == nil || len(set) != 0 {
			t.Fatalf("the issuer says %+v and sets %v", answer, written(set))
		}
		if out, _ := h.sessions(t, jar, "refresh"); !strings.HasPrefix(out, "not due") {
			t.Errorf("sessiond refreshes it: %d bytes", len(out))
		}
		if after := h.rows(t, u.ID)[answer.Session.ID]; after["expiresAt"] != before[answer.Session.ID]["expiresAt"] {
			t.Error("it was extended")
		}
	})

	// Each way of revoking is done by the issuer to one user and by sessiond to another,
	// who both have the issuer's session and two of sessiond's.
	type party struct {
		user    user
		cookie  string   // the issuer's session
		own     string   // its id
		cookies []string // of the others
		ids     []string
	}
	newParty := func(t *testing.T) party {
		t.Helper()
		b, u := newUser(t)
		p := party{user: u, cookie: b.cookie(t)}
		answer, _ := h.get(t, p.cookie)
		p.own = answer.Session.ID
		for range 2 {
			cookie, id := h.create(t, u.ID)
			p.cookies, p.ids = append(p.cookies, cookie), append(p.ids, id)
		}
		return p
	}
	for name, way := range map[string]struct {
		theirs func(t *testing.T, p party)
		ours   func(t *testing.T, p party)
		left   int
	}{
		"revoke one": {
			theirs: func(t *testing.T, p party) {
				h.ask(t, http.MethodPost, "revoke-session", p.cookie, map[string]any{"token": h.rows(t, p.user.ID)[p.ids[0]]["token"]}, new(any))
			},
			ours: func(t *testing.T, p party) { h.sessions(t, "", "revoke", "--user="+p.user.ID, "--session="+p.ids[0]) },
			left: 2,
		},
		"revoke others": {
			theirs: func(t *testing.T, p party) {
				h.ask(t, http.MethodPost, "revoke-other-sessions", p.cookie, struct{}{}, new(any))
			},
			ours: func(t *testing.T, p party) { h.sessions(t, "", "revoke-all", "--user="+p.user.ID, "--except="+p.own) },
			left: 1,
		},
		"revoke all": {
			theirs: func(t *testing.T, p party) {
				h.ask(t, http.MethodPost, "revoke-sessions", p.cookie, struct{}{}, new(any))
			},
			ours: func(t *testing.T, p party) { h.sessions(t, "", "revoke-all", "--user="+p.user.ID) },
			left: 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newParty(t), newParty(t)
			way.theirs(t, a)
			way.ours(t, b)
			forms := func(p party) []string {
				var out []string
				for id, row := range h.rows(t, p.user.ID) {
					out = append(out, fmt.Sprint(id == p.own, form(t, row)))
				}
				slices.Sort(out)
				return out
			}
			if theirs, ours := forms(a), forms(b); !slices.Equal(theirs, ours) || len(ours) != way.left {
				t.Errorf("the issuer leaves\n%q, sessiond\n%q", theirs, ours)
			}
			for _, p := range []party{a, b} {
				if one, _ := h.get(t, p.cookies[0]); one != nil {
					t.Error("the issuer accepts a revoked session")
				}
				if _, code := h.sessions(t, p.cookies[0], "revoke"); code != 1 {
					t.Error("sessiond finds a revoked session")
				}
			}
		})
	}

	if text, err := os.ReadFile(filepath.Join(moduleRoot(t), "docs", "lifecycle.md")); err != nil || !strings.Contains(string(text), "TestLifecycle") {
		t.Errorf("docs/lifecycle.md does not name this test: %v", err)
	}
}
