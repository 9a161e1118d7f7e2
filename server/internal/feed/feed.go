// Package feed says what a replica needs of the place where the issuer keeps its
// sessions, to learn of changes made by others and to find the other replicas.
// The rules of the coherence protocol that these types serve are in
// docs/contract.md, by the numbers that the comments name.
package feed

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// Key names a session in events, caches and answers: the SHA-256 of its token.
// A token is 32 random characters, so its digest tells nothing.
type Key [sha256.Size]byte

// KeyOf returns the Key of a token.
func KeyOf(token string) Key { return sha256.Sum256([]byte(token)) }

// Kind says how much an event ends.
type Kind uint8

// The kinds.
const (
	// KindAll: forget everything.
	KindAll Kind = iota
	// KindKey: forget one session.
	KindKey
	// KindUser: forget all sessions of a user.
	KindUser
)

// Event tells that something a cache may hold has ended or changed. An event may
// come several times and in any order with others.
type Event struct {
	Kind Kind
	// Key is the session, for KindKey.
	Key Key
	// User is the user's id, for KindUser. With KindKey it is the session's user
	// or empty.
	User string
	// Urgent marks an event that a Revoke waits for: whoever has it done reports
	// so at once.
	Urgent bool
}

// Position says what of the feed has been read. Only its Source understands it.
type Position string

// Revision names a moment of the store's history: everything committed up to it.
// It is printable and travels to callers, who hand it back unread.
type Revision string

// Coverage says whether the feed tells of every change that others make.
type Coverage uint8

// The coverages.
const (
	// CoverageBroken: it should and does not; nothing may be cached.
	CoverageBroken Coverage = iota
	// CoverageOwn: it tells of sessiond's own changes only, as installed; entries
	// age out by the time of their own read (A7).
	CoverageOwn
	// CoverageFull: it tells of every change.
	CoverageFull
)

// News is what one statement brought: the events since a position, and the
// position of the same statement's snapshot (F1).
type News struct {
	// Era is which life of which server answered (F4).
	Era store.Era
	// Position is where to read on. Never empty without an error.
	Position Position
	// Events are those since the position that was asked from, in no order, and
	// possibly some before it.
	Events []Event
	// Overflow means that there were more events than are read at once: forget all.
	Overflow bool
	// Coverage, Objects and Problem are set by Register and Beat only.
	Coverage Coverage
	// Objects is a fingerprint of what writes the events; a change means that
	// events may be missing (S1).
	Objects string
	// Problem says, with CoverageBroken, what is wrong and what to do about it.
	Problem string
}

// Registration is a place in the registry, and where to read from.
type Registration struct {
	// ID is new for every registration (G2).
	ID string
	News
}

// Beat is one beat (F2, F3, F7, G3).
type Beat struct {
	// ID is the registration.
	ID string
	// Acked is the number of the last acknowledged beat; Number is this one's,
	// greater than any tried. A registration counts as beat 1.
	Acked, Number int64
	// Written is the position that came with the last acknowledged beat; events
	// are kept until every replica's is past them.
	Written Position
	// Done and DoneEra are what this replica and its watchers are done with.
	Done    Position
	DoneEra store.Era
	// From is the position to read from.
	From Position
}

// Replica is a row of the registry.
type Replica struct {
	ID      string
	Beat    int64
	Done    Position
	DoneEra store.Era
}

// Registry is the registry as one statement saw it.
type Registry struct {
	Era      store.Era
	Replicas []Replica
}

// Target says which sessions to end. Exactly one of Token, User+Session, and
// User alone (all of the user's) is given.
type Target struct {
	// Token is the session's token; the caller has verified the credential.
	Token string
	// User is the user's id.
	User string
	// Session is the id of one session of the user.
	Session string
	// Except is the id of the one session of the user that stays; only with User alone.
	Except string
	// ExceptToken is its token, where it is known: a session need not hold its id.
	ExceptToken string
	// Also are tokens of sessions of the user that the store's own list may have lost;
	// only with Except.
	Also []string
	// Ending says what becomes of rows.
	Ending Ending
}

// Ending says what becomes of the row of a session that is ended.
type Ending uint8

// The endings.
const (
	// EndDelete deletes it.
	EndDelete Ending = iota
	// EndNow has its expiresAt become now, as the issuer leaves rows that outlive their
	// sessions.
	EndNow
	// EndPast has it become a minute ago, where a row that is kept is still used: no
	// clock that is behind the database's may take the session for good.
	EndPast
)

// PastBy is how long ago EndPast is.
const PastBy = time.Minute

// Revoked is the outcome of a Revoke's transaction.
type Revoked struct {
	// Revision covers the transaction.
	Revision Revision
	// Era is the era of the commit.
	Era store.Era
	// Sessions is how many rows were deleted; 0 is no error.
	Sessions int
	// Key is the digest of the one session that was meant, where it is known.
	Key Key
}

// The errors of a Source. Others wrap [store.ErrUnavailable] or the context's error.
var (
	// ErrLostPlace means that the registration is gone, or that the store went
	// back behind its last acknowledged beat: forget all and register anew.
	ErrLostPlace = errors.New("the replica's registration is gone")
	// ErrNotInstalled means that the store has no feed, or none that may be used
	// as it is; the error's text says what to do. The caller may go on without.
	ErrNotInstalled = errors.New("the change feed is not installed")
	// ErrBound means that the feed is installed for another staleness bound than
	// this replica is configured for; the error's text names both (G5).
	ErrBound = errors.New("the change feed is installed for another staleness bound")
	// ErrRepeat means that a Revoke may have been lost with the server that took
	// it: repeat it.
	ErrRepeat = errors.New("the outcome of the revocation is not known: repeat it")
)

// Source is the feed and the registry of one store. Register, Beat and Poll are
// called by one goroutine at a time; the other methods are safe for concurrent use
// with them and with each other. Each method is one transaction of its own, and
// uses other connections than Lookup does.
type Source interface {
	// Register takes a new place in the registry, durably. The error wraps
	// ErrNotInstalled where there is no feed that can be used, and ErrBound where it
	// is for another bound.
	Register(ctx context.Context, bound time.Duration) (Registration, error)

	// Poll reads the events since a position. It proves nothing.
	Poll(ctx context.Context, from Position) (News, error)

	// Beat writes the replica's row durably and reads the events, in one
	// statement. ErrLostPlace: no row was there to write.
	Beat(ctx context.Context, b Beat) (News, error)

	// Replicas reads the registry, checking that one's own row is there and not
	// behind the last acknowledged beat (ErrLostPlace otherwise).
	Replicas(ctx context.Context, own string, acked int64) (Registry, error)

	// Exclude removes a row if it is still at the beat that was seen (G4), and
	// reports whether it did.
	Exclude(ctx context.Context, id string, beat int64) (bool, error)

	// Clean removes the events that every registered replica's written position
	// is past (F7).
	Clean(ctx context.Context) error

	// Revoke deletes sessions as the issuer does, and writes an event, be there a
	// row or not, in one durable transaction (V1). It does not wait for anybody.
	// ErrRepeat: the commit's answer was lost.
	Revoke(ctx context.Context, target Target) (Revoked, error)

	// Revision returns the store's present revision: all that is committed now.
	Revision(ctx context.Context) (Revision, error)

	// Covers reports whether whoever has applied everything up to a position, in
	// an era, knows what a revision names. An error: the text is no revision.
	Covers(p Position, era store.Era, r Revision) (bool, error)

	// Meets reports whether a fresh read that showed an era is at the revision or
	// newer: not on a lower timeline of the revision's own server (V4).
	Meets(era store.Era, r Revision) (bool, error)

	// Close ends the connections.
	Close() error
}
