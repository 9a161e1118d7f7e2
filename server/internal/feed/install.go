package feed

import "time"

// Plan is what an installation or a removal will run, in order, in one transaction.
type Plan struct {
	// Statements are SQL; none: there is nothing to do.
	Statements []string
	// Notes say what the operator has to do himself.
	Notes []string
}

// Report says what is installed.
type Report struct {
	// Location names the database, without credentials.
	Location  string
	Installed bool
	// Version is that of the outbox.
	Version int
	// Bound is the staleness bound that it is installed for.
	Bound time.Duration
	// Coverage is "full", or "own" where there are no triggers.
	Coverage string
	// Replicas is how many rows the registry has, Events how many the outbox.
	Replicas int
	Events   int64
	// Problems are what is wrong, each with its remedy.
	Problems []string
}
