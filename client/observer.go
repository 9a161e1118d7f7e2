package client

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Observer is told how validations ended, for metrics and logs. It runs in the
// caller's goroutine before the call returns, so it must be quick, and it must be
// safe for concurrent use.
type Observer func(ctx context.Context, o Observation)

// Observation is the end of one validation. It never holds a credential.
type Observation struct {
	// Method is the guarded method: the full name of the gRPC method, or the
	// path of the HTTP request (which anybody can choose: no metric label).
	// Empty where a Client observes.
	Method string
	// Outcome is how it ended.
	Outcome Outcome
	// Reason is why, for OutcomeRefused and OutcomeAnonymous; for
	// OutcomeForbidden it is the guard's rule.
	Reason Reason
	// ExplainID names the authority's trace of a refusal (sessiond explain --id);
	// empty: there is none.
	ExplainID string
	// UnreadCookies names cookies that look like a session's and are not read
	// ([RefusedError.UnreadCookies]).
	UnreadCookies []string
	// Source says who decided. Empty where a guard observes.
	Source Source
	// Duration is the time it took.
	Duration time.Duration
	// Err is the error of the call, nil for OutcomeAccepted.
	Err error
}

// Outcome is how a validation ended.
type Outcome string

// The outcomes. The last two come from guards only.
const (
	// OutcomeAccepted: the session is good.
	OutcomeAccepted Outcome = "accepted"
	// OutcomeRefused: the credential is not.
	OutcomeRefused Outcome = "refused"
	// OutcomeUnavailable: the authority did not decide.
	OutcomeUnavailable Outcome = "unavailable"
	// OutcomeAborted: the caller's deadline passed, or it went away.
	OutcomeAborted Outcome = "aborted"
	// OutcomeAnonymous: the method went on without a session, which it may.
	OutcomeAnonymous Outcome = "anonymous"
	// OutcomeForbidden: the session is good, and not good enough for the method.
	OutcomeForbidden Outcome = "forbidden"
)

// Source says who decided.
type Source string

// The sources.
const (
	// SourceLocal: the client, without asking.
	SourceLocal Source = "local"
	// SourceAuthority: the authority was asked.
	SourceAuthority Source = "authority"
	// SourceCache: this client, from what the authority told it before and has not
	// taken back since.
	SourceCache Source = "cache"
)

// OutcomeOf returns the outcome of a validation that ended with err.
func OutcomeOf(err error) Outcome {
	switch {
	case err == nil:
		return OutcomeAccepted
	case errors.Is(err, ErrNoCredential), errors.Is(err, ErrInvalid):
		return OutcomeRefused
	case isContextError(err):
		return OutcomeAborted
	default:
		return OutcomeUnavailable
	}
}

// Stats counts the credentials a Client has validated since New.
type Stats struct {
	// Calls is how many there were.
	Calls uint64
	// Refusals is how many of them were refused.
	Refusals uint64
	// Unavailable is how many of them the authority did not decide.
	Unavailable uint64

	// Hits is how many were answered from memory.
	Hits uint64
	// Misses is how many could have been and were not there.
	Misses uint64
	// Joined is how many misses shared the question of another.
	Joined uint64
	// Fenced is how many answers an event had passed on their way.
	Fenced uint64
	// AskedAgain is how many answers could not be used, so that the authority was
	// asked again: they were passed by an event, or too old.
	AskedAgain uint64
	// Gaps is how often everything was forgotten: at each new Watch, and when the
	// authority said so.
	Gaps uint64
	// Entries is how many credentials are in memory, Bytes what they take.
	Entries, Bytes int64
	// LeaseAge is the age of the right to answer from memory; negative: there is
	// none. It ends at the staleness bound.
	LeaseAge time.Duration
	// Watch says how it stands with the Watch that the lease comes from.
	Watch WatchState
}

// WatchState says how it stands with a Client's Watch. Only a live one fills the
// memory; without, calls go through to the authority.
type WatchState string

// The states of a Watch.
const (
	// WatchNone: nothing was asked yet, or the cache is turned off.
	WatchNone WatchState = ""
	// WatchOpening: it is being opened.
	WatchOpening WatchState = "opening"
	// WatchLive: it stands.
	WatchLive WatchState = "live"
	// WatchUnsupported: the authority offers none, or speaks another version of it.
	// It is tried again from time to time.
	WatchUnsupported WatchState = "unsupported"
)

type counters struct{ calls, refusals, unavailable atomic.Uint64 }

func (c *counters) count(outcome Outcome) {
	c.calls.Add(1)
	switch outcome {
	case OutcomeRefused:
		c.refusals.Add(1)
	case OutcomeUnavailable:
		c.unavailable.Add(1)
	}
}
