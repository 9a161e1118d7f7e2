package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/lifecycle"
	"github.com/sessiond/sessiond/server/internal/replica"
	"github.com/sessiond/sessiond/server/internal/trace"
)

// Admin implements sessiond.v1.SessionAdminService. It is safe for concurrent use.
type Admin struct {
	sessiondv1.UnsafeSessionAdminServiceServer

	authority *authority.Authority
	replica   *replica.Replica
	lifecycle *lifecycle.Lifecycle
	store     authority.Source
	traces    *trace.Ring
	now       func() time.Time
	secret    []byte // SHA-256 of the operators' secret; nil: none is set
}

var _ sessiondv1.SessionAdminServiceServer = (*Admin)(nil)

// NewAdmin returns an Admin. Callers have to send the operators' secret as a bearer
// token; where none is set, only callers on this machine are let in.
// src is where Explain looks; traces are the sessions service's.
func NewAdmin(a *authority.Authority, r *replica.Replica, l *lifecycle.Lifecycle, src authority.Source, traces *Traces, secret string) *Admin {
	admin := &Admin{authority: a, replica: r, lifecycle: l, store: src, traces: traces.ring, now: time.Now}
	if secret != "" {
		sum := sha256.Sum256([]byte(secret))
		admin.secret = sum[:]
	}
	return admin
}

// SetClock is as [Service.SetClock].
func (s *Admin) SetClock(now func() time.Time) { s.now = now }

// RevokeSession implements sessiond.v1.SessionAdminService.
func (s *Admin) RevokeSession(ctx context.Context, req *sessiondv1.RevokeSessionRequest) (*sessiondv1.RevokeSessionResponse, error) {
	if err := s.allowSessions(ctx); err != nil {
		return nil, err
	}
	target, err := s.targetOf(req)
	if err != nil {
		return nil, err
	}
	revoked, err := s.replica.Revoke(ctx, target)
	if err != nil {
		return nil, statusOf(err)
	}
	return &sessiondv1.RevokeSessionResponse{Revision: string(revoked.Revision), Deleted: revoked.Sessions > 0}, nil
}

// RevokeUserSessions implements sessiond.v1.SessionAdminService.
func (s *Admin) RevokeUserSessions(ctx context.Context, req *sessiondv1.RevokeUserSessionsRequest) (*sessiondv1.RevokeUserSessionsResponse, error) {
	if err := s.allowSessions(ctx); err != nil {
		return nil, err
	}
	if req.GetUserId() == "" {
		return nil, status.Error(codes.InvalidArgument, "user_id is empty: name the user whose sessions end")
	}
	revoked, err := s.replica.Revoke(ctx, feed.Target{User: req.GetUserId(), Except: req.GetExceptSessionId()})
	if err != nil {
		return nil, statusOf(err)
	}
	return &sessiondv1.RevokeUserSessionsResponse{Revision: string(revoked.Revision), Deleted: uint64(revoked.Sessions)}, nil
}

func (s *Admin) targetOf(req *sessiondv1.RevokeSessionRequest) (feed.Target, error) {
	switch which := req.GetSession().(type) {
	case *sessiondv1.RevokeSessionRequest_Ref:
		user, session, err := idsOf(which.Ref)
		return feed.Target{User: user, Session: session}, err
	case *sessiondv1.RevokeSessionRequest_Credential:
		token, err := s.tokenOf(which.Credential)
		return feed.Target{Token: token}, err
	default:
		return feed.Target{}, errNoSession
	}
}

// allow lets operators in. Workers speak to the same listener.
func (s *Admin) allow(ctx context.Context) error {
	if s.secret == nil {
		if p, ok := peer.FromContext(ctx); ok && isLocal(p.Addr) {
			return nil
		}
		return status.Error(codes.PermissionDenied, "callers from other machines need the operators' secret: set operator.secret_file at the authority and send it as authorization: Bearer SECRET")
	}
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return status.Error(codes.Unauthenticated, "send the operators' secret (operator.secret_file) as authorization: Bearer SECRET")
	}
	sum := sha256.Sum256([]byte(strings.TrimPrefix(values[0], "Bearer ")))
	if subtle.ConstantTimeCompare(sum[:], s.secret) != 1 {
		return status.Error(codes.PermissionDenied, "this is not the operators' secret (operator.secret_file)")
	}
	return nil
}

func isLocal(address net.Addr) bool {
	switch a := address.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		// In-memory connections, which no other machine can have.
		return address.Network() == "bufconn"
	}
}
