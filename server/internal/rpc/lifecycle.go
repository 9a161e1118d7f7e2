package rpc

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/lifecycle"
	"github.com/sessiond/sessiond/server/internal/store"
)

const (
	defaultPageSize = 50
	maxPageSize     = 500
)

// allowSessions lets in callers who may do with sessions what takes a store.
func (s *Admin) allowSessions(ctx context.Context) error {
	if err := s.allow(ctx); err != nil {
		return err
	}
	if s.authority.Stateless() {
		return statusOf(authority.ErrStateless)
	}
	return nil
}

// lifecycleStatus maps an error to the status of an operator's call, who may see what
// is wrong with his tables.
func lifecycleStatus(err error) error {
	switch {
	case errors.Is(err, store.ErrNoUser):
		return status.Error(codes.NotFound, "there is no user of that id")
	case errors.Is(err, lifecycle.ErrNone):
		return status.Error(codes.NotFound, "there is no such session")
	case errors.Is(err, store.ErrNotWritable), errors.Is(err, store.ErrNoUsers):
		return status.Error(codes.FailedPrecondition, err.Error())
	default:
		return statusOf(err)
	}
}

// CreateSession implements sessiond.v1.SessionAdminService.
func (s *Admin) CreateSession(ctx context.Context, req *sessiondv1.CreateSessionRequest) (*sessiondv1.CreateSessionResponse, error) {
	if err := s.allowSessions(ctx); err != nil {
		return nil, err
	}
	if req.GetUserId() == "" {
		return nil, status.Error(codes.InvalidArgument, "user_id is empty: name the user whose session to make")
	}
	now := s.now()
	made, err := s.lifecycle.Create(ctx, now, lifecycle.Wish{
		UserID: req.GetUserId(), IPAddress: req.GetIpAddress(), UserAgent: req.GetUserAgent(), DontRemember: req.GetDontRememberMe(),
	})
	if err != nil {
		return nil, lifecycleStatus(err)
	}
	return &sessiondv1.CreateSessionResponse{
		Session: sessionProto(&made.Record, now), CookieName: made.CookieName, CookieValue: made.CookieValue, SetCookies: made.SetCookies,
	}, nil
}

// GetSession implements sessiond.v1.SessionAdminService.
func (s *Admin) GetSession(ctx context.Context, req *sessiondv1.GetSessionRequest) (*sessiondv1.GetSessionResponse, error) {
	if err := s.allowSessions(ctx); err != nil {
		return nil, err
	}
	now := s.now()
	var found lifecycle.Session
	switch which := req.GetSession().(type) {
	case *sessiondv1.GetSessionRequest_Ref:
		user, session, err := idsOf(which.Ref)
		if err != nil {
			return nil, err
		}
		found, err = s.lifecycle.Get(ctx, now, user, session)
		if err != nil {
			return nil, lifecycleStatus(err)
		}
	case *sessiondv1.GetSessionRequest_Credential:
		token, err := s.tokenOf(which.Credential)
		if err != nil {
			return nil, err
		}
		if found, err = s.lifecycle.ByToken(ctx, now, token); err != nil {
			return nil, lifecycleStatus(err)
		}
	default:
		return nil, errNoSession
	}
	return &sessiondv1.GetSessionResponse{Session: listedProto(found, now)}, nil
}

func listedProto(s lifecycle.Session, now time.Time) *sessiondv1.ListedSession {
	return &sessiondv1.ListedSession{Session: sessionProto(&s.Record, now), Reason: sessiondv1.Reason(s.Verdict.Reason)}
}

// ListSessions implements sessiond.v1.SessionAdminService.
func (s *Admin) ListSessions(ctx context.Context, req *sessiondv1.ListSessionsRequest) (*sessiondv1.ListSessionsResponse, error) {
	if err := s.allowSessions(ctx); err != nil {
		return nil, err
	}
	if req.GetUserId() == "" {
		return nil, status.Error(codes.InvalidArgument, "user_id is empty: name the user whose sessions to list")
	}
	size := int(req.GetPageSize())
	switch {
	case size == 0:
		size = defaultPageSize
	case size > maxPageSize:
		return nil, status.Errorf(codes.InvalidArgument, "page_size is %d: at most %d", size, maxPageSize)
	}
	after, err := parsePageToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	now := s.now()
	page, next, err := s.lifecycle.List(ctx, now, req.GetUserId(), size, after)
	if err != nil {
		return nil, lifecycleStatus(err)
	}
	resp := &sessiondv1.ListSessionsResponse{NextPageToken: pageToken(next)}
	for _, found := range page {
		resp.Sessions = append(resp.Sessions, listedProto(found, now))
	}
	return resp, nil
}

// A page token names the last session of the page before, so that sessions that come
// and go meanwhile shift nothing.
func pageToken(c store.Cursor) string {
	if c.CreatedAt.IsZero() {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(c.CreatedAt.UnixMicro(), 10) + "," + c.ID))
}

func parsePageToken(text string) (store.Cursor, error) {
	if text == "" {
		return store.Cursor{}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	at, id, ok := strings.Cut(string(raw), ",")
	micros, numErr := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok || numErr != nil {
		return store.Cursor{}, status.Error(codes.InvalidArgument, "page_token is none of ours: send next_page_token of the page before, or none")
	}
	return store.Cursor{CreatedAt: time.UnixMicro(micros).UTC(), ID: id}, nil
}

// ListBrowserSessions implements sessiond.v1.SessionAdminService.
func (s *Admin) ListBrowserSessions(ctx context.Context, req *sessiondv1.ListBrowserSessionsRequest) (*sessiondv1.ListBrowserSessionsResponse, error) {
	if err := s.allowSessions(ctx); err != nil {
		return nil, err
	}
	if len(req.GetCookie()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "cookie is empty: send the browser's whole Cookie header")
	}
	if limit := s.authority.Intake().MaxCredentialBytes; len(req.GetCookie()) > limit {
		return nil, status.Errorf(codes.InvalidArgument, "cookie is %d bytes: at most %d (limits.max_credential_bytes)", len(req.GetCookie()), limit)
	}
	now := s.now()
	held, err := s.lifecycle.Browser(ctx, now, string(req.GetCookie()))
	if err != nil {
		return nil, lifecycleStatus(err)
	}
	resp := &sessiondv1.ListBrowserSessionsResponse{}
	for _, b := range held {
		out := &sessiondv1.BrowserSession{Active: b.Active}
		if b.Record.Found {
			out.Session = listedProto(b.Session, now)
		}
		resp.Sessions = append(resp.Sessions, out)
	}
	return resp, nil
}

// RefreshSession implements sessiond.v1.SessionAdminService.
func (s *Admin) RefreshSession(ctx context.Context, req *sessiondv1.RefreshSessionRequest) (*sessiondv1.RefreshSessionResponse, error) {
	if err := s.allowSessions(ctx); err != nil {
		return nil, err
	}
	credential, err := credentialOf(req.GetCredential())
	if err != nil {
		return nil, err
	}
	now := s.now()
	done, err := s.lifecycle.Refresh(ctx, now, credential)
	if err != nil {
		return nil, lifecycleStatus(err)
	}
	resp := &sessiondv1.RefreshSessionResponse{Refreshed: done.Done, SetCookies: done.SetCookies}
	if done.Verdict.Good() {
		resp.Verdict = &sessiondv1.RefreshSessionResponse_Session{Session: sessionProto(&done.Record, now)}
	} else {
		resp.Verdict = &sessiondv1.RefreshSessionResponse_Refusal{Refusal: &sessiondv1.Refusal{Reason: sessiondv1.Reason(done.Verdict.Reason)}}
	}
	return resp, nil
}

var errNoSession = status.Error(codes.InvalidArgument, "session is not set: send a credential or a ref")

func idsOf(ref *sessiondv1.SessionRef) (user, session string, err error) {
	user, session = ref.GetUserId(), ref.GetSessionId()
	if user == "" || session == "" {
		return "", "", status.Error(codes.InvalidArgument, "ref needs both user_id and session_id")
	}
	return user, session, nil
}

// tokenOf verifies a credential and returns its token as the store holds it.
func (s *Admin) tokenOf(c *sessiondv1.Credential) (string, error) {
	credential, err := credentialOf(c)
	if err != nil {
		return "", err
	}
	_, token, reason := s.authority.Find(s.now(), credential)
	if reason != authority.ReasonNone {
		return "", status.Errorf(codes.InvalidArgument, "the credential does not verify: %s", reason)
	}
	return token, nil
}
