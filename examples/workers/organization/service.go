package main

import (
	"context"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/examples/workers/workersv1"
)

// service implements OrganizationService. The guard ran before each of its
// methods, so there is always a session.
type service struct {
	workersv1.UnsafeOrganizationServiceServer
	identity workersv1.IdentityServiceClient
}

// GetOrganization returns the organization of the user who asks, and who that is
// according to IdentityService, whose refusal it passes on.
func (s service) GetOrganization(ctx context.Context, _ *workersv1.GetOrganizationRequest) (*workersv1.GetOrganizationResponse, error) {
	who, err := s.identity.WhoAmI(ctx, &workersv1.WhoAmIRequest{})
	if err != nil {
		return nil, err
	}
	return &workersv1.GetOrganizationResponse{Name: "Example Ltd", Viewer: viewer(ctx), Identity: who.GetViewer()}, nil
}

// viewer is the user the call speaks for.
func viewer(ctx context.Context) *workersv1.Viewer {
	s, ok := client.FromContext(ctx)
	if !ok {
		return nil
	}
	return &workersv1.Viewer{UserId: s.UserID, Email: s.User.Email}
}
