package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/server/internal/store"
)

// Opener makes a database of the fixture, opens a store on it and closes both
// with the test.
type Opener func(t *testing.T, f Fixture) store.Store

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	t.Helper()
	for _, tt := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"Lookup", testLookup},
		{"TokenBytes", testTokenBytes},
		{"CaselessColumn", testCaselessColumn},
		{"DuplicateRows", testDuplicateRows},
		{"IDs", testIDs},
		{"Names", testNames},
		{"Attributes", testAttributes},
		{"Admin", testAdmin},
		{"SoftDelete", testSoftDelete},
		{"Milliseconds", testMilliseconds},
		{"Unreadable", testUnreadable},
		{"NullsOfUser", testNullsOfUser},
		{"Batches", testBatches},
		{"Concurrent", testConcurrent},
		{"Cancelled", testCancelled},
		{"Closed", testClosed},
		{"Describe", testDescribe},
		{"Clues", testClues},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open) })
	}
}

// The instants of the fixtures' rows.
var (
	created = time.Date(2026, 3, 1, 10, 20, 30, 123e6, time.UTC)
	updated = time.Date(2026, 3, 2, 10, 20, 30, 456e6, time.UTC)
	expires = time.Date(2099, 1, 1, 0, 0, 0, 789e6, time.UTC)
)

const primary, unique = "PRIMARY KEY", "NOT NULL UNIQUE"

// users returns Better Auth's user table with Alice (u1) in it, and columns and
// values added.
func users(extra []Column, values ...any) Table {
	return Table{
		Name: "user",
		Columns: append([]Column{
			{"id", Text, primary}, {"name", Text, ""}, {"email", Text, ""}, {"emailVerified", Bool, ""},
			{"image", Text, ""}, {"createdAt", Time, ""}, {"updatedAt", Time, ""},
		}, extra...),
		Rows: [][]any{append([]any{"u1", "Alice", "alice@example.com", true, nil, created, updated}, values...)},
	}
}

// sessions returns Better Auth's session table with a session of u1 for each token.
func sessions(tokens ...string) Table {
	t := Table{
		Name: "session",
		Columns: []Column{
			{"id", Text, primary}, {"expiresAt", Time, ""}, {"token", Text, unique}, {"createdAt", Time, ""},
			{"updatedAt", Time, ""}, {"ipAddress", Text, ""}, {"userAgent", Text, ""}, {"userId", Text, ""},
		},
	}
	for i, token := range tokens {
		t.Rows = append(t.Rows, []any{fmt.Sprintf("s%d", i), expires, token, created, updated, "203.0.113.7", nil, "u1"})
	}
	return t
}

// basic is the schema without anything added.
func basic(tokens ...string) Fixture {
	return Fixture{Tables: []Table{users(nil), sessions(tokens...)}}
}

// record returns what is to be read of sessions' row i.
func record(i int) store.Record {
	ip := "203.0.113.7"
	return store.Record{
		Found: true,
		Session: store.Session{
			ID: fmt.Sprintf("s%d", i), UserID: "u1", CreatedAt: created, UpdatedAt: updated, ExpiresAt: expires, IPAddress: &ip,
		},
		User: &store.User{ID: "u1", Name: "Alice", Email: "alice@example.com", EmailVerified: true, CreatedAt: created, UpdatedAt: updated},
	}
}

func lookup(t *testing.T, s store.Store, tokens ...string) []store.Record {
	t.Helper()
	got, err := s.Lookup(t.Context(), "", tokens)
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	if len(got) != len(tokens) {
		t.Fatalf("%d records for %d tokens", len(got), len(tokens))
	}
	return got
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func testLookup(t *testing.T, open Opener) {
	orphans := basic("a", "b", "orphan")
	rows := orphans.Tables[1].Rows
	rows[2][7] = "nobody"
	s := open(t, orphans)

	orphan := record(2)
	orphan.Session.UserID, orphan.User = "nobody", nil
	for _, tt := range []struct {
		name   string
		tokens []string
		want   []store.Record
	}{
		{"none", nil, []store.Record{}},
		{"one", []string{"a"}, []store.Record{record(0)}},
		{"unknown", []string{"zzz"}, []store.Record{{}}},
		{"empty token", []string{""}, []store.Record{{}}},
		{"several, in order", []string{"b", "zzz", "a"}, []store.Record{record(1), {}, record(0)}},
		{"the same twice", []string{"a", "b", "a"}, []store.Record{record(0), record(1), record(0)}},
		{"user missing", []string{"orphan"}, []store.Record{orphan}},
	} {
		t.Run(tt.name, func(t *testing.T) { equal(t, lookup(t, s, tt.tokens...), tt.want) })
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v", err)
	}
}

func testTokenBytes(t *testing.T, open Opener) {
	long := strings.Repeat("x", 700)
	stored := []string{"Abc", "trailing ", "per%cent", "under_score", `back\slash`, `quote"'`, "Zoë日本🎉", long, "[1,2]"}
	s := open(t, basic(stored...))

	for i, token := range stored {
		equal(t, lookup(t, s, token), []store.Record{record(i)})
	}
	var want []store.Record
	for i := range stored {
		want = append(want, record(i))
	}
	equal(t, lookup(t, s, stored...), want)

	others := []string{
		"abc", "ABC", "Abc ", " Abc", "trailing", "trailing  ", "Abc\x00", "\x00Abc", "\x00", "Abc\xff", "\xff", "Ab\xed\xa0\x80c",
		"%", "per%", "under-score", "under%", "back\\\\slash", "' OR '1'='1", "'; DROP TABLE session; --", "{Abc}", "{Abc,trailing }",
		"Zoe\u0308日本🎉", long + "x", long[1:], "NULL", `["Abc"]`, "*", "A?c",
	}
	for _, token := range others {
		if got := lookup(t, s, token); got[0].Found {
			t.Errorf("token %q found session %s", token, got[0].Session.ID)
		}
	}
	// One that cannot be stored must not spoil the others of its batch.
	got := lookup(t, s, append([]string{"Abc"}, others...)...)
	equal(t, got[0], record(0))
	for i, r := range got[1:] {
		if r.Found {
			t.Errorf("in a batch, token %q found session %s", others[i], r.Session.ID)
		}
	}
}

func testCaselessColumn(t *testing.T, open Opener) {
	f := basic("Abc", "Def")
	f.Tables[1].Columns[2].Type = CaselessText
	s := open(t, f)
	equal(t, lookup(t, s, "Abc"), []store.Record{record(0)})
	equal(t, lookup(t, s, "abc"), []store.Record{{}})
	equal(t, lookup(t, s, "abc", "Abc", "DEF"), []store.Record{{}, record(0), {}})
}

func testDuplicateRows(t *testing.T, open Opener) {
	f := basic("once", "twice", "twice")
	f.Tables[1].Columns[2].Constraint = ""
	f.Tables[1].Index = "token"
	s := open(t, f)
	got := lookup(t, s, "once", "twice")
	equal(t, got[0], record(0))
	if got[1].Unreadable == "" {
		t.Errorf("two rows of one token were read as %+v", got[1])
	}
}

func testIDs(t *testing.T, open Opener) {
	const id1, id2 = "0b9b7d1e-2c6f-4a43-9f3f-1c2d3e4f5a6b", "5e0f0d3c-7a51-4c1c-8d5a-aabbccddeeff"
	for _, tt := range []struct {
		name             string
		user, reference  Type
		userID, ref      any
		wantUser, wantBy string
	}{
		{"text", Text, Text, "u1", "u1", "u1", "u1"},
		{"serial", Int, Int, 41, 41, "41", "41"},
		{"uuid", UUID, UUID, id1, id1, id1, id1},
		{"uuid referred to as text", UUID, Text, id1, id1, id1, id1},
		{"serial referred to as text", Int, Text, 41, "41", "41", "41"},
		{"text referred to as uuid", Text, UUID, id1, id1, id1, id1},
		{"text referred to as serial", Text, Int, "41", 41, "41", "41"},
		{"uuid, another user", UUID, UUID, id1, id2, "", id2},
		{"uuid referred to by rubbish", UUID, Text, id1, "rubbish", "", "rubbish"},
		{"serial referred to by rubbish", Int, Text, 41, "rubbish", "", "rubbish"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := basic("a")
			f.Tables[0].Columns[0].Type, f.Tables[0].Rows[0][0] = tt.user, tt.userID
			f.Tables[1].Columns[7].Type, f.Tables[1].Rows[0][7] = tt.reference, tt.ref
			got := lookup(t, open(t, f), "a")[0]
			want := record(0)
			want.Session.UserID = tt.wantBy
			want.User.ID = tt.wantUser
			if tt.wantUser == "" {
				want.User = nil
			}
			equal(t, got, want)
		})
	}
}

func testNames(t *testing.T, open Opener) {
	rename := func(t Table, table string, columns ...string) Table {
		t.Name = table
		t.Columns = slices.Clone(t.Columns)
		for i, c := range columns {
			t.Columns[i].Name = c
		}
		return t
	}
	odd := `o"d%d; --`
	for _, tt := range []struct {
		name          string
		user, session Table
		schema        store.Schema
	}{
		{
			name:    "snake case, plural",
			user:    rename(users(nil), "users", "id", "name", "email", "email_verified", "image", "created_at", "updated_at"),
			session: rename(sessions("a"), "sessions", "id", "expires_at", "token", "created_at", "updated_at", "ip_address", "user_agent", "user_id"),
		},
		{
			name:    "lower case, prefix",
			user:    rename(users(nil), "auth_user", "id", "name", "email", "emailverified", "image", "createdat", "updatedat"),
			session: rename(sessions("a"), "auth_session", "id", "expiresat", "token", "createdat", "updatedat", "ipaddress", "useragent", "userid"),
		},
		{
			name:    "no names in common",
			user:    rename(users(nil), "people"),
			session: rename(sessions("a"), "logins"),
		},
		{
			name:    "overridden",
			user:    rename(users(nil), "people", "key", "called", "mail"),
			session: rename(sessions("a"), "logins", "key", "until", odd),
			schema: store.Schema{
				User:    store.Table{Name: "people", Columns: map[string]string{"id": "key", "name": "called", "email": "mail"}},
				Session: store.Table{Name: "logins", Columns: map[string]string{"id": "key", "expiresAt": "until", "token": odd}},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Fixture{Tables: []Table{tt.user, tt.session}, Schema: tt.schema}
			equal(t, lookup(t, open(t, f), "a"), []store.Record{record(0)})
		})
	}
}

func testAttributes(t *testing.T, open Opener) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 250e6, time.UTC)
	f := Fixture{
		Tables: []Table{
			users([]Column{
				{"plan", Text, ""}, {"nick_name", Text, ""}, {"password_hash", Text, ""}, {"balance", Float, ""}, {"beta", Bool, ""},
			}, "pro", "Al", "secret", 1.5, true),
			sessions("a"),
		},
		Schema: store.Schema{
			User:    store.Table{Columns: map[string]string{"nickname": "nick_name"}, Hide: []string{"password_hash"}},
			Session: store.Table{Hide: []string{"fingerprint", "userAgent"}},
		},
	}
	session := &f.Tables[1]
	session.Columns = append(session.Columns,
		Column{"zeta", Int, ""}, Column{"alpha", Time, ""}, Column{"tags", JSON, ""}, Column{"raw", Bytes, ""},
		Column{"nothing", Text, ""}, Column{"fingerprint", Text, ""}, Column{"active_organization_id", Text, ""}, Column{"impersonatedBy", Text, ""})
	session.Rows[0] = append(session.Rows[0], 7, at, `["a", "b"]`, []byte{0, 255}, nil, "secret", "org1", "admin1")
	session.Rows[0][6] = "hidden agent"

	want := record(0)
	want.Session.ActiveOrganizationID, want.Session.ImpersonatedBy = ptr("org1"), ptr("admin1")
	want.Session.Attributes = []store.Attribute{
		{Name: "alpha", Kind: store.KindTime, Time: at},
		{Name: "nothing"},
		{Name: "raw", Kind: store.KindBytes, Bytes: []byte{0, 255}},
		{Name: "tags", Kind: store.KindJSON, Text: `["a", "b"]`},
		{Name: "zeta", Kind: store.KindInt, Int: 7},
	}
	want.User.Attributes = []store.Attribute{
		{Name: "balance", Kind: store.KindFloat, Float: 1.5},
		{Name: "beta", Kind: store.KindBool, Bool: true},
		{Name: "nickname", Kind: store.KindString, Text: "Al"},
		{Name: "plan", Kind: store.KindString, Text: "pro"},
	}
	equal(t, lookup(t, open(t, f), "a"), []store.Record{want})
}

func ptr[T any](v T) *T { return &v }

func testAdmin(t *testing.T, open Opener) {
	until := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	f := Fixture{Tables: []Table{
		users([]Column{{"role", Text, ""}, {"banned", Bool, ""}, {"ban_reason", Text, ""}, {"banExpires", Time, ""}},
			"admin", true, "spam", until),
		sessions("a"),
	}}
	want := record(0)
	want.User.Role, want.User.Banned, want.User.BanExpires = ptr("admin"), true, &until
	want.User.Attributes = []store.Attribute{
		{Name: "banExpires", Kind: store.KindTime, Time: until},
		{Name: "banReason", Kind: store.KindString, Text: "spam"},
		{Name: "banned", Kind: store.KindBool, Bool: true},
	}
	equal(t, lookup(t, open(t, f), "a"), []store.Record{want})
}

func testSoftDelete(t *testing.T, open Opener) {
	for _, tt := range []struct {
		name  string
		typ   Type
		value any
		want  bool
	}{
		{"instant, not set", Time, nil, false},
		{"instant, set", Time, created, true},
		{"boolean, not set", Bool, nil, false},
		{"boolean, false", Bool, false, false},
		{"boolean, true", Bool, true, true},
		{"text, empty", Text, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Fixture{
				Tables: []Table{users([]Column{{"deleted_at", tt.typ, ""}}, tt.value), sessions("a")},
				Schema: store.Schema{SoftDeleteColumn: "deleted_at"},
			}
			got := lookup(t, open(t, f), "a")[0]
			if got.User == nil || got.User.Deleted != tt.want {
				t.Errorf("user %+v, want Deleted %t", got.User, tt.want)
			}
		})
	}
}

func testMilliseconds(t *testing.T, open Opener) {
	for _, tt := range []struct {
		name         string
		stored, want time.Time
	}{
		{"whole", time.Unix(1_800_000_000, 0), time.UnixMilli(1_800_000_000_000)},
		{"just below the next", time.Unix(1_800_000_000, 123_999_000), time.UnixMilli(1_800_000_000_123)},
		{"before 1970, downwards too", time.Unix(-10, 123_999_000), time.UnixMilli(-9_877)},
		{"one microsecond before 1970", time.Unix(-1, 999_999_000), time.UnixMilli(-1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := basic("a")
			f.Tables[1].Rows[0][1] = tt.stored
			got := lookup(t, open(t, f), "a")[0]
			equal(t, got.Session.ExpiresAt, tt.want.UTC())
		})
	}
}

func testUnreadable(t *testing.T, open Opener) {
	bad := Raw{Postgres: "'infinity'", SQLite: "'rubbish value'"}
	f := basic("good", "endless", "headless", "alsogood", "badban", "badtrial")
	rows := f.Tables[1].Rows
	rows[5][7] = "u3"
	rows[1][1] = bad
	rows[2][3] = nil
	rows[4][7] = "u2"
	f.Tables[0].Columns = append(f.Tables[0].Columns, Column{"banExpires", Time, ""}, Column{"trialEndsAt", Time, ""})
	f.Tables[0].Rows[0] = append(f.Tables[0].Rows[0], nil, nil)
	f.Tables[0].Rows = append(f.Tables[0].Rows,
		[]any{"u2", "Bob", "bob@example.com", true, nil, created, updated, bad, nil},
		[]any{"u3", "Eve", "eve@example.com", true, nil, created, updated, nil, bad})
	s := open(t, f)

	// No decision depends on an additional column, so the last row is readable.
	got := lookup(t, s, "good", "endless", "headless", "alsogood", "badban", "badtrial")
	for i, column := range map[int]string{0: "", 1: "expiresAt", 2: "createdAt", 3: "", 4: "banExpires", 5: ""} {
		r := got[i]
		if !r.Found {
			t.Errorf("record %d is not found", i)
		}
		if column == "" {
			if r.Unreadable != "" || r.Session.ID != fmt.Sprintf("s%d", i) {
				t.Errorf("record %d: %+v, want it readable", i, r)
			}
			continue
		}
		if !strings.Contains(r.Unreadable, column) || strings.Contains(r.Unreadable, "rubbish") {
			t.Errorf("record %d: Unreadable %q, want it to name %s and not the value", i, r.Unreadable, column)
		}
	}
}

func testNullsOfUser(t *testing.T, open Opener) {
	f := basic("a")
	f.Tables[0].Rows[0] = []any{"u1", nil, nil, nil, nil, nil, nil}
	want := record(0)
	want.User = &store.User{ID: "u1"}
	equal(t, lookup(t, open(t, f), "a"), []store.Record{want})
}

func testBatches(t *testing.T, open Opener) {
	const rows = 1000
	var tokens []string
	var all []store.Record
	for i := range rows {
		tokens = append(tokens, fmt.Sprintf("token-%04d", i))
		all = append(all, record(i))
	}
	s := open(t, basic(tokens...))
	for _, n := range []int{1, 2, 64, rows} {
		equal(t, lookup(t, s, tokens[:n]...), all[:n])
	}
}

func testConcurrent(t *testing.T, open Opener) {
	tokens := []string{"a", "b", "c", "d"}
	s := open(t, basic(tokens...))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 25 {
				j := (g + i) % len(tokens)
				got, err := s.Lookup(t.Context(), "", []string{"zzz", tokens[j]})
				if err != nil {
					t.Errorf("Lookup: %v", err)
					return
				}
				if diff := cmp.Diff([]store.Record{{}, record(j)}, got); diff != "" {
					t.Errorf("token %s (-want +got):\n%s", tokens[j], diff)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testCancelled(t *testing.T, open Opener) {
	s := open(t, basic("a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, token := range []string{"a", "\x00"} {
		if _, err := s.Lookup(ctx, "", []string{token}); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("token %q: error %v, want the context's", token, err)
		}
	}
	if err := s.Ready(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Ready: error %v, want the context's", err)
	}
	// Nothing is broken by it.
	equal(t, lookup(t, s, "a"), []store.Record{record(0)})
}

func testClosed(t *testing.T, open Opener) {
	s := open(t, basic("a"))
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for _, token := range []string{"a", "\x00"} {
		if _, err := s.Lookup(t.Context(), "", []string{token}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("token %q: error %v, want ErrUnavailable", token, err)
		}
	}
	if err := s.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Ready: error %v, want ErrUnavailable", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func testClues(t *testing.T, open Opener) {
	clues := func(s store.Store, token string) store.Clues {
		t.Helper()
		c, err := s.Clues(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s := open(t, basic("a"))
	for token, want := range map[string]store.Clues{"s0": {SessionID: true}, "s1": {}, "a": {}, "": {}, "\x00": {}, "'": {}} {
		equal(t, clues(s, token), want)
	}
	equal(t, clues(open(t, basic()), "a"), store.Clues{Empty: true})
	serial := basic("a")
	serial.Tables[1].Columns[0].Type, serial.Tables[1].Rows[0][0] = Int, 7
	equal(t, clues(open(t, serial), "not a number"), store.Clues{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Clues(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("closed: error %v, want ErrUnavailable", err)
	}
}

func testDescribe(t *testing.T, open Opener) {
	d := open(t, Fixture{Tables: []Table{users([]Column{{"plan", Text, ""}}, "pro"), sessions("a")}}).Describe()
	if d.Driver == "" || d.Location == "" {
		t.Errorf("driver %q, location %q: want both", d.Driver, d.Location)
	}
	if !strings.HasSuffix(d.Session.Name, `"session"`) || !strings.HasSuffix(d.User.Name, `"user"`) {
		t.Errorf("tables %s and %s", d.Session.Name, d.User.Name)
	}
	if d.Session.TokenIndex == "" || d.User.TokenIndex != "" {
		t.Errorf("token index %q of the sessions and %q of the users", d.Session.TokenIndex, d.User.TokenIndex)
	}
	equal(t, d.User.Attributes, []string{"plan"})
	equal(t, d.Session.Columns["expiresAt"], "expiresAt")
}
