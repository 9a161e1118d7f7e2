// Package history checks histories of real processes: authorities, workers and an
// issuer over one Postgres, with faults injected. It is a module of its own, so
// that what it needs stays out of the others.
package history
