package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// Explain implements sessiond.v1.SessionAdminService.
func (s *Admin) Explain(context.Context, *sessiondv1.ExplainRequest) (*sessiondv1.ExplainResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not built yet")
}
