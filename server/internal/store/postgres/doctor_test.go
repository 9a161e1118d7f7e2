package postgres_test

import (
	"fmt"
	osexec "os/exec" // exec runs a statement
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/postgres"
)

func examine(t *testing.T, c postgres.Config) *postgres.Examiner {
	t.Helper()
	e, err := postgres.Examine(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestExamine(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 3)
	e := examine(t, postgres.Config{DSN: dsn})
	if got := e.Tables(); !strings.HasSuffix(got.Session.Name, `"session"`) || got.Session.Columns["token"] != "token" || len(got.Zoneless) != 0 {
		t.Errorf("tables %+v", got)
	}
	if p, err := e.Plan(t.Context()); err != nil || !p.Indexed {
		t.Errorf("plan %+v, %v", p, err)
	}
	if now, ok, err := e.Clock(t.Context()); err != nil || !ok || time.Since(now).Abs() > time.Minute {
		t.Errorf("clock %v, %v, %v", now, ok, err)
	}
	if p, err := e.Pooler(t.Context()); err != nil || p.Present || p.Transaction || !p.Prepares || !p.KeepsPrepared || p.Mode != "cache_statement" {
		t.Errorf("pooler %+v, %v", p, err)
	}
	if length, n, err := e.ShortestToken(t.Context()); err != nil || length != len("token-0") || n != 3 {
		t.Errorf("shortest token %d of %d, %v", length, n, err)
	}
	if beats, ok, err := e.Beats(t.Context()); err != nil || !ok || len(beats) != 0 {
		t.Errorf("beats %v, %v, %v", beats, ok, err)
	}
	r := register(t, openFeed(t, dsn))
	if beats, ok, err := e.Beats(t.Context()); err != nil || !ok || beats[r.ID] != 1 {
		t.Errorf("beats %v, %v, %v", beats, ok, err)
	}
}

// TestExaminePlan: an index that does not lead to a token is told from one that
// does, on a table so small that the planner would read it whole.
func TestExaminePlan(t *testing.T) {
	tests := []struct {
		name    string
		change  []string
		indexed bool
	}{
		{"unique", nil, true},
		{"hash", []string{"create index on session using hash (token)"}, true},
		{"none", []string{}, false},
		{"of another collation", []string{`create index on session (token collate "C")`}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dsn := installed(t, pgtest.Start(t), 3)
			conn := connect(t, dsn)
			if tt.change != nil {
				exec(t, conn, "alter table session drop constraint if exists session_token_key")
				if there := scan[int](t, conn, "select count(*) from pg_index where indrelid = 'session'::regclass and not indisprimary"); there != 0 {
					t.Fatalf("%d other indexes", there)
				}
				for _, sql := range tt.change {
					exec(t, conn, sql)
				}
			}
			p, err := examine(t, postgres.Config{DSN: dsn}).Plan(t.Context())
			if err != nil || p.Indexed != tt.indexed {
				t.Errorf("plan %+v, %v; want indexed %t", p, err, tt.indexed)
			}
			if want := `CREATE UNIQUE INDEX CONCURRENTLY ON "public"."session" ("token")`; p.CreateIndex != want {
				t.Errorf("advice %q, want %q", p.CreateIndex, want)
			}
		})
	}
}

// TestExamineZoneless: Better Auth 1.2 makes such columns.
func TestExamineZoneless(t *testing.T) {
	dsn := installed(t, pgtest.Start(t), 1)
	exec(t, connect(t, dsn), `alter table session alter "expiresAt" type timestamp`)
	if got := examine(t, postgres.Config{DSN: dsn}).Tables().Zoneless; len(got) != 1 || !strings.HasSuffix(got[0], `."expiresAt"`) {
		t.Errorf("columns without a zone: %q", got)
	}
}

// TestExaminePooler: whatever mode is configured, behind PgBouncer in transaction
// mode that is said, and nothing stays prepared on its connections.
func TestExaminePooler(t *testing.T) {
	dsn := installed(t, pgtest.StartOwn(t), 1)
	through := newPooler(t, dsn)
	for _, mode := range []string{"exec", "cache_statement"} {
		e := examine(t, postgres.Config{DSN: withOption(t, through, "default_query_exec_mode", mode)})
		p, err := e.Pooler(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !p.Present || !p.Transaction || p.Mode != mode || p.Prepares != (mode == "cache_statement") {
			t.Errorf("%s: %+v", mode, p)
		}
		if old := poolerVersion(t) < 21; old && p.KeepsPrepared {
			t.Errorf("%s: a PgBouncer that knows no prepared statements keeps them: %+v", mode, p)
		}
		if left := scan[int](t, connect(t, withOption(t, through, "default_query_exec_mode", "exec")), "select count(*) from pg_prepared_statements where name like 'sessiond%'"); left != 0 {
			t.Errorf("%s: %d statements stay prepared", mode, left)
		}
	}
}

// poolerVersion is the minor version of the PgBouncer that newPooler runs; 1.21 was
// the first to keep prepared statements.
func poolerVersion(t *testing.T) int {
	t.Helper()
	path, err := osexec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer"
	}
	out, err := osexec.CommandContext(t.Context(), path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "PgBouncer %d.%d", &major, &minor); err != nil || major != 1 {
		t.Fatalf("version of PgBouncer: %q, %v", out, err)
	}
	return minor
}

func TestExamineRefuses(t *testing.T) {
	if _, err := postgres.Examine(t.Context(), postgres.Config{DSN: pgtest.Start(t).NewDatabase(t)}); err == nil || !strings.Contains(err.Error(), "no table looks like") {
		t.Errorf("an empty database: %v", err)
	}
	if _, err := postgres.Examine(t.Context(), postgres.Config{DSN: "postgres://nobody@127.0.0.1:1/x"}); err == nil || !strings.Contains(err.Error(), store.ErrUnavailable.Error()) {
		t.Errorf("nothing there: %v", err)
	}
}
