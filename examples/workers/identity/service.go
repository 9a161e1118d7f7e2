package main

import (
	"context"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/examples/workers/workersv1"
)

// service implements IdentityService. The guard ran before each of its methods,
// so there is always a session.
type service struct {
	workersv1.UnsafeIdentityServiceServer
}

// WhoAmI returns the user who asks.
func (service) WhoAmI(ctx context.Context, _ *workersv1.WhoAmIRequest) (*workersv1.WhoAmIResponse, error) {
	return &workersv1.WhoAmIResponse{Viewer: viewer(ctx)}, nil
}

// CloseAccount returns the user who asks; the guard has seen to it that the
// sign-in is recent.
func (service) CloseAccount(ctx context.Context, _ *workersv1.CloseAccountRequest) (*workersv1.CloseAccountResponse, error) {
	return &workersv1.CloseAccountResponse{Viewer: viewer(ctx)}, nil
}

// viewer is the user the call speaks for.
func viewer(ctx context.Context) *workersv1.Viewer {
	s, ok := client.FromContext(ctx)
	if !ok {
		return nil
	}
	return &workersv1.Viewer{UserId: s.UserID, Email: s.User.Email}
}
