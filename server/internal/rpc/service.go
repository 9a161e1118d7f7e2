// Package rpc serves the authority over gRPC. It converts, and maps errors to
// statuses in one place; it decides nothing.
package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/replica"
)

// Recorder counts what the service answers. It never sees a credential.
type Recorder interface {
	// Verdict records one verdict.
	Verdict(authority.Reason)
	// Undecided records that n credentials could not be decided.
	Undecided(n int)
}

// Service implements sessiond.v1.SessionService.
type Service struct {
	sessiondv1.UnsafeSessionServiceServer

	authority *authority.Authority
	replica   *replica.Replica
	recorder  Recorder
	observer  Observer // nil: none
	traces    *Traces  // nil: refusals have no id
	now       func() time.Time
	intake    *sessiondv1.GetIntakeResponse
	bound     time.Duration
	// ending is done when the server stops: Watches would hold it up.
	ending context.Context
	end    context.CancelFunc
}

var _ sessiondv1.SessionServiceServer = (*Service)(nil)

// New returns the service over an authority.
// traces may be nil: refusals are not kept then.
func New(a *authority.Authority, replica *replica.Replica, r Recorder, traces *Traces) *Service {
	in := a.Intake()
	s := &Service{authority: a, replica: replica, recorder: r, traces: traces, now: time.Now, intake: intakeProto(in), bound: in.StalenessBound}
	s.ending, s.end = context.WithCancel(context.Background())
	return s
}

// SetClock has sessions' times held against another wall clock than this machine's,
// for tests that move it. Call it before the service serves.
func (s *Service) SetClock(now func() time.Time) { s.now = now }

// EndWatches ends all Watches, now and from now on: the server stops.
func (s *Service) EndWatches() { s.end() }

// GetIntake tells which parts of a request can carry a session.
func (s *Service) GetIntake(context.Context, *sessiondv1.GetIntakeRequest) (*sessiondv1.GetIntakeResponse, error) {
	return s.intake, nil
}

// Validate decides one credential.
func (s *Service) Validate(ctx context.Context, req *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
	call, err := s.arrival(req.GetMaxAge(), req.GetAtLeast())
	if err != nil {
		return nil, err
	}
	credential, err := credentialOf(req.GetCredential())
	if err != nil {
		return nil, err
	}
	answer, err := s.authority.Validate(ctx, call, credential)
	if err != nil {
		s.recorder.Undecided(1)
		return nil, statusOf(err)
	}
	s.recorder.Verdict(answer.Verdict.Reason)
	s.observe(credential, &answer)
	return s.response(credential, &answer, call.Now), nil
}

// BatchValidate decides many credentials with one lookup.
func (s *Service) BatchValidate(ctx context.Context, req *sessiondv1.BatchValidateRequest) (*sessiondv1.BatchValidateResponse, error) {
	call, err := s.arrival(req.GetMaxAge(), req.GetAtLeast())
	if err != nil {
		return nil, err
	}
	if n, most := len(req.GetCredentials()), int(s.intake.GetMaxBatchSize()); n > most {
		return nil, status.Errorf(codes.InvalidArgument, "batch of %d credentials, at most %d: split it (GetIntake.max_batch_size)", n, most)
	}
	credentials := make([]authority.Credential, len(req.GetCredentials()))
	for i, c := range req.GetCredentials() {
		credential, err := credentialOf(c)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "credentials[%d]: %s", i, status.Convert(err).Message())
		}
		credentials[i] = credential
	}
	answers, err := s.authority.ValidateBatch(ctx, call, credentials)
	if err != nil {
		s.recorder.Undecided(len(credentials))
		return nil, statusOf(err)
	}
	resp := &sessiondv1.BatchValidateResponse{Verdicts: make([]*sessiondv1.ValidateResponse, len(answers))}
	for i, answer := range answers {
		s.recorder.Verdict(answer.Verdict.Reason)
		s.observe(credentials[i], &answer)
		resp.Verdicts[i] = s.response(credentials[i], &answer, call.Now)
	}
	return resp, nil
}

// arrival reads both clocks, for a call that has just come in.
func (s *Service) arrival(maxAge *durationpb.Duration, atLeast string) (authority.Call, error) {
	call := authority.Call{Now: s.now(), Arrived: clock.Now(), MaxAge: s.bound, AtLeast: feed.Revision(atLeast)}
	if maxAge == nil {
		return call, nil
	}
	if err := maxAge.CheckValid(); err != nil || maxAge.AsDuration() < 0 {
		return call, status.Error(codes.InvalidArgument, "max_age must be a duration of zero or more: zero reads the store, unset allows the staleness bound")
	}
	call.MaxAge = min(maxAge.AsDuration(), s.bound)
	return call, nil
}

// credentialOf checks the shape of the message; what it holds is the authority's to judge.
func credentialOf(c *sessiondv1.Credential) (authority.Credential, error) {
	switch kind := c.GetKind().(type) {
	case *sessiondv1.Credential_Headers:
		h := kind.Headers
		return authority.Credential{Form: authority.FormHeaders, Cookie: string(h.GetCookie()), Authorization: string(h.GetAuthorization())}, nil
	case *sessiondv1.Credential_CookieValue:
		return authority.Credential{Form: authority.FormCookieValue, Value: string(kind.CookieValue)}, nil
	case *sessiondv1.Credential_Token:
		return authority.Credential{Form: authority.FormToken, Value: string(kind.Token)}, nil
	default:
		return authority.Credential{}, status.Error(codes.InvalidArgument, "credential is not set: send headers, a cookie_value or a token")
	}
}
