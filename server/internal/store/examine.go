package store

import (
	"context"
	"time"
)

// Examiner answers what an operator asks about a store that may not work, beyond
// what a Store reads. It changes nothing and repeats no value. Its errors wrap
// [ErrUnavailable] or the context's error. Not safe for concurrent use.
type Examiner interface {
	// Tables says what was found of the issuer's schema. It does no I/O.
	Tables() Tables
	// Plan says how the database would find a session by its token.
	Plan(ctx context.Context) (Plan, error)
	// Clock returns the database's own clock; ok is false where it has none.
	Clock(ctx context.Context) (now time.Time, ok bool, err error)
	// Pooler says what is between us and the database.
	Pooler(ctx context.Context) (Pooler, error)
	// Beats returns the number of the last beat of every registered replica, by
	// its id; ok is false where there is no registry.
	Beats(ctx context.Context) (beats map[string]int64, ok bool, err error)
	// ShortestToken returns the length in characters of the shortest token among
	// some stored sessions, and how many were looked at.
	ShortestToken(ctx context.Context) (length, sessions int, err error)
	// Close ends the connections.
	Close() error
}

// SecondaryState is how secondary storage keeps sessions.
type SecondaryState struct {
	Location, Version string
	// Keys says how sessions are named.
	Keys string
	// Empty: no session was found.
	Empty bool
	// Evicts is the policy by which keys are dropped when the memory is full; empty:
	// none is.
	Evicts string
}

// Tables are the issuer's tables as they were found, be there an index or not.
type Tables struct {
	Driver, Location string
	Session, User    TableDescription
	// Columns says for each table which column holds which field, with its type.
	Columns []string
	// Zoneless are the columns that hold instants without a time zone.
	Zoneless []string
}

// Plan is how the database would find a session.
type Plan struct {
	// Indexed reports whether an index leads to the row, however large the table.
	Indexed bool
	// Detail is what the database says of its way.
	Detail string
	// CreateIndex is the statement that would make the index.
	CreateIndex string
}

// Pooler is what answers between us and the database.
type Pooler struct {
	// Present: the server process that answers is not the one that greeted us.
	Present bool
	// Transaction: statements of one connection are answered by several server
	// processes.
	Transaction bool
	// Mode is how statements are sent (default_query_exec_mode); Prepares reports
	// whether that mode needs prepared statements to outlive a transaction.
	Mode     string
	Prepares bool
	// KeepsPrepared reports whether prepared statements do.
	KeepsPrepared bool
}
