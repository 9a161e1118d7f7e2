package pgtest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/sessiond/sessiond/server/internal/pgtest"
)

// mainFunc makes a function usable where a testing.M is expected.
type mainFunc func() int

func (f mainFunc) Run() int { return f() }

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(mainFunc(func() int { return pgtest.Main(m) }))
}

// connect opens a connection that ends with the test.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // may be cut already
	return conn
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestDatabasesAreEmptyAndApart(t *testing.T) {
	c := pgtest.Start(t)
	a, b := connect(t, c.NewDatabase(t)), connect(t, c.NewDatabase(t))
	if _, err := a.Exec(t.Context(), "CREATE TABLE only_here (id int)"); err != nil {
		t.Fatal(err)
	}
	const tables = "SELECT count(*) FROM pg_class WHERE relname = 'only_here'"
	if na, nb := query[int](t, a, tables), query[int](t, b, tables); na != 1 || nb != 0 {
		t.Errorf("only_here exists %d times in its own database and %d times in the other, want 1 and 0", na, nb)
	}
}

func TestDatabaseIsDroppedWithTheTest(t *testing.T) {
	c := pgtest.Start(t)
	var name string
	t.Run("inner", func(t *testing.T) {
		conn := connect(t, c.NewDatabase(t))
		name = query[string](t, conn, "SELECT current_database()")
	})
	conn := connect(t, c.NewDatabase(t))
	if query[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = '"+name+"')") {
		t.Errorf("database %s is still there", name)
	}
}

func TestStopAndStart(t *testing.T) {
	for _, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			c := pgtest.StartOwn(t)
			dsn := c.NewDatabase(t)
			conn := connect(t, dsn)
			if _, err := conn.Exec(t.Context(), "CREATE TABLE kept (id int)"); err != nil {
				t.Fatal(err)
			}
			c.Stop(t, mode)
			if err := conn.Ping(t.Context()); err == nil {
				t.Error("the connection outlived the server")
			}
			if _, err := pgx.Connect(t.Context(), dsn); err == nil {
				t.Fatal("connected to a stopped server")
			}
			c.Start(t)
			query[int](t, connect(t, dsn), "SELECT count(*) FROM kept")
		})
	}
}

func TestServerNeedsThePassword(t *testing.T) {
	c := pgtest.StartOwn(t)
	before, after, _ := strings.Cut(c.DSN("postgres"), "@")
	wrong := before[:len(before)-1] + "@" + after
	if _, err := pgx.Connect(t.Context(), wrong); err == nil {
		t.Error("connected with a wrong password")
	}
}
