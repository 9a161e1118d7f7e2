package postgres

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Examiner implements [store.Examiner].
type Examiner struct {
	config    *pgx.ConnConfig
	mode      pgx.QueryExecMode // the configured one
	conn      *pgx.Conn
	server    server
	mapping   *schema.Mapping
	statement *statement
	tables    store.Tables
}

var _ store.Examiner = (*Examiner)(nil)

// Examine connects and finds the tables, an index on the token or not. The error
// names what is wrong and what to do about it.
func Examine(ctx context.Context, c Config) (_ *Examiner, err error) {
	config, err := pgx.ParseConfig(c.DSN)
	if err != nil {
		return nil, errDSN
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = openTimeout
	}
	e := &Examiner{mode: config.DefaultQueryExecMode, config: config, server: serverOf(config)}
	// The mode that is configured may be what is wrong: this one works everywhere.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	where := e.server
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return nil, where.unavailable(err)
	}
	defer func() {
		if err != nil {
			closeConn(ctx, conn)
		}
	}()
	e.conn = conn
	found, err := readCatalog(ctx, conn)
	if err != nil {
		return nil, where.unavailable(err)
	}
	if e.mapping, err = schema.Discover(schema.WithIndexes(found.Catalog), c.Schema); err != nil {
		return nil, fmt.Errorf("database %s: %w", where, err)
	}
	if e.statement, err = newStatement(found, e.mapping); err != nil {
		return nil, fmt.Errorf("database %s: %w", where, err)
	}
	e.tables = store.Tables{
		Driver: "postgres", Location: where.String(), Session: e.mapping.Session.Describe(), User: e.mapping.User.Describe(),
		Columns: []string{e.mapping.Session.Columns(), e.mapping.User.Columns()},
	}
	for _, t := range []schema.MappedTable{e.mapping.Session, e.mapping.User} {
		for _, column := range t.Fields {
			if found.typeOf(t, column.Name).name == "timestamp without time zone" {
				e.tables.Zoneless = append(e.tables.Zoneless, t.SQL()+"."+schema.Quote(column.Name))
			}
		}
	}
	slices.Sort(e.tables.Zoneless)
	return e, nil
}

// Tables implements [store.Examiner].
func (e *Examiner) Tables() store.Tables { return e.tables }

// planNode is a node of EXPLAIN (FORMAT JSON).
type planNode struct {
	Type  string     `json:"Node Type"`
	Alias string     `json:"Alias"`
	Index string     `json:"Index Name"`
	Cond  string     `json:"Index Cond"`
	Plans []planNode `json:"Plans"`
}

// Plan implements [store.Examiner]. Sequential scans are made dear for the
// question: on a small table the planner prefers one whatever indexes there are.
func (e *Examiner) Plan(ctx context.Context) (store.Plan, error) {
	token := e.mapping.Session.Fields["token"].Name
	p := store.Plan{CreateIndex: fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s)", e.mapping.Session.SQL(), schema.Quote(token))}
	var text string
	err := pgx.BeginFunc(ctx, e.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "EXPLAIN (FORMAT JSON) "+e.statement.sql, []string{strings.Repeat("x", 32)}).Scan(&text)
	})
	if err != nil {
		return p, e.server.unavailable(err)
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) == 0 {
		return p, fmt.Errorf("%w: the answer to EXPLAIN cannot be read", store.ErrUnavailable)
	}
	scan, ok := plans[0].Plan.scanOf("s")
	if !ok {
		return p, fmt.Errorf("%w: the answer to EXPLAIN does not show how %s is read", store.ErrUnavailable, e.mapping.Session.SQL())
	}
	index := scan.condition()
	p.Indexed, p.Detail = index != "", scan.Type
	if p.Indexed {
		p.Detail += " by " + index
	}
	return p, nil
}

// scanOf returns the node that reads the table of an alias.
func (n planNode) scanOf(alias string) (planNode, bool) {
	if n.Alias == alias {
		return n, true
	}
	for _, child := range n.Plans {
		if found, ok := child.scanOf(alias); ok {
			return found, true
		}
	}
	return planNode{}, false
}

// condition returns the index whose condition leads to the rows; empty: none does.
func (n planNode) condition() string {
	if n.Cond != "" {
		return n.Index
	}
	for _, child := range n.Plans {
		if index := child.condition(); index != "" {
			return index
		}
	}
	return ""
}

// Clock implements [store.Examiner].
func (e *Examiner) Clock(ctx context.Context) (time.Time, bool, error) {
	var now time.Time
	if err := e.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return time.Time{}, false, e.server.unavailable(err)
	}
	return now, true, nil
}

// poolerTries is how often two connections are made to compete for a pooler's.
const poolerTries = 5

// Pooler implements [store.Examiner]. It tells a pooler by the process id that was
// announced, which is of the pooler's own making, and its mode by a server process
// that answers two connections.
func (e *Examiner) Pooler(ctx context.Context) (p store.Pooler, err error) {
	mode := e.mode
	p.Mode = modeKeyword(mode)
	p.Prepares = mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeDescribeExec
	fail := func(err error) (store.Pooler, error) { return p, e.server.unavailable(err) }

	one, err := pgx.ConnectConfig(ctx, e.config.Copy())
	if err != nil {
		return fail(err)
	}
	defer closeConn(ctx, one)
	pid, err := backend(ctx, one)
	if err != nil {
		return fail(err)
	}
	p.Present = pid != one.PgConn().PID()
	two, err := pgx.ConnectConfig(ctx, e.config.Copy())
	if err != nil {
		return fail(err)
	}
	defer closeConn(ctx, two)
	for range poolerTries {
		if err := compete(ctx, one, two, &p); err != nil {
			return fail(err)
		}
		if p.Transaction {
			p.Present = true
			return p, nil
		}
	}
	p.KeepsPrepared = true // one server process each
	return p, nil
}

// compete has a transaction on two take the server process that answered one, and
// has one run what it prepared there.
func compete(ctx context.Context, one, two *pgx.Conn, p *store.Pooler) error {
	name := "sessiond_doctor_" + rand.Text()
	prepared, err := one.Begin(ctx)
	if err != nil {
		return err
	}
	before, err := backend(ctx, one)
	if err == nil {
		_, err = one.PgConn().Prepare(ctx, name, "SELECT 1", nil)
	}
	if err := errors.Join(err, prepared.Commit(ctx)); err != nil {
		return err
	}
	tx, err := two.Begin(ctx)
	if err != nil {
		return err
	}
	held, err := backend(ctx, two)
	if err == nil && held == before {
		// one is open and idle, and two was given its process.
		p.Transaction = true
		_, err = one.PgConn().ExecPrepared(ctx, name, nil, nil, nil).Close()
		var pg *pgconn.PgError
		if p.KeepsPrepared = err == nil; errors.As(err, &pg) {
			err = nil
		}
		if !p.KeepsPrepared {
			// Nothing is to be left on a process that others use.
			_, cleared := two.Exec(ctx, "DEALLOCATE "+schema.Quote(name))
			err = errors.Join(err, cleared)
		}
	}
	return errors.Join(err, tx.Rollback(ctx))
}

// modeKeyword is a mode as default_query_exec_mode has it.
func modeKeyword(mode pgx.QueryExecMode) string {
	switch mode {
	case pgx.QueryExecModeCacheDescribe:
		return "cache_describe"
	case pgx.QueryExecModeDescribeExec:
		return "describe_exec"
	case pgx.QueryExecModeExec:
		return "exec"
	case pgx.QueryExecModeSimpleProtocol:
		return "simple_protocol"
	default:
		return "cache_statement"
	}
}

// backend returns the id of the server process that answers.
func backend(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	return pid, err
}

// Beats implements [store.Examiner].
func (e *Examiner) Beats(ctx context.Context) (map[string]int64, bool, error) {
	var there bool
	if err := e.conn.QueryRow(ctx, "SELECT to_regclass('sessiond.replica') IS NOT NULL").Scan(&there); err != nil {
		return nil, false, e.server.unavailable(err)
	}
	if !there {
		return nil, false, nil
	}
	rows, err := e.conn.Query(ctx, "SELECT id::text, beat FROM sessiond.replica")
	if err != nil {
		return nil, false, e.server.unavailable(err)
	}
	beats := make(map[string]int64)
	var id string
	var beat int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &beat}, func() error { beats[id] = beat; return nil }); err != nil {
		return nil, false, e.server.unavailable(err)
	}
	return beats, true, nil
}

// ShortestToken implements [store.Examiner].
func (e *Examiner) ShortestToken(ctx context.Context) (length, sessions int, err error) {
	token := schema.Quote(e.mapping.Session.Fields["token"].Name)
	err = e.conn.QueryRow(ctx, fmt.Sprintf("SELECT COALESCE(min(length(t)), 0), count(*) FROM (SELECT %s::text AS t FROM %s LIMIT 1000) AS sample", token, e.mapping.Session.SQL())).
		Scan(&length, &sessions)
	if err != nil {
		return 0, 0, e.server.unavailable(err)
	}
	return length, sessions, nil
}

// Close implements [store.Examiner].
func (e *Examiner) Close() error {
	closeConn(context.Background(), e.conn)
	return nil
}
