// Package postgres reads sessions from PostgreSQL 12 or later.
//
// The role of the connection needs no more than
//
//	GRANT CONNECT ON DATABASE app TO sessiond;
//	GRANT USAGE ON SCHEMA public TO sessiond;
//	GRANT SELECT ON session, "user" TO sessiond;
//
// and SELECT may be granted by column: columns it may not read are neither read
// nor returned. The store never writes. The change feed (Feed) does, needs
// PostgreSQL 13 and the rights that "sessiond feed install --role" gives.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// The defaults of Config.
const (
	DefaultConnectTimeout = time.Second
	DefaultLookupTimeout  = time.Second
)

// openTimeout bounds Open, which reads the whole catalog.
const openTimeout = 15 * time.Second

// Config says where the sessions are.
type Config struct {
	// DSN is a connection URL or keyword/value string, as libpq has them, plus
	// pgx's own keywords. Behind PgBouncer in transaction mode add
	// default_query_exec_mode=exec, which prepares no statements.
	DSN string
	// Schema overrides what is found in the catalog.
	Schema store.Schema
	// Zone is that of columns of type timestamp without time zone; nil: UTC.
	Zone *time.Location
	// MaxConns is the most connections at a time; 0: the DSN's pool_max_conns,
	// else the larger of 4 and the number of CPUs.
	MaxConns int32
	// ConnectTimeout bounds making a connection; 0: the DSN's connect_timeout,
	// else DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// LookupTimeout bounds each Lookup and Ready, waiting for a free connection
	// included; 0: DefaultLookupTimeout.
	LookupTimeout time.Duration
}

// Store reads sessions from a PostgreSQL database. It is safe for concurrent use.
type Store struct {
	pool        *pgxpool.Pool
	statement   *statement
	clues       string // the statement of Clues
	description store.Description
	server      server
	zone        *time.Location
	timeout     time.Duration

	closing context.Context // done once Close was called
	close   context.CancelFunc
	closed  atomic.Bool
}

var _ store.Store = (*Store)(nil)

// Open connects, finds the tables and checks that the lookup works. The caller
// must Close the store. An error names what is wrong and what to do about it,
// and repeats neither the password nor any value.
func Open(ctx context.Context, c Config) (*Store, error) {
	pc, err := parseConfig(c)
	if err != nil {
		return nil, err
	}
	s := &Store{
		server:  serverOf(pc.ConnConfig),
		zone:    c.Zone,
		timeout: c.LookupTimeout,
	}
	if s.zone == nil {
		s.zone = time.UTC
	}
	if s.timeout <= 0 {
		s.timeout = DefaultLookupTimeout
	}
	s.closing, s.close = context.WithCancel(context.WithoutCancel(ctx))
	if s.pool, err = pgxpool.NewWithConfig(s.closing, pc); err != nil { //nolint:contextcheck // the pool outlives Open
		s.close()
		return nil, s.server.unavailable(err)
	}
	if err := s.discover(ctx, c.Schema); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.description.ZoneAssumed = s.description.Zone != "" && c.Zone == nil
	return s, nil
}

// parseConfig reads the connection string. The error does not repeat it.
func parseConfig(c Config) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, errDSN
	}
	if c.MaxConns > 0 {
		pc.MaxConns = c.MaxConns
	}
	switch {
	case c.ConnectTimeout > 0:
		pc.ConnConfig.ConnectTimeout = c.ConnectTimeout
	case pc.ConnConfig.ConnectTimeout == 0:
		pc.ConnConfig.ConnectTimeout = DefaultConnectTimeout
	}
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "sessiond"
	}
	return pc, nil
}

// discover maps the tables and runs the lookup once, for nobody.
func (s *Store) discover(ctx context.Context, override store.Schema) error {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	fail := func(err error) error {
		if ctx.Err() != nil {
			return fmt.Errorf("open the session store: %w", ctx.Err())
		}
		return s.server.unavailable(err)
	}
	conn, err := s.pool.Acquire(opening)
	if err != nil {
		return fail(err)
	}
	defer conn.Release()
	c, err := readCatalog(opening, conn.Conn())
	if err != nil {
		return fail(err)
	}
	m, err := schema.Discover(c.Catalog, override)
	if err != nil {
		return fmt.Errorf("database %s: %w", s.server, err)
	}
	if s.statement, err = newStatement(c, m); err != nil {
		return fmt.Errorf("database %s: %w", s.server, err)
	}
	if _, err := conn.Exec(opening, s.statement.sql, []string{}); err != nil {
		return fail(err)
	}
	s.clues = cluesSQL(c, m)
	zone := ""
	if s.statement.localExpiry() {
		zone = s.zone.String()
	}
	s.description = store.Description{
		Zone:     zone,
		Driver:   "postgres",
		Location: s.server.String(),
		Session:  m.Session.Describe(),
		User:     m.User.Describe(),
	}
	return nil
}

// Lookup implements [store.Store].
func (s *Store) Lookup(ctx context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	records := make([]store.Record, len(tokens))
	asked := make([]string, 0, len(tokens))
	for _, t := range tokens {
		if schema.Storable(t) {
			asked = append(asked, t)
		}
	}
	if s.closed.Load() {
		return nil, errClosed
	}
	if len(asked) == 0 {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("session lookup: %w", err)
		}
		return records, nil
	}
	found := make(map[string]store.Record, len(asked))
	if err := s.run(ctx, func(ctx context.Context) error { return s.query(ctx, era, asked, found) }); err != nil {
		return nil, err
	}
	for i, t := range tokens {
		records[i] = found[t]
	}
	return records, nil
}

// query reads the rows of tokens into found. Rows that the database's collation
// adds are left under their own tokens, for which nobody asks.
func (s *Store) query(ctx context.Context, era store.Era, tokens []string, found map[string]store.Record) error {
	clear(found)
	if era != "" {
		return acquired(ctx, s.pool, func(ctx context.Context, conn *pgxpool.Conn) error {
			return s.queryIn(ctx, conn.Conn(), era, tokens, found)
		})
	}
	rows, err := s.pool.Query(ctx, s.statement.sql, tokens)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		s.add(rows, 0, found)
	}
	return rows.Err()
}

// queryIn is query with the era checked in the same statement (F5). The
// connection to a server of another era is ended.
func (s *Store) queryIn(ctx context.Context, conn *pgx.Conn, era store.Era, tokens []string, found map[string]store.Record) error {
	rows, err := conn.Query(ctx, s.statement.eraSQL, tokens)
	if err != nil {
		return err
	}
	defer rows.Close()
	var got store.Era
	for rows.Next() {
		raw := rows.RawValues() // timeline and life come as text in either format
		got = eraOf(string(raw[0]), string(raw[1]))
		if got != era {
			break
		}
		if raw[eraColumns] != nil {
			s.add(rows, eraColumns, found)
		}
	}
	rows.Close()
	switch {
	case rows.Err() != nil:
		return rows.Err()
	case got != era:
		hangUp(ctx, conn)
		clear(found)
		return &store.EraError{Got: got}
	}
	return nil
}

// add decodes the row under the cursor, whose first columns are not the lookup's.
func (s *Store) add(rows pgx.Rows, skip int, found map[string]store.Record) {
	fields, raw := rows.FieldDescriptions()[skip:], rows.RawValues()[skip:]
	token := string(raw[0])
	if _, again := found[token]; again {
		found[token] = store.Record{Found: true, Unreadable: "more than one row has this token: make the token column unique"}
		return
	}
	r := reader{types: rows.Conn().TypeMap(), zone: s.zone}
	found[token] = schema.Assemble(s.statement.slots, func(i int) (store.Attribute, error) {
		f := fields[i+1]
		return r.value(s.statement.cells[i], f.DataTypeOID, f.Format, raw[i+1])
	})
}

// run calls f in bounded time. Where f fails for a reason that lies in the
// connection, it is called once more on a fresh one: after the server was
// restarted, the pool's connections are dead, and nobody but us need notice.
func (s *Store) run(ctx context.Context, f func(context.Context) error) error {
	if s.closed.Load() {
		return errClosed
	}
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	stop := context.AfterFunc(s.closing, cancel) //nolint:contextcheck // Close ends lookups too
	defer stop()

	err := f(bounded)
	var other *store.EraError
	if errors.As(err, &other) {
		return other
	}
	if err != nil && bounded.Err() == nil && stale(err) {
		s.pool.Reset()
		err = f(bounded)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("session lookup: %w", ctx.Err())
	case s.closed.Load():
		return errClosed
	case errors.As(err, &other):
		return other
	case bounded.Err() != nil:
		return fmt.Errorf("%w: %s gave no answer within %s: check its load and the network", store.ErrUnavailable, s.server, s.timeout)
	}
	return s.server.unavailable(err)
}

// Clues implements [store.Store].
func (s *Store) Clues(ctx context.Context, token string) (c store.Clues, err error) {
	if !schema.Storable(token) {
		token = ""
	}
	err = s.run(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, s.clues, token).Scan(&c.Empty, &c.SessionID, &c.Hidden)
	})
	return c, err
}

// Ready implements [store.Store].
func (s *Store) Ready(ctx context.Context) error {
	return s.run(ctx, func(ctx context.Context) error {
		// LIMIT 0 tells it from a lookup in pg_stat_statements.
		_, err := s.pool.Exec(ctx, s.statement.sql+" LIMIT 0", []string{})
		return err
	})
}

// Describe implements [store.Store].
func (s *Store) Describe() store.Description { return s.description }

// Close implements [store.Store]. It waits for the lookups under way to end.
func (s *Store) Close() error {
	if s.closed.CompareAndSwap(false, true) {
		s.close()
		s.pool.Close()
	}
	return nil
}
