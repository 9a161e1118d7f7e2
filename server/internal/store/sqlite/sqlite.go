// Package sqlite reads sessions from an SQLite file, the issuer's or one made
// here for a start without configuration.
//
// The file is opened read only; the issuer may write it at the same time. A path
// whose file is replaced by another is noticed: the store is then unavailable
// rather than out of date.
package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

const (
	// busyTimeout bounds waiting for a writer's lock, in milliseconds.
	busyTimeout = "900"
	// lookupTimeout bounds each Lookup and Ready.
	lookupTimeout = time.Second
	// openTimeout bounds Open.
	openTimeout = 15 * time.Second
)

// Config says where the sessions are.
type Config struct {
	// Path is the file.
	Path string
	// Create makes the file, with Better Auth's schema and for its owner only,
	// if there is none. A file that has tables is left as it is.
	Create bool
	// Schema overrides what is found in the file.
	Schema store.Schema
}

// Store reads sessions from a file. It is safe for concurrent use.
type Store struct {
	db          *sql.DB
	one, many   *sql.Stmt
	slots       []schema.Slot
	description store.Description
	path        string
	file        os.FileInfo // the file that is open

	closing context.Context // done once Close was called
	close   context.CancelFunc
	closed  atomic.Bool
}

var _ store.Store = (*Store)(nil)

// Open opens the file, finds the tables and prepares the lookup. The caller must
// Close the store. An error names what is wrong and what to do about it.
func Open(ctx context.Context, c Config) (*Store, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("path of the session store: %w", err)
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if c.Create {
		if err := create(opening, path); err != nil {
			return nil, err
		}
	}
	file, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s cannot be opened: check store.path and the file's permissions", store.ErrUnavailable, path)
	}
	db, err := sql.Open("sqlite", dsn(path, "ro")+"&_pragma=query_only(1)")
	if err != nil {
		return nil, unavailable(path, err)
	}
	conns := max(4, runtime.NumCPU())
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	s := &Store{db: db, path: path, file: file}
	s.closing, s.close = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.discover(opening, c.Schema); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("open the session store: %w", ctx.Err())
		}
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// dsn returns the driver's name for path, opened in mode ro or rw.
func dsn(path, mode string) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: "mode=" + mode + "&_pragma=busy_timeout(" + busyTimeout + ")"}
	return u.String()
}

// discover maps the tables and prepares the lookup.
func (s *Store) discover(ctx context.Context, override store.Schema) error {
	c, err := readCatalog(ctx, s.db)
	if err != nil {
		return unavailable(s.path, err)
	}
	m, err := schema.Discover(c, override)
	if err != nil {
		return fmt.Errorf("database %s: %w", s.path, err)
	}
	s.slots = m.Slots()
	text := lookupSQL(m, s.slots)
	if s.one, err = s.db.PrepareContext(ctx, text+oneToken); err != nil {
		return unavailable(s.path, err)
	}
	if s.many, err = s.db.PrepareContext(ctx, text+manyTokens); err != nil {
		return unavailable(s.path, err)
	}
	s.description = store.Description{
		Driver:   "sqlite",
		Location: s.path,
		Session:  m.Session.Describe(),
		User:     m.User.Describe(),
	}
	return nil
}

// The ends of the lookup: for a token, and for a JSON array of them.
const (
	oneToken   = "= ?1"
	manyTokens = "IN (SELECT value FROM json_each(?1))"
)

// lookupSQL returns the lookup without its end. Its answer is the token, then
// the slots.
func lookupSQL(m *schema.Mapping, slots []schema.Slot) string {
	token := "s." + schema.Quote(m.Session.Fields["token"].Name)
	// The unary plus keeps the driver from reading values by the column's
	// declared type; it changes nothing else.
	exprs := []string{"+" + token}
	for _, slot := range slots {
		table := "s."
		if slot.User {
			table = "u."
		}
		exprs = append(exprs, "+"+table+schema.Quote(slot.Column.Name))
	}
	return fmt.Sprintf("SELECT %s FROM %s AS s LEFT JOIN %s AS u ON u.%s = s.%s WHERE %s ",
		strings.Join(exprs, ", "), m.Session.SQL(), m.User.SQL(),
		schema.Quote(m.User.Fields["id"].Name), schema.Quote(m.Session.Fields["userId"].Name), token)
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
	found := make(map[string]store.Record, len(asked))
	if err := s.run(ctx, func(ctx context.Context) error { return s.query(ctx, asked, found) }); err != nil {
		return nil, err
	}
	for i, t := range tokens {
		records[i] = found[t]
	}
	return records, nil
}

// query reads the rows of tokens into found. Rows that the column's collation
// adds are left under their own tokens, for which nobody asks.
func (s *Store) query(ctx context.Context, tokens []string, found map[string]store.Record) error {
	var statement *sql.Stmt
	var arg string
	switch len(tokens) {
	case 0:
		return nil
	case 1:
		statement, arg = s.one, tokens[0]
	default:
		list, err := json.Marshal(tokens)
		if err != nil {
			return err
		}
		statement, arg = s.many, string(list)
	}
	rows, err := statement.QueryContext(ctx, arg)
	if err != nil {
		return err
	}
	defer rows.Close()
	var token any
	values := make([]any, len(s.slots))
	targets := []any{&token}
	for i := range values {
		targets = append(targets, &values[i])
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		t, ok := token.(string)
		if !ok {
			continue // not text, so not what was asked for
		}
		if _, again := found[t]; again {
			found[t] = store.Record{Found: true, Unreadable: "more than one row has this token: make the token column unique"}
			continue
		}
		found[t] = schema.Assemble(s.slots, func(i int) (store.Attribute, error) {
			return decode(s.slots[i], values[i])
		})
	}
	return rows.Err()
}

// run calls f in bounded time, on the file that was opened.
func (s *Store) run(ctx context.Context, f func(context.Context) error) error {
	if s.closed.Load() {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("session lookup: %w", err)
	}
	if now, err := os.Stat(s.path); err != nil || !os.SameFile(s.file, now) {
		return fmt.Errorf("%w: %s was deleted or replaced: restart", store.ErrUnavailable, s.path)
	}
	bounded, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	stop := context.AfterFunc(s.closing, cancel) //nolint:contextcheck // Close ends lookups too
	defer stop()

	err := f(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("session lookup: %w", ctx.Err())
	case s.closed.Load():
		return errClosed
	case bounded.Err() != nil:
		return fmt.Errorf("%w: %s gave no answer within %s: check what locks it", store.ErrUnavailable, s.path, lookupTimeout)
	}
	return unavailable(s.path, err)
}

// Ready implements [store.Store].
func (s *Store) Ready(ctx context.Context) error {
	return s.run(ctx, func(ctx context.Context) error {
		return s.query(ctx, []string{""}, make(map[string]store.Record))
	})
}

// Findings implements [store.Store].
func (s *Store) Findings(context.Context, string) []store.Finding { return nil }

// Describe implements [store.Store].
func (s *Store) Describe() store.Description { return s.description }

// Close implements [store.Store]. It waits for the lookups under way to end.
func (s *Store) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return nil
	}
	s.close()
	if err := s.db.Close(); err != nil {
		return unavailable(s.path, err)
	}
	return nil
}
