package interceptors

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sessiond/sessiond/client"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo in a guard's answers.
const ErrorDomain = "sessiond"

const (
	reasonNoCredential = "NO_CREDENTIAL"
	// retryAfter is what callers are told to wait when the authority is away.
	retryAfter = time.Second
	// statusClientClosedRequest is nginx's code for a client that went away; HTTP
	// has none, and nobody reads it.
	statusClientClosedRequest = 499
)

// answer is what the caller of a guarded method is told: fixed texts, nothing of the cause.
type answer struct {
	code       codes.Code
	codeName   string // as google.rpc.Code has it
	httpStatus int
	reason     string
	message    string
}

// answerTo is the one table from errors to answers.
func answerTo(err error) answer {
	unauthenticated := func(reason, message string) answer {
		return answer{codes.Unauthenticated, "UNAUTHENTICATED", http.StatusUnauthorized, reason, message}
	}
	denied := func(reason, message string) answer {
		return answer{codes.PermissionDenied, "PERMISSION_DENIED", http.StatusForbidden, reason, message}
	}
	switch {
	// First, since its cause may be anything.
	case errors.Is(err, client.ErrUnavailable):
		return answer{codes.Unavailable, "UNAVAILABLE", http.StatusServiceUnavailable, "AUTHORITY_UNAVAILABLE", "the session cannot be checked now"}
	case errors.Is(err, client.ErrNoCredential):
		return unauthenticated(reasonNoCredential, "a session is required")
	case errors.Is(err, client.ErrMalformed):
		return unauthenticated("MALFORMED", "the session credential is malformed")
	case errors.Is(err, client.ErrExpired):
		return unauthenticated("EXPIRED", "the session has expired")
	case errors.Is(err, client.ErrRevoked):
		return unauthenticated("REVOKED", "the session was revoked")
	case errors.Is(err, client.ErrInvalid):
		return unauthenticated("INVALID", "the session is not valid")
	case errors.Is(err, errNotFresh):
		return denied("NOT_FRESH", "sign in again to do this")
	case errors.Is(err, errRoleRequired):
		return denied("ROLE_REQUIRED", "the role to do this is missing")
	case errors.Is(err, context.DeadlineExceeded):
		return answer{codes.DeadlineExceeded, "DEADLINE_EXCEEDED", http.StatusGatewayTimeout, "", "the deadline passed"}
	case errors.Is(err, context.Canceled):
		return answer{codes.Canceled, "CANCELLED", statusClientClosedRequest, "", "the call was cancelled"}
	default:
		return answer{codes.Internal, "INTERNAL", http.StatusInternalServerError, "", "internal error"}
	}
}

// status returns the answer as a gRPC status.
func (a answer) status() *status.Status {
	s := status.New(a.code, a.message)
	var details []protoadapt.MessageV1
	if a.reason != "" {
		details = append(details, &errdetails.ErrorInfo{Reason: a.reason, Domain: ErrorDomain})
	}
	if a.code == codes.Unavailable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	detailed, err := s.WithDetails(details...)
	if err != nil {
		return s // the code is what counts
	}
	return detailed
}
