package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
)

func TestExamine(t *testing.T) {
	tests := []struct {
		name    string
		change  []string
		indexed bool
	}{
		{"as the issuer makes it", nil, true},
		{"an index of another collation", []string{
			`CREATE TABLE s2 AS SELECT * FROM session`, `DROP TABLE session`, `ALTER TABLE s2 RENAME TO session`,
			`CREATE INDEX t ON session (token COLLATE NOCASE)`,
		}, false},
		{"none", []string{`CREATE TABLE s2 AS SELECT * FROM session`, `DROP TABLE session`, `ALTER TABLE s2 RENAME TO session`}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "issuer.sqlite")
			st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Create: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			err = sqlite.Seed(t.Context(), path, store.User{ID: "u1", CreatedAt: now, UpdatedAt: now},
				store.Session{ID: "s1", UserID: "u1", CreatedAt: now, UpdatedAt: now, ExpiresAt: now}, "0123456789")
			if err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, text := range tt.change {
				if _, err := db.ExecContext(t.Context(), text); err != nil {
					t.Fatal(err)
				}
			}
			e, err := sqlite.Examine(t.Context(), sqlite.Config{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if got := e.Tables(); got.Session.Name != `"session"` || got.User.Name != `"user"` {
				t.Errorf("tables %+v", got)
			}
			p, err := e.Plan(t.Context())
			if err != nil || p.Indexed != tt.indexed || p.CreateIndex != `CREATE UNIQUE INDEX session_token_idx ON "session" ("token")` {
				t.Errorf("plan %+v, %v; want indexed %t", p, err, tt.indexed)
			}
			if length, n, err := e.ShortestToken(t.Context()); err != nil || length != 10 || n != 1 {
				t.Errorf("shortest token %d of %d, %v", length, n, err)
			}
			if _, ok, err := e.Clock(t.Context()); ok || err != nil {
				t.Errorf("a file has a clock: %v", err)
			}
			if _, ok, err := e.Beats(t.Context()); ok || err != nil {
				t.Errorf("a file has a registry: %v", err)
			}
			if p, err := e.Pooler(t.Context()); p.Present || err != nil {
				t.Errorf("a file has a pooler: %v", err)
			}
		})
	}
	if _, err := sqlite.Examine(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "store.path") {
		t.Errorf("no file: %v", err)
	}
}
