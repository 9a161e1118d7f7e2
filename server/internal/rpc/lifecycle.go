package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// CreateSession implements sessiond.v1.SessionAdminService.
func (s *Admin) CreateSession(context.Context, *sessiondv1.CreateSessionRequest) (*sessiondv1.CreateSessionResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not built yet")
}

// GetSession implements sessiond.v1.SessionAdminService.
func (s *Admin) GetSession(context.Context, *sessiondv1.GetSessionRequest) (*sessiondv1.GetSessionResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not built yet")
}

// ListSessions implements sessiond.v1.SessionAdminService.
func (s *Admin) ListSessions(context.Context, *sessiondv1.ListSessionsRequest) (*sessiondv1.ListSessionsResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not built yet")
}

// ListBrowserSessions implements sessiond.v1.SessionAdminService.
func (s *Admin) ListBrowserSessions(context.Context, *sessiondv1.ListBrowserSessionsRequest) (*sessiondv1.ListBrowserSessionsResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not built yet")
}

// RefreshSession implements sessiond.v1.SessionAdminService.
func (s *Admin) RefreshSession(context.Context, *sessiondv1.RefreshSessionRequest) (*sessiondv1.RefreshSessionResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not built yet")
}
