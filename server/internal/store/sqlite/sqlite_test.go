package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/server/internal/store/storetest"
)

// issuer opens path as the issuer would, in another connection.
func issuer(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func run(t testing.TB, db *sql.DB, statements string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statements, args...); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, c sqlite.Config) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), c)
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

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T, f storetest.Fixture) store.Store {
		path := filepath.Join(t.TempDir(), "a #1%?.sqlite")
		db := issuer(t, "file:"+strings.NewReplacer("%", "%25", "#", "%23", "?", "%3f").Replace(path))
		run(t, db, f.SQL(storetest.SQLite()))
		return open(t, sqlite.Config{Path: path, Schema: f.Schema})
	})
}

func TestCreateAndSeed(t *testing.T) {
	t.Chdir(t.TempDir())
	path := "new.sqlite" // relative, as the embedded default's
	s := open(t, sqlite.Config{Path: path, Create: true})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want only the owner to have access", info.Mode())
	}

	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	ip := "203.0.113.7"
	user := store.User{ID: "u", Name: "Alice", Email: "alice@example.com", EmailVerified: true, CreatedAt: at, UpdatedAt: at}
	session := store.Session{ID: "s", UserID: "u", CreatedAt: at, UpdatedAt: at, ExpiresAt: at.Add(time.Hour), IPAddress: &ip}
	for _, token := range []string{"one", "two"} {
		session.ID = "s-" + token
		if err := sqlite.Seed(t.Context(), path, user, session, token); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Lookup(t.Context(), "", []string{"two"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Record{{Found: true, Session: session, User: &user}}, got); diff != "" {
		t.Errorf("mismatch (-want +got):\n%s", diff)
	}

	// A second start keeps what is there.
	again := open(t, sqlite.Config{Path: path, Create: true})
	if got, err := again.Lookup(t.Context(), "", []string{"one"}); err != nil || !got[0].Found {
		t.Errorf("after a second start: %v, %v", got, err)
	}
}

func TestStoreNeverWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing.sqlite")
	if _, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open without Create made the file (%v)", err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	rubbish := filepath.Join(dir, "rubbish")
	if err := os.WriteFile(rubbish, []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	run(t, issuer(t, empty), "CREATE TABLE other (id integer)")
	for _, tt := range []struct{ name, path, want string }{
		{"not a database", rubbish, "is not an SQLite database"},
		{"no tables", empty, "no table looks like Better Auth's session table"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sqlite.Open(t.Context(), sqlite.Config{Path: tt.path})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %v, want it to say %q and name the file", err, tt.want)
			}
		})
	}
}

func TestReplacedFileIsNoticed(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "db"), filepath.Join(dir, "other")
	s := open(t, sqlite.Config{Path: path, Create: true})
	open(t, sqlite.Config{Path: other, Create: true})
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(t.Context(), "", []string{"a"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable: the open file is not the issuer's any more", err)
	}
}

func TestReadsWhileTheIssuerWrites(t *testing.T) {
	for _, mode := range []string{"DELETE", "WAL"} {
		t.Run(mode, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			seed(t, path, 1)
			db := issuer(t, path)
			run(t, db, "PRAGMA journal_mode = "+mode)
			s := open(t, sqlite.Config{Path: path})
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(t.Context(), `DELETE FROM session`); err != nil {
				t.Fatal(err)
			}
			found := func() bool {
				t.Helper()
				got, err := s.Lookup(t.Context(), "", []string{"token-0"})
				if err != nil {
					t.Fatal(err)
				}
				return got[0].Found
			}
			if !found() {
				t.Error("a deletion counted before it was committed")
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if found() {
				t.Error("a committed deletion does not count")
			}
		})
	}
}

func TestLockedFileIsUnavailable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	seed(t, path, 1)
	db := issuer(t, path)
	db.SetMaxOpenConns(1)
	run(t, db, "PRAGMA journal_mode = DELETE")
	s := open(t, sqlite.Config{Path: path})
	run(t, db, "BEGIN EXCLUSIVE")
	start := time.Now()
	_, err := s.Lookup(t.Context(), "", []string{"token-0"})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the answer took %s", took)
	}
	run(t, db, "ROLLBACK")
	if _, err := s.Lookup(t.Context(), "", []string{"token-0"}); err != nil {
		t.Errorf("after the lock is gone: %v", err)
	}
}

func TestStoredForms(t *testing.T) {
	want := time.Date(2026, 3, 1, 10, 20, 30, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		typ   string
		value any
	}{
		{"ISO", "date", "2026-03-01T10:20:30.000Z"},
		{"ISO with offset", "text", "2026-03-01T12:20:30.0009+02:00"},
		{"SQLite's own", "datetime", "2026-03-01 10:20:30"},
		{"seconds", "integer", want.Unix()},
		{"milliseconds", "integer", want.UnixMilli()},
		{"real", "real", float64(want.UnixMilli()) + 0.75},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			db := issuer(t, path)
			run(t, db, `CREATE TABLE user (id text PRIMARY KEY, name text, email text, emailVerified text, createdAt text, updatedAt text);
				CREATE TABLE session (id text, token text UNIQUE, userId text, expiresAt `+tt.typ+`, createdAt `+tt.typ+`, updatedAt `+tt.typ+`);
				INSERT INTO user VALUES ('u', 'n', 'e', 'true', '2026-03-01', NULL)`)
			run(t, db, `INSERT INTO session VALUES ('s', 'a', 'u', ?1, ?1, ?1)`, tt.value)
			got, err := open(t, sqlite.Config{Path: path}).Lookup(t.Context(), "", []string{"a"})
			if err != nil {
				t.Fatal(err)
			}
			if got[0].Unreadable != "" || !got[0].Session.ExpiresAt.Equal(want) || !got[0].User.EmailVerified {
				t.Errorf("got %+v, want it to expire at %s", got[0], want)
			}
		})
	}
}

func TestPlanUsesTheIndexes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	seed(t, path, 100)
	db := issuer(t, path)
	statements, err := sqlite.Statements(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range statements {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+statement, "[]")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused any
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(detail, "SCAN s") || strings.HasPrefix(detail, "SCAN u") {
				t.Errorf("%s: %s", statement, detail)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// seed makes a file with n sessions of as many users, tokens "token-0" and so on.
func seed(t testing.TB, path string, n int) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, db, `
		WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < ?1-1)
		INSERT INTO user SELECT 'u'||i, 'name', 'e'||i, 1, NULL, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z' FROM n;
		WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < ?1-1)
		INSERT INTO session SELECT 's'||i, '2099-01-01T00:00:00.000Z', 'token-'||i, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', NULL, NULL, 'u'||i FROM n`, n)
	if err := db.Close(); err != nil { // a change of the journal's mode needs the file to itself
		t.Fatal(err)
	}
}

func benchmarkStore(b *testing.B) store.Store {
	path := filepath.Join(b.TempDir(), "db")
	seed(b, path, storetest.BenchmarkRows)
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func BenchmarkLookup1(b *testing.B)  { storetest.Benchmark(b, benchmarkStore(b), 1) }
func BenchmarkLookup64(b *testing.B) { storetest.Benchmark(b, benchmarkStore(b), 64) }
