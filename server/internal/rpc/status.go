package rpc

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/replica"
	"github.com/sessiond/sessiond/server/internal/store"
)

// statusOf maps an error of the authority to the status of the worker's call.
// None of them is about the user's session, so none of them is Unauthenticated
// or PermissionDenied. The text is fixed: an error's own may speak of the
// operator's network.
func statusOf(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "call cancelled by the caller")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "deadline passed before the store answered")
	case errors.Is(err, store.ErrUnavailable):
		return status.Error(codes.Unavailable, "session store unavailable: nothing was found out about the session")
	case errors.Is(err, authority.ErrStateless):
		return status.Error(codes.FailedPrecondition, authority.ErrStateless.Error())
	case errors.Is(err, authority.ErrBatchTooLarge), errors.Is(err, authority.ErrBadRevision):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, replica.ErrNoRevisions), errors.Is(err, replica.ErrNoFeed), errors.Is(err, feed.ErrNotInstalled):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, feed.ErrRepeat):
		return status.Error(codes.Aborted, err.Error())
	default:
		return status.Error(codes.Internal, "internal error: nothing was found out about the session")
	}
}
