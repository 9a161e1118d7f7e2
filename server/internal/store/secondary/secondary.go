// Package secondary puts the issuer's two stores together: its secondary storage,
// which it asks first, and the rows that it keeps beside it.
//
// Source: findSession in packages/better-auth/src/db/internal-adapter.ts. What that
// does is a table of modes:
//
//	key there                                      the key decides
//	key gone, rows kept (storeSessionInDatabase)   the row decides
//	… with preserveSessionInDatabase, up to 1.4    the row decides: signing out has no effect
//	… with preserveSessionInDatabase, from 1.6     refused: the row is a record of what was
package secondary

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// Rule says what counts where the two stores disagree.
type Rule string

// The rules.
const (
	// Parity decides as the issuer.
	Parity Rule = "parity"
	// Strict accepts what the issuer accepts and the row too: the row is there, it is
	// not over, and its user is there and not marked.
	Strict Rule = "strict"
)

// Config says how the issuer uses the two.
type Config struct {
	// First is the secondary storage, Rows the database.
	First, Rows store.Store
	// Preserved says that rows outlive their sessions, as records
	// (preserveSessionInDatabase with Better Auth 1.6 or newer).
	Preserved bool
	// Rule says what counts where they disagree.
	Rule Rule
}

// Store reads both. It is safe for concurrent use.
type Store struct{ cfg Config }

var _ store.Store = (*Store)(nil)

// New returns a Store over two open ones, which it closes.
func New(c Config) *Store { return &Store{c} }

// JoinEras names the life of two servers.
func JoinEras(first, rows store.Era) store.Era {
	if first == "" || rows == "" {
		return ""
	}
	return first + "/" + rows
}

// SplitEra undoes JoinEras.
func SplitEra(era store.Era) (first, rows store.Era) {
	a, b, _ := strings.Cut(string(era), "/")
	return store.Era(a), store.Era(b)
}

// Lookup implements [store.Store]. Where the key decides and nothing else is asked
// for, the database is not read.
func (s *Store) Lookup(ctx context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	firstEra, rowsEra := SplitEra(era)
	records, err := s.cfg.First.Lookup(ctx, firstEra, tokens)
	if err != nil {
		return nil, err
	}
	var wanted []int
	for i := range records {
		if !records[i].Found || s.cfg.Rule == Strict {
			wanted = append(wanted, i)
		}
	}
	if len(wanted) == 0 {
		return records, nil
	}
	asked := make([]string, len(wanted))
	for n, i := range wanted {
		asked[n] = tokens[i]
	}
	rows, err := s.cfg.Rows.Lookup(ctx, rowsEra, asked)
	if err != nil {
		return nil, err
	}
	for n, i := range wanted {
		switch {
		case records[i].Found:
			records[i] = narrow(records[i], rows[n])
		case s.cfg.Preserved:
			records[i] = kept(rows[n])
		default:
			records[i] = rows[n]
		}
	}
	return records, nil
}

// narrow is the session of the key, no longer and no wider than the row.
func narrow(key, row store.Record) store.Record {
	switch {
	case key.Unreadable != "" || key.Revoked:
		return key
	case !row.Found || row.Unreadable != "":
		return row
	case row.User == nil || key.User == nil:
		key.User = nil
		return key
	}
	if row.Session.ExpiresAt.Before(key.Session.ExpiresAt) {
		key.Session.ExpiresAt = row.Session.ExpiresAt
	}
	user := *key.User
	user.Deleted = user.Deleted || row.User.Deleted
	if row.User.Banned {
		user.Banned, user.BanExpires = true, row.User.BanExpires
	}
	key.User = &user
	return key
}

// endedWithin tells a row that was ended, when the issuer sets expiresAt to that
// moment, from one whose time has run out.
const endedWithin = time.Minute

// kept is what a row tells of a session whose key is gone: that it was revoked, or
// nothing.
func kept(row store.Record) store.Record {
	if row.Found && row.Unreadable == "" && row.Session.ExpiresAt.Sub(row.Session.UpdatedAt) < endedWithin {
		row.Revoked = true
		return row
	}
	return store.Record{}
}

// Clues implements [store.Store].
func (s *Store) Clues(ctx context.Context, token string) (store.Clues, error) {
	c, err := s.cfg.First.Clues(ctx, token)
	if err != nil {
		return c, err
	}
	rows, err := s.cfg.Rows.Clues(ctx, token)
	if err != nil {
		return c, err
	}
	c.Empty, c.SessionID, c.Hidden = c.Empty && rows.Empty, rows.SessionID, rows.Hidden
	for _, place := range []store.Store{s.cfg.First, s.cfg.Rows} {
		records, err := place.Lookup(ctx, "", []string{token})
		if err != nil {
			return c, err
		}
		c.Places = append(c.Places, store.Place{Description: place.Describe(), Record: records[0]})
	}
	return c, nil
}

// Ready implements [store.Store].
func (s *Store) Ready(ctx context.Context) error {
	return errors.Join(s.cfg.First.Ready(ctx), s.cfg.Rows.Ready(ctx))
}

// Describe implements [store.Store].
func (s *Store) Describe() store.Description {
	first, d := s.cfg.First.Describe(), s.cfg.Rows.Describe()
	d.Driver = first.Driver + ", then " + d.Driver
	d.Location = first.Location + " (" + first.Session.Name + "), then " + d.Location
	return d
}

// Close implements [store.Store].
func (s *Store) Close() error {
	if err := errors.Join(s.cfg.First.Close(), s.cfg.Rows.Close()); err != nil {
		return fmt.Errorf("close the session stores: %w", err)
	}
	return nil
}
