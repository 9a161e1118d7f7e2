package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
)

func TestStatusOf(t *testing.T) {
	tests := []struct {
		err  error
		want codes.Code
	}{
		{store.ErrUnavailable, codes.Unavailable},
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{authority.ErrBatchTooLarge, codes.InvalidArgument},
		{authority.ErrStateless, codes.FailedPrecondition},
		{errors.New("a defect"), codes.Internal},
	}
	for _, tt := range tests {
		const private = "db.internal:5432"
		got := status.Convert(statusOf(fmt.Errorf("%s: %w", private, tt.err)))
		if got.Code() != tt.want {
			t.Errorf("%v: got %s, want %s", tt.err, got.Code(), tt.want)
		}
		if tt.want != codes.InvalidArgument && strings.Contains(got.Message(), private) {
			t.Errorf("%v: the message tells the operator's network: %s", tt.err, got.Message())
		}
		// Those two would read as the user's own.
		if got.Code() == codes.Unauthenticated || got.Code() == codes.PermissionDenied {
			t.Errorf("%v: %s", tt.err, got.Code())
		}
	}
}

// TestReasons holds the authority's reasons against the contract's, number and name.
func TestReasons(t *testing.T) {
	all := authority.Reasons()
	if len(all) != len(sessiondv1.Reason_name)-1 {
		t.Errorf("%d reasons, the contract has %d", len(all), len(sessiondv1.Reason_name)-1)
	}
	for _, r := range all {
		if want := "REASON_" + r.String(); sessiondv1.Reason(r).String() != want {
			t.Errorf("reason %d is %s, in the contract %s", r, want, sessiondv1.Reason(r))
		}
	}
}
