package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
	"github.com/sessiond/sessiond/server/internal/store/storetest"
)

// mainFunc makes a function usable where a testing.M is expected.
type mainFunc func() int

func (f mainFunc) Run() int { return f() }

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(mainFunc(func() int { return pgtest.Main(m) }))
}

// run executes statements as the issuer would, in a connection of its own.
func run(t testing.TB, dsn, statements string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, statements); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, c postgres.Config) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), c)
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

// withOption returns the URL dsn with a query parameter added.
func withOption(t testing.TB, dsn, key, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}

func TestConformance(t *testing.T) {
	// The modes that prepare nothing are those for PgBouncer; the last one gets
	// all values as text.
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T, f storetest.Fixture) store.Store {
				dsn := pgtest.Start(t).NewDatabase(t)
				run(t, dsn, f.SQL(storetest.Postgres()))
				return open(t, postgres.Config{DSN: withOption(t, dsn, "default_query_exec_mode", mode), Schema: f.Schema})
			})
		})
	}
}

// issuerTables is Better Auth's schema with extra columns of the session table.
func issuerTables(extra string) string {
	return `CREATE TABLE "user" (id text PRIMARY KEY, name text, email text, "emailVerified" boolean, "createdAt" timestamptz, "updatedAt" timestamptz);
		CREATE TABLE session (id text PRIMARY KEY, "expiresAt" timestamptz, token text NOT NULL UNIQUE, "createdAt" timestamptz, "updatedAt" timestamptz, "userId" text REFERENCES "user"` + extra + `);`
}

// seed fills the tables with n sessions of as many users.
func seed(n int) string {
	return fmt.Sprintf(`
		INSERT INTO "user" SELECT 'u'||i, 'name', 'e'||i, true, now(), now() FROM generate_series(0, %[1]d-1) i;
		INSERT INTO session SELECT 's'||i, '2099-01-01', 'token-'||i, now(), now(), 'u'||i FROM generate_series(0, %[1]d-1) i;
		ANALYZE;`, n)
}

func TestAttributeTypes(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	run(t, dsn, "CREATE TYPE mood AS ENUM ('fine'); CREATE DOMAIN short AS varchar(5);"+issuerTables(`,
		a_smallint smallint, b_bigint bigint, c_real real, d_numeric numeric, e_date date, f_timestamp timestamp, g_json json,
		h_texts text[], i_inet inet, j_enum mood, k_domain short, l_interval interval, m_bytes bytea, n_uuid uuid, o_ints int[], p_char char(4)`)+
		seed(1)+`UPDATE session SET a_smallint = -3, b_bigint = 9007199254740993, c_real = 0.5, d_numeric = 12345678901234567890.10,
		e_date = '2026-07-01', f_timestamp = '2026-07-01 12:00:00.1239', g_json = '{"a":  1}', h_texts = '{"a b",NULL}', i_inet = '203.0.113.7',
		j_enum = 'fine', k_domain = 'abc', l_interval = '1 day', m_bytes = '\x00ff', n_uuid = '0B9B7D1E-2C6F-4A43-9F3F-1C2D3E4F5A6B', o_ints = '{1,2}', p_char = 'ab'`)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	got, err := open(t, postgres.Config{DSN: dsn, Zone: berlin}).Lookup(t.Context(), "", []string{"token-0"})
	if err != nil {
		t.Fatal(err)
	}
	text := func(name, value string) store.Attribute {
		return store.Attribute{Name: name, Kind: store.KindString, Text: value}
	}
	want := []store.Attribute{
		{Name: "a_smallint", Kind: store.KindInt, Int: -3},
		{Name: "b_bigint", Kind: store.KindInt, Int: 9007199254740993},
		{Name: "c_real", Kind: store.KindFloat, Float: 0.5},
		text("d_numeric", "12345678901234567890.10"),
		{Name: "e_date", Kind: store.KindTime, Time: time.Date(2026, 6, 30, 22, 0, 0, 0, time.UTC)},
		{Name: "f_timestamp", Kind: store.KindTime, Time: time.Date(2026, 7, 1, 10, 0, 0, 123e6, time.UTC)},
		{Name: "g_json", Kind: store.KindJSON, Text: `{"a":  1}`},
		{Name: "h_texts", Kind: store.KindJSON, Text: `["a b",null]`},
		text("i_inet", "203.0.113.7/32"),
		text("j_enum", "fine"),
		text("k_domain", "abc"),
		text("l_interval", "1 day"),
		{Name: "m_bytes", Kind: store.KindBytes, Bytes: []byte{0, 255}},
		text("n_uuid", "0b9b7d1e-2c6f-4a43-9f3f-1c2d3e4f5a6b"),
		{Name: "o_ints", Kind: store.KindJSON, Text: "[1,2]"},
		text("p_char", "ab"),
	}
	if diff := cmp.Diff(want, got[0].Session.Attributes); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}
}

func TestZoneOfTimestamps(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	dsn := pgtest.Start(t).NewDatabase(t)
	run(t, dsn, issuerTables("")+seed(1)+`ALTER TABLE session ALTER "expiresAt" TYPE timestamp`)
	in, utc := open(t, postgres.Config{DSN: dsn, Zone: berlin}), open(t, postgres.Config{DSN: dsn})
	// What Node 20 makes of new Date(2026, ...) with TZ=Europe/Berlin.
	for _, tt := range []struct{ name, stored, want string }{
		{"winter", "2026-01-01 12:00:00", "2026-01-01T11:00:00Z"},
		{"summer", "2026-07-01 12:00:00", "2026-07-01T10:00:00Z"},
		{"skipped when clocks go forward", "2026-03-29 02:30:00", "2026-03-29T01:30:00Z"},
		{"just after that", "2026-03-29 03:00:00", "2026-03-29T01:00:00Z"},
		{"twice when clocks go back", "2026-10-25 02:30:00", "2026-10-25T00:30:00Z"},
		{"just after that, back", "2026-10-25 03:00:00", "2026-10-25T02:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, dsn, `UPDATE session SET "expiresAt" = '`+tt.stored+`'`)
			for s, want := range map[*postgres.Store]string{in: tt.want, utc: strings.Replace(tt.stored, " ", "T", 1) + "Z"} {
				got, err := s.Lookup(t.Context(), "", []string{"token-0"})
				if err != nil {
					t.Fatal(err)
				}
				if at := got[0].Session.ExpiresAt.Format(time.RFC3339); at != want {
					t.Errorf("%s is read as %s, want %s", tt.stored, at, want)
				}
			}
		})
	}
}

func TestLeastRights(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	name := "reader_" + dsn[strings.LastIndex(dsn, "_")+1:strings.Index(dsn, "?")]
	run(t, dsn, issuerTables(", secret text")+seed(1)+`
		CREATE TABLE account (id text, password text);
		CREATE ROLE `+name+` LOGIN PASSWORD 'test';
		GRANT SELECT (id, "expiresAt", token, "createdAt", "updatedAt", "userId") ON session TO `+name+`;
		GRANT SELECT ON "user" TO `+name)
	t.Cleanup(func() { run(t, dsn, "DROP OWNED BY "+name+"; DROP ROLE "+name) })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "test")
	s := open(t, postgres.Config{DSN: u.String()})
	got, err := s.Lookup(t.Context(), "", []string{"token-0"})
	if err != nil {
		t.Fatal(err)
	}
	if !got[0].Found || got[0].User == nil || len(got[0].Session.Attributes) != 0 {
		t.Errorf("got %+v, want the session with its user and without the column there is no right to", got[0])
	}

	run(t, dsn, `REVOKE SELECT ON "user" FROM `+name)
	if _, err := s.Lookup(t.Context(), "", []string{"token-0"}); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "GRANT") {
		t.Errorf("error %v, want ErrUnavailable and the remedy", err)
	}
	if _, err := postgres.Open(t.Context(), postgres.Config{DSN: u.String()}); err == nil || !strings.Contains(err.Error(), "no right to read") {
		t.Errorf("error %v, want it to say that a right is missing", err)
	}
}

func TestOpenErrors(t *testing.T) {
	cluster := pgtest.Start(t)
	dsn := cluster.NewDatabase(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	const password = "pA55word"
	wrong := *u
	wrong.User = url.UserPassword("postgres", password)
	closed := wrong
	closed.Host = "127.0.0.1:1"
	unknown := wrong
	unknown.Host = "no-such-host.invalid"
	for _, tt := range []struct{ name, dsn, want string }{
		{"unparsable", "postgres://u:" + password + "@host:port/db", "cannot be parsed"},
		{"wrong password", wrong.String(), "does not let user \"postgres\" in"},
		{"nothing listens", closed.String(), "nothing listens on 127.0.0.1:1"},
		{"unknown host", unknown.String(), "cannot be resolved"},
		{"no such database", cluster.DSN("nowhere"), `database "nowhere" does not exist`},
		{"no tables", dsn, "no table looks like Better Auth's session table"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), postgres.Config{DSN: tt.dsn})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want it to say %q", err, tt.want)
			}
			if strings.Contains(err.Error(), password) {
				t.Errorf("the error repeats the password: %v", err)
			}
		})
	}
}

func TestMissingIndex(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	run(t, dsn, issuerTables("")+`ALTER TABLE session DROP CONSTRAINT session_token_key;
		CREATE INDEX ON session (token) WHERE id <> 'x'; CREATE INDEX ON session (lower(token)); CREATE INDEX ON session (id, token)`)
	_, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn})
	const want = `CREATE UNIQUE INDEX CONCURRENTLY ON "public"."session" ("token")`
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("error %v, want it to say %s", err, want)
	}
	run(t, dsn, want)
	open(t, postgres.Config{DSN: dsn})
}

func TestPlanUsesTheIndexes(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	run(t, dsn, issuerTables("")+seed(20_000))
	s := open(t, postgres.Config{DSN: dsn})
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, n := range []int{1, 64} {
		var tokens []string
		for i := range n {
			tokens = append(tokens, fmt.Sprintf("token-%d", i*7))
		}
		rows, err := conn.Query(t.Context(), "EXPLAIN "+s.SQL(), tokens)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		plan := strings.Join(lines, "\n")
		if !strings.Contains(plan, "session_token_key") || !strings.Contains(plan, "user_pkey") || strings.Contains(plan, "Seq Scan") {
			t.Errorf("plan for %d tokens:\n%s", n, plan)
		}
	}
}

func TestServerRestart(t *testing.T) {
	for _, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate} {
		t.Run(string(mode), func(t *testing.T) {
			cluster := pgtest.StartOwn(t)
			dsn := cluster.NewDatabase(t)
			run(t, dsn, issuerTables("")+seed(1))
			s := open(t, postgres.Config{DSN: dsn, MaxConns: 4})
			lookup := func() error {
				got, err := s.Lookup(t.Context(), "", []string{"token-0"})
				if err == nil && !got[0].Found {
					t.Error("the session is not found")
				}
				return err
			}
			// Several connections, so that several go stale.
			done := make(chan error)
			for range 16 {
				go func() { done <- lookup() }()
			}
			for range 16 {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}

			cluster.Stop(t, mode)
			start := time.Now()
			for range 5 {
				if err := lookup(); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("while the server is down: error %v, want ErrUnavailable", err)
				}
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("five errors took %s", took)
			}
			if err := s.Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Ready while the server is down: %v", err)
			}

			cluster.Start(t)
			for i := range 5 {
				if err := lookup(); err != nil {
					t.Errorf("lookup %d after the restart: %v", i, err)
				}
			}
		})
	}
}

// TestRestartUnnoticed restarts the server between two lookups: the pool's
// connections are dead, the server is not.
func TestRestartUnnoticed(t *testing.T) {
	cluster := pgtest.StartOwn(t)
	dsn := cluster.NewDatabase(t)
	run(t, dsn, issuerTables("")+seed(1))
	s := open(t, postgres.Config{DSN: dsn})
	cluster.Stop(t, pgtest.Fast)
	cluster.Start(t)
	if _, err := s.Lookup(t.Context(), "", []string{"token-0"}); err != nil {
		t.Errorf("lookup on a dead connection: %v", err)
	}
}

func TestBlockedLookupEndsInTime(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	run(t, dsn, issuerTables("")+seed(1))
	s := open(t, postgres.Config{DSN: dsn, LookupTimeout: 100 * time.Millisecond})
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE session"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Lookup(t.Context(), "", []string{"token-0"})
	if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want ErrUnavailable: the deadline was ours, not the caller's", err)
	}
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(t.Context(), "", []string{"token-0"}); err != nil {
		t.Errorf("after the lock is gone: %v", err)
	}
}

// TestCloseEndsLookups closes the store while a lookup waits for a lock.
func TestCloseEndsLookups(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	run(t, dsn, issuerTables("")+seed(1))
	s := open(t, postgres.Config{DSN: dsn, LookupTimeout: time.Minute})
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE session"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := s.Lookup(context.Background(), "", []string{"token-0"})
		done <- err
	}()
	for waiting := false; !waiting; {
		const blocked = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'session'::regclass)"
		if err := conn.QueryRow(t.Context(), blocked).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
}

func TestSearchPathAndQualifiedNames(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	run(t, dsn, `CREATE SCHEMA one; SET search_path TO one;`+issuerTables("")+seed(1)+
		`CREATE SCHEMA two; SET search_path TO two;`+issuerTables("")+seed(2))
	for _, tt := range []struct {
		name   string
		path   string
		schema store.Schema
		want   string
	}{
		{name: "search path", path: "two", want: `"two"."session"`},
		{name: "qualified", path: "one", schema: store.Schema{Session: store.Table{Name: "two.session"}}, want: `"two"."session"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, postgres.Config{DSN: withOption(t, dsn, "search_path", tt.path), Schema: tt.schema})
			if got := s.Describe().Session.Name; got != tt.want {
				t.Errorf("table %s, want %s", got, tt.want)
			}
			if got, err := s.Lookup(t.Context(), "", []string{"token-1"}); err != nil || !got[0].Found || got[0].User == nil {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	_, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn})
	if err == nil || !strings.Contains(err.Error(), `"one"."session", "two"."session"`) || !strings.Contains(err.Error(), "store.session_table") {
		t.Errorf("error %v, want it to list both tables and name the setting", err)
	}
}

func TestMigrationWhileOpen(t *testing.T) {
	dsn := pgtest.Start(t).NewDatabase(t)
	run(t, dsn, issuerTables("")+seed(1))
	s := open(t, postgres.Config{DSN: dsn})
	for _, step := range []string{
		`ALTER TABLE session ADD note text`,
		`ALTER TABLE session ALTER token TYPE varchar(255)`,
		`ALTER TABLE session ALTER id TYPE varchar(64)`,
	} {
		if _, err := s.Lookup(t.Context(), "", []string{"token-0"}); err != nil {
			t.Fatal(err)
		}
		run(t, dsn, step)
		if got, err := s.Lookup(t.Context(), "", []string{"token-0"}); err != nil || !got[0].Found {
			t.Errorf("after %s: %+v, %v", step, got, err)
		}
	}
	run(t, dsn, `ALTER TABLE session RENAME "expiresAt" TO expires`)
	if _, err := s.Lookup(t.Context(), "", []string{"token-0"}); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "restart") {
		t.Errorf("after a column is gone: error %v, want ErrUnavailable and the remedy", err)
	}
}

func benchmarkStore(b *testing.B) store.Store {
	dsn := pgtest.Start(b).NewDatabase(b)
	run(b, dsn, issuerTables("")+seed(storetest.BenchmarkRows))
	return open(b, postgres.Config{DSN: dsn})
}

func BenchmarkLookup1(b *testing.B)  { storetest.Benchmark(b, benchmarkStore(b), 1) }
func BenchmarkLookup64(b *testing.B) { storetest.Benchmark(b, benchmarkStore(b), 64) }
