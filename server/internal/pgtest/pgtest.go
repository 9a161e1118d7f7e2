// Package pgtest gives tests a real PostgreSQL.
//
// Where SESSIOND_TEST_POSTGRES holds a DSN, that server is used: the role in it
// must be allowed to create databases. Otherwise a throw-away server is made
// from the binaries in PATH or below /usr/lib/postgresql, listening on loopback
// only. A test that finds neither fails; it is never skipped.
//
// A package that uses it hands its tests over:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// EnvDSN is the environment variable that names a server to use instead of
// starting one.
const EnvDSN = "SESSIOND_TEST_POSTGRES"

// sqlTimeout bounds each administrative statement.
const sqlTimeout = 30 * time.Second

// Cluster is a PostgreSQL server for tests. Its methods are safe for concurrent
// use, except that Stop and Start must not overlap each other.
type Cluster struct {
	dsn    string
	server *server // nil for a server from outside
	own    bool
}

// shared is the one cluster of the test binary; TestMain is the only scope that
// outlives a single test, hence a package variable.
var shared struct {
	mu      sync.Mutex
	inMain  bool
	cluster *Cluster
	err     error
}

// Main runs the tests and then ends the shared cluster, leaving no process and
// no file behind. It returns the code for os.Exit.
func Main(m interface{ Run() int }) int {
	shared.mu.Lock()
	shared.inMain = true
	shared.mu.Unlock()

	code := m.Run()

	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster != nil && shared.cluster.server != nil {
		if err := shared.cluster.server.remove(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = max(code, 1)
		}
	}
	shared.cluster, shared.err, shared.inMain = nil, nil, false
	return code
}

// Start returns the cluster that all tests of the binary share, started by the
// first call. It must not be stopped; see [StartOwn].
func Start(t testing.TB) *Cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.inMain {
		t.Fatal("pgtest: TestMain does not call pgtest.Main, so nothing would end the server")
	}
	if shared.cluster == nil && shared.err == nil {
		if dsn := os.Getenv(EnvDSN); dsn != "" {
			shared.cluster = &Cluster{dsn: dsn}
		} else {
			shared.cluster, shared.err = newCluster()
		}
	}
	if shared.err != nil {
		t.Fatalf("pgtest: %v", shared.err)
	}
	return shared.cluster
}

// StartOwn returns a cluster of the test's own, which the test may stop and
// start. It is always made from local binaries, and ends with the test.
func StartOwn(t testing.TB) *Cluster {
	t.Helper()
	c, err := newCluster()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	c.own = true
	t.Cleanup(func() {
		if err := c.server.remove(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return c
}

func newCluster() (*Cluster, error) {
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	return &Cluster{dsn: s.dsn(), server: s}, nil
}

// DSN returns the connection string of the superuser for database db. Port and
// password stay the same over Stop and Start.
func (c *Cluster) DSN(db string) string {
	dsn, err := withDatabase(c.dsn, db)
	if err != nil {
		// Connecting with it then fails and names the variable.
		return EnvDSN + " is not a valid URL"
	}
	return dsn
}

// withDatabase returns dsn, a URL or a keyword/value string, for another database.
func withDatabase(dsn, db string) (string, error) {
	if !strings.Contains(dsn, "://") {
		return dsn + " dbname='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(db) + "'", nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("not a URL") // the parser's text would repeat the password
	}
	u.Path = "/" + db
	return u.String(), nil
}

// NewDatabase creates an empty database and returns its DSN. The database is
// dropped at the end of the test, whoever is still connected to it.
func (c *Cluster) NewDatabase(t testing.TB) string {
	t.Helper()
	name := "sessiond_test_" + strings.ToLower(rand.Text()[:16])
	if err := c.exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("pgtest: create database: %v", err)
	}
	if !c.own { // else the whole server goes, and may be down by then
		t.Cleanup(func() {
			// The test's own context is over in a cleanup.
			if err := c.exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
				t.Errorf("pgtest: drop database: %v", err)
			}
		})
	}
	return c.DSN(name)
}

func (c *Cluster) exec(ctx context.Context, sql string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, sqlTimeout)
	defer cancel()
	dsn := c.dsn
	if c.server != nil {
		dsn = c.DSN("postgres")
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// Mode is a way to shut the server down, as pg_ctl names them.
type Mode string

// The modes.
const (
	// Smart waits until all clients have gone.
	Smart Mode = "smart"
	// Fast ends all connections with an error.
	Fast Mode = "fast"
	// Immediate cuts everything, as a crash would.
	Immediate Mode = "immediate"
)

// Stop shuts the server down and waits for its end.
func (c *Cluster) Stop(t testing.TB, mode Mode) {
	t.Helper()
	if !c.own {
		t.Fatal("pgtest: only a cluster from StartOwn can be stopped")
	}
	if err := c.server.stop(mode); err != nil {
		t.Fatalf("pgtest: stop: %v", err)
	}
}

// Start starts the server again after Stop, on the same port and with the same
// data, and waits until it accepts connections.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	if !c.own {
		t.Fatal("pgtest: only a cluster from StartOwn can be started again")
	}
	if err := c.server.start(); err != nil {
		t.Fatalf("pgtest: start: %v", err)
	}
}
