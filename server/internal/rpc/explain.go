package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/authority"
)

// Explain implements sessiond.v1.SessionAdminService.
func (s *Admin) Explain(ctx context.Context, req *sessiondv1.ExplainRequest) (*sessiondv1.ExplainResponse, error) {
	if err := s.allow(ctx); err != nil {
		return nil, err
	}
	switch what := req.GetWhat().(type) {
	case *sessiondv1.ExplainRequest_Credential:
		credential, err := credentialOf(what.Credential)
		if err != nil {
			return nil, err
		}
		// A store that could not be asked is in the explanation: undecided.
		e, err := s.authority.Explain(ctx, s.now(), s.store, credential)
		if err != nil && ctx.Err() != nil {
			return nil, statusOf(ctx.Err())
		}
		return &sessiondv1.ExplainResponse{Explanation: explanationProto(&e)}, nil
	case *sessiondv1.ExplainRequest_ExplainId:
		e, ok := s.traces.Get(what.ExplainId)
		if !ok {
			return nil, status.Error(codes.NotFound, "no trace of that id is kept here: it is too old, or another replica gave it")
		}
		return &sessiondv1.ExplainResponse{Explanation: explanationProto(&e)}, nil
	default:
		return nil, status.Error(codes.InvalidArgument, "what is not set: send a credential or an explain_id")
	}
}

func explanationProto(e *authority.Explanation) *sessiondv1.Explanation {
	out := &sessiondv1.Explanation{Verdict: e.Verdict}
	if e.Reason != "" {
		out.Reason = sessiondv1.Reason(sessiondv1.Reason_value["REASON_"+e.Reason])
	}
	for _, s := range e.Steps {
		out.Steps = append(out.Steps, &sessiondv1.ExplanationStep{Name: s.Name, Ok: s.OK, Detail: s.Detail})
	}
	for _, a := range e.Advice {
		out.Advice = append(out.Advice, &sessiondv1.Advice{Fault: string(a.Fault), Cause: a.Cause, Setting: a.Setting})
	}
	return out
}
