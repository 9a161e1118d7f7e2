// Package store says what the authority needs of the place where the issuer
// keeps its sessions. The packages below it are the places; none of their
// drivers' types or errors leaves them.
package store

import (
	"context"
	"errors"
	"time"
)

// Store reads the sessions the issuer writes. Implementations must be safe for
// concurrent use and must pass the suite in storetest.
type Store interface {
	// Lookup reads the sessions of tokens, users included, in one round trip.
	// The result has one Record for each token, in order; a token the store does
	// not know has Found false. Tokens are compared byte for byte, whatever the
	// database's collation. An error means that nothing was found out about any
	// of the tokens; it wraps [ErrUnavailable] or the context's error. A single
	// row that cannot be read is no error: its Record has Unreadable set.
	//
	// An era that is not empty is the one the answer has to come from. If another
	// answers, the error is an [*EraError] and that connection is given up.
	Lookup(ctx context.Context, era Era, tokens []string) ([]Record, error)

	// Ready reports whether a Lookup would work now: nil, or an error that says
	// what is wrong and what to do about it.
	Ready(ctx context.Context) error

	// Clues says what the store tells of a token beyond its Record. Explain asks; no
	// verdict rests on it. Errors are those of Lookup.
	Clues(ctx context.Context, token string) (Clues, error)

	// Describe says what was found at the start, for logs and for explain.
	Describe() Description

	// Close ends all connections. Lookups under way fail with ErrUnavailable.
	Close() error
}

// ErrUnavailable means that the store could not be asked: "could not find out",
// never "not found".
var ErrUnavailable = errors.New("session store unavailable")

// Era names one life of one server; it changes at every failover and every crash.
// Eras have no order. Empty: not known.
type Era string

// EraError means that a lookup was answered in another era than asked for: by a
// server that has crashed or was replaced since, or by the one that was replaced.
// It wraps [ErrUnavailable].
type EraError struct {
	// Got is the era that answered.
	Got Era
}

// Error says what happened.
func (e *EraError) Error() string {
	return "the session store was restarted or replaced; the answer is not of the expected server"
}

// Unwrap returns [ErrUnavailable].
func (e *EraError) Unwrap() error { return ErrUnavailable }

// Clues are what a store tells of a token beyond its Record: what one might be that
// it does not know, and which of several places holds what.
type Clues struct {
	// Empty: the store holds no session at all.
	Empty bool
	// SessionID: the token is the id of a session.
	SessionID bool
	// Hidden: the database may hide rows from the role that reads them, by row-level
	// security.
	Hidden bool
	// Prefix, where set, is another one than the configured, under which secondary
	// storage has a key of the token.
	Prefix *string
	// Places are the places that make up the store, in the order in which the issuer
	// asks them; none where it is one.
	Places []Place
}

// Place is one place of a store, and what it holds for the token.
type Place struct {
	Description
	Record Record
}

// Record is what the store holds for one token.
type Record struct {
	// Found reports whether there is a row for the token.
	Found bool
	// Unreadable, where set, says which column of the row could not be read and
	// why, without its value. Session and User are then meaningless.
	Unreadable string
	// Revoked says that the issuer has ended the session though something of it is
	// still there: a row that is kept, or a key older than the mark of its user.
	Revoked bool
	// Session is the row of the session table.
	Session Session
	// User is the row of the user table, nil where there is none.
	User *User
}

// Session is a row of the issuer's session table, without its token. Instants
// are in UTC, to the millisecond.
type Session struct {
	ID                   string
	UserID               string
	CreatedAt            time.Time
	UpdatedAt            time.Time
	ExpiresAt            time.Time
	IPAddress            *string
	UserAgent            *string
	ActiveOrganizationID *string
	ImpersonatedBy       *string
	// Attributes are the additional columns, ordered by name.
	Attributes []Attribute
}

// User is a row of the issuer's user table.
type User struct {
	ID            string
	Name          string
	Email         string
	EmailVerified bool
	Image         *string
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Role          *string
	// Banned and BanExpires are the admin plugin's columns; false and nil where
	// the schema has none. Both are also among Attributes.
	Banned     bool
	BanExpires *time.Time
	// Deleted reports whether the configured soft-delete column is set: not
	// NULL, and for a boolean column true.
	Deleted bool
	// Attributes are the additional columns, ordered by name.
	Attributes []Attribute
}

// Attribute is the value of an additional column.
type Attribute struct {
	// Name is the field's name: the column's, unless the schema maps it.
	Name string
	// Kind says which of the fields below holds the value.
	Kind Kind
	// Text holds KindString and KindJSON.
	Text string
	// Int holds KindInt.
	Int int64
	// Float holds KindFloat.
	Float float64
	// Bool holds KindBool.
	Bool bool
	// Time holds KindTime, in UTC.
	Time time.Time
	// Bytes holds KindBytes.
	Bytes []byte
}

// Kind is the type of an attribute's value.
type Kind uint8

// The kinds.
const (
	KindNull Kind = iota
	KindString
	KindInt
	KindFloat
	KindBool
	KindTime
	KindJSON
	KindBytes
)

// Schema overrides what discovery would find. The zero value overrides nothing.
type Schema struct {
	Session Table
	User    Table
	// SoftDeleteColumn names a column of the user table that marks deleted users; empty: none.
	SoftDeleteColumn string
}

// Table overrides one table.
type Table struct {
	// Name is the table's name, optionally with its schema ("auth.session"); empty: discover.
	Name string
	// Columns maps Better Auth field names ("expiresAt") to column names
	// ("expires_at"). A field not mapped is discovered. An additional field is
	// mapped to give its column another name in the answer.
	Columns map[string]string
	// Hide lists columns that are never read and never returned.
	Hide []string
}

// Description says where sessions are read from.
type Description struct {
	// Driver is "postgres", "sqlite" or "redis", or two of them: "redis, then postgres".
	Driver string
	// Location names the database without credentials.
	Location string
	// Session and User are the tables as mapped.
	Session, User TableDescription
	// Zone is the zone in which the session's expiry is read, where its column has
	// none; empty otherwise. ZoneAssumed: nobody said that it is this one.
	Zone        string
	ZoneAssumed bool
}

// TableDescription is one table as mapped.
type TableDescription struct {
	// Name is the table's name as it is used in SQL.
	Name string
	// Columns maps field names to column names.
	Columns map[string]string
	// Attributes are the additional fields that are returned, by field name, ordered.
	Attributes []string
	// TokenIndex is the index that serves the lookup; empty on the user table.
	TokenIndex string
}
