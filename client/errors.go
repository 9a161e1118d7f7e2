package client

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// The errors that callers branch on, with errors.Is.
var (
	// ErrNoCredential means that nothing was presented that can carry a session.
	ErrNoCredential = errors.New("no session credential was presented")
	// ErrInvalid means that a credential was presented and it is not good. It
	// covers ErrMalformed, ErrExpired and ErrRevoked.
	ErrInvalid = errors.New("session is not valid")
	// ErrMalformed means that the credential is wrong in itself, whatever the
	// store holds: its shape or its signature.
	ErrMalformed = fmt.Errorf("%w: the credential is malformed", ErrInvalid)
	// ErrExpired means that the session's time is over.
	ErrExpired = fmt.Errorf("%w: it has expired", ErrInvalid)
	// ErrRevoked means that the session was ended before its time and the store
	// can still tell. A session whose record is gone is a plain ErrInvalid.
	ErrRevoked = fmt.Errorf("%w: it was revoked", ErrInvalid)
	// ErrUnavailable means that the authority did not decide. It says nothing about the session.
	ErrUnavailable = errors.New("session authority unavailable")
)

// Reason says why a credential was refused: the name of a sessiond.v1.Reason
// without its prefix. The list is closed for one version of the contract.
type Reason string

// The reasons. See sessiond/v1/reason.proto for what each means.
const (
	ReasonUnspecified           Reason = "UNSPECIFIED"
	ReasonNoCredential          Reason = "NO_CREDENTIAL"
	ReasonMalformed             Reason = "MALFORMED"
	ReasonBadSignature          Reason = "BAD_SIGNATURE"
	ReasonRetiredSecret         Reason = "RETIRED_SECRET"
	ReasonUnsignedNotAllowed    Reason = "UNSIGNED_NOT_ALLOWED"
	ReasonNotFound              Reason = "NOT_FOUND"
	ReasonExpired               Reason = "EXPIRED"
	ReasonUserNotFound          Reason = "USER_NOT_FOUND"
	ReasonUserBanned            Reason = "USER_BANNED"
	ReasonUserDeleted           Reason = "USER_DELETED"
	ReasonLifetimeCap           Reason = "LIFETIME_CAP"
	ReasonIdleCap               Reason = "IDLE_CAP"
	ReasonRevoked               Reason = "REVOKED"
	ReasonStoredValueUnreadable Reason = "STORED_VALUE_UNREADABLE"
	ReasonSessionDataRejected   Reason = "SESSION_DATA_REJECTED"
)

// RefusedError says that the authority, or the client in its place, refused a
// credential. It unwraps to [ErrNoCredential], [ErrMalformed], [ErrExpired],
// [ErrRevoked] or [ErrInvalid].
//
// The reason is for the worker's operators. End users get the coarser sentinel:
// "bad signature" against "not found" would tell a guesser what he got right.
type RefusedError struct {
	// Reason is why. A reason this version does not know is ReasonUnspecified.
	Reason Reason
	// ExplainID names the trace that the authority keeps of this refusal for a while:
	// sessiond explain --id prints it. Empty: there is none. It is for operators.
	ExplainID string
	// UnreadCookies names the cookies that arrived with the shape of a signed session
	// cookie and that the authority does not read: with ReasonNoCredential the sign of
	// another cookie name than the issuer's. The names are as [sessioncookie.Inspect]
	// shows them. It is for operators.
	UnreadCookies []string
}

// Error names the reason.
func (e *RefusedError) Error() string {
	return "session refused: " + strings.ToLower(strings.ReplaceAll(string(e.Reason), "_", " "))
}

// Unwrap returns the sentinel of the reason.
func (e *RefusedError) Unwrap() error {
	switch e.Reason {
	case ReasonNoCredential:
		return ErrNoCredential
	case ReasonMalformed, ReasonBadSignature, ReasonRetiredSecret, ReasonUnsignedNotAllowed:
		return ErrMalformed
	case ReasonExpired, ReasonLifetimeCap, ReasonIdleCap:
		return ErrExpired
	case ReasonRevoked:
		return ErrRevoked
	default:
		return ErrInvalid
	}
}

// ReasonOf returns the reason of a refusal, and "" for every other error.
func ReasonOf(err error) Reason {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Reason
	}
	return ""
}

// ExplainIDOf returns the name of the trace of a refusal, and "" where there is none.
func ExplainIDOf(err error) string {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.ExplainID
	}
	return ""
}

// UnreadCookiesOf returns the names of a refusal's unread cookies, and none for every
// other error.
func UnreadCookiesOf(err error) []string {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.UnreadCookies
	}
	return nil
}

// UnavailableError says why the authority did not decide. It unwraps to
// [ErrUnavailable] and to its cause.
//
// As a gRPC status it is codes.Unavailable whatever the cause's code, so that a
// handler which returns it never passes on the authority's view of the worker
// (an Unauthenticated worker must not sign out its users). The status of the call
// itself is status.Code(e.Cause).
type UnavailableError struct {
	// Cause is what went wrong.
	Cause error
}

// Error names the cause.
func (e *UnavailableError) Error() string { return ErrUnavailable.Error() + ": " + e.Cause.Error() }

// Unwrap returns ErrUnavailable and the cause.
func (e *UnavailableError) Unwrap() []error { return []error{ErrUnavailable, e.Cause} }

// GRPCStatus returns codes.Unavailable with a fixed text.
func (e *UnavailableError) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, ErrUnavailable.Error())
}

func refusal(reason Reason, explainID string) error {
	return &RefusedError{Reason: reason, ExplainID: explainID}
}

// reasonFromProto maps a number this version does not know to ReasonUnspecified:
// a refusal stays a refusal.
func reasonFromProto(r sessiondv1.Reason) Reason {
	name, ok := sessiondv1.Reason_name[int32(r)]
	if !ok {
		return ReasonUnspecified
	}
	return Reason(strings.TrimPrefix(name, "REASON_"))
}
