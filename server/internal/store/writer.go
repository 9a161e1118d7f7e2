package store

import (
	"context"
	"errors"
	"time"
)

// Writer makes and extends sessions as the issuer does. What it does is no event of
// the change feed: nobody can have asked for a new token, and an extension ends
// nothing. Implementations are safe for concurrent use. Errors wrap ErrUnavailable
// or the context's, ErrNoUser, ErrNoUsers or ErrNotWritable.
type Writer interface {
	// Create writes a session. Its ID is used where the column takes text that is not
	// made by the database; the id that the row has is returned.
	Create(ctx context.Context, s NewSession) (id string, err error)

	// Extend moves a session's expiry, and reports whether it did: the session was there,
	// not over, and its row not written since updated. It may have been ended meanwhile,
	// in a row that is kept.
	Extend(ctx context.Context, token string, expires, updated time.Time) (bool, error)

	// Sessions names at most limit sessions of a user, newest first, after one.
	Sessions(ctx context.Context, user string, limit int, after Cursor) ([]NamedSession, error)

	// Token returns the token of a session; found reports whether there is one.
	Token(ctx context.Context, user, session string) (token string, found bool, err error)

	// Close ends the connections.
	Close() error
}

// NewSession is a session to write.
type NewSession struct {
	Token, ID, UserID, IPAddress, UserAgent string
	CreatedAt, ExpiresAt                    time.Time
}

// NamedSession is what names a session. The token is as the store holds it.
type NamedSession struct {
	Token string
	Cursor
}

// Cursor is a place in a list of sessions. The zero Cursor is before the first.
type Cursor struct {
	CreatedAt time.Time
	ID        string
}

// Row is a row as the issuer's adapter returns it: its fields, in that order.
type Row []Attribute

// Rows reads the rows that the issuer copies into its secondary storage. A row that is
// not there has no fields. Implementations are safe for concurrent use. Errors wrap
// ErrUnavailable or the context's, or ErrNotWritable where a value cannot be read.
type Rows interface {
	// UserRow reads a user by id.
	UserRow(ctx context.Context, id string) (Row, error)

	// SessionRow reads a session by token.
	SessionRow(ctx context.Context, token string) (Row, error)

	// Close ends the connections.
	Close() error
}

// ErrNoUser means that there is no user of that id.
var ErrNoUser = errors.New("there is no such user")

// ErrNoUsers means that a session in secondary storage has to hold its user, and that
// nothing says where users are.
var ErrNoUsers = errors.New("a session in secondary storage holds its user, whom the issuer reads from its database: set store.driver with store.dsn or store.dsn_file (Postgres) or store.path (SQLite)")

// ErrNotWritable means that a session cannot be written into the store as it is; the
// error's text says why.
var ErrNotWritable = errors.New("the session cannot be written")
