package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
)

func intakeProto(in authority.Intake) *sessiondv1.GetIntakeResponse {
	out := &sessiondv1.GetIntakeResponse{
		Authorization:      in.Authorization,
		MaxCredentialBytes: uint32(in.MaxCredentialBytes),
		MaxBatchSize:       uint32(in.MaxBatchSize),
		ConfigDigest:       in.ConfigDigest,
		StalenessBound:     durationpb.New(in.StalenessBound),
		Instance:           in.Instance,
	}
	for _, c := range in.Cookies {
		out.Cookies = append(out.Cookies, &sessiondv1.CookieRule{Name: c.Name, Chunked: c.Chunked})
	}
	return out
}

var zeroAge = durationpb.New(0) // shared and never written to

func (s *Service) response(c authority.Credential, a *authority.Answer, now time.Time) *sessiondv1.ValidateResponse {
	resp := &sessiondv1.ValidateResponse{
		Age: zeroAge, Instance: s.intake.GetInstance(), ConfigDigest: s.intake.GetConfigDigest(), Untracked: a.Untracked,
	}
	if a.Age > 0 {
		resp.Age = durationpb.New(a.Age)
	}
	if a.Verified {
		resp.SessionKey = a.Key[:]
	}
	if !a.Verdict.Good() {
		resp.Verdict = &sessiondv1.ValidateResponse_Refusal{Refusal: &sessiondv1.Refusal{
			Reason: sessiondv1.Reason(a.Verdict.Reason), ExplainId: s.traces.refused(s.authority, c, a, now),
		}}
		return resp
	}
	resp.Verdict = &sessiondv1.ValidateResponse_Session{Session: sessionProto(a.Record, now)}
	resp.RemainingLifetime = durationpb.New(a.Verdict.Remaining)
	resp.NeedsRefresh = a.Verdict.NeedsRefresh
	return resp
}

func sessionProto(r *store.Record, now time.Time) *sessiondv1.Session {
	s := &r.Session
	out := &sessiondv1.Session{
		Id:                   s.ID,
		UserId:               s.UserID,
		CreatedAt:            timestamppb.New(s.CreatedAt),
		UpdatedAt:            timestamppb.New(s.UpdatedAt),
		ExpiresAt:            timestamppb.New(s.ExpiresAt),
		IpAddress:            s.IPAddress,
		UserAgent:            s.UserAgent,
		ActiveOrganizationId: s.ActiveOrganizationID,
		ImpersonatedBy:       s.ImpersonatedBy,
		Age:                  durationpb.New(since(now, s.CreatedAt)),
		Idle:                 durationpb.New(since(now, s.UpdatedAt)),
		Attributes:           attributesProto(s.Attributes),
	}
	if u := r.User; u != nil {
		out.User = &sessiondv1.User{
			Id:            u.ID,
			Name:          u.Name,
			Email:         u.Email,
			EmailVerified: u.EmailVerified,
			Image:         u.Image,
			CreatedAt:     timestamppb.New(u.CreatedAt),
			UpdatedAt:     timestamppb.New(u.UpdatedAt),
			Role:          u.Role,
			Attributes:    attributesProto(u.Attributes),
		}
	}
	return out
}

// since is now - t in whole milliseconds, as the issuer computes ages. Both are
// wall-clock readings: of the authority, and of the issuer as stored.
func since(now, t time.Time) time.Duration {
	return time.UnixMilli(now.UnixMilli()).Sub(t)
}

func attributesProto(attributes []store.Attribute) map[string]*sessiondv1.Attribute {
	if len(attributes) == 0 {
		return nil
	}
	out := make(map[string]*sessiondv1.Attribute, len(attributes))
	for i := range attributes {
		out[attributes[i].Name] = attributeProto(&attributes[i])
	}
	return out
}

func attributeProto(a *store.Attribute) *sessiondv1.Attribute {
	switch a.Kind {
	case store.KindString:
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_StringValue{StringValue: a.Text}}
	case store.KindInt:
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_IntValue{IntValue: a.Int}}
	case store.KindFloat:
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_DoubleValue{DoubleValue: a.Float}}
	case store.KindBool:
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_BoolValue{BoolValue: a.Bool}}
	case store.KindTime:
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_TimestampValue{TimestampValue: timestamppb.New(a.Time)}}
	case store.KindJSON:
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_JsonValue{JsonValue: a.Text}}
	case store.KindBytes:
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_BytesValue{BytesValue: a.Bytes}}
	default:
		return &sessiondv1.Attribute{}
	}
}
