package clienttest

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

func sessionToProto(s client.Session, now time.Time) *sessiondv1.Session {
	return &sessiondv1.Session{
		Id:                   s.ID,
		UserId:               s.UserID,
		CreatedAt:            timeToProto(s.CreatedAt),
		UpdatedAt:            timeToProto(s.UpdatedAt),
		ExpiresAt:            timeToProto(s.ExpiresAt),
		IpAddress:            textToProto(s.IPAddress),
		UserAgent:            textToProto(s.UserAgent),
		ActiveOrganizationId: textToProto(s.ActiveOrganizationID),
		ImpersonatedBy:       textToProto(s.ImpersonatedBy),
		Age:                  durationpb.New(now.Sub(s.CreatedAt)),
		Idle:                 durationpb.New(now.Sub(s.UpdatedAt)),
		User: &sessiondv1.User{
			Id:            s.User.ID,
			Name:          s.User.Name,
			Email:         s.User.Email,
			EmailVerified: s.User.EmailVerified,
			Image:         textToProto(s.User.Image),
			CreatedAt:     timeToProto(s.User.CreatedAt),
			UpdatedAt:     timeToProto(s.User.UpdatedAt),
			Role:          textToProto(s.User.Role),
			Attributes:    attributesToProto(s.User.Attributes),
		},
		Attributes: attributesToProto(s.Attributes),
	}
}

func attributesToProto(in map[string]client.Attribute) map[string]*sessiondv1.Attribute {
	out := make(map[string]*sessiondv1.Attribute, len(in))
	for name, attribute := range in {
		out[name] = attributeToProto(attribute)
	}
	return out
}

func attributeToProto(in client.Attribute) *sessiondv1.Attribute {
	if v, ok := in.Text(); ok {
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_StringValue{StringValue: v}}
	}
	if v, ok := in.Int(); ok {
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_IntValue{IntValue: v}}
	}
	if v, ok := in.Float(); ok {
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_DoubleValue{DoubleValue: v}}
	}
	if v, ok := in.Bool(); ok {
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_BoolValue{BoolValue: v}}
	}
	if v, ok := in.Time(); ok {
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_TimestampValue{TimestampValue: timeToProto(v)}}
	}
	if v, ok := in.JSON(); ok {
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_JsonValue{JsonValue: string(v)}}
	}
	if v, ok := in.Bytes(); ok {
		return &sessiondv1.Attribute{Kind: &sessiondv1.Attribute_BytesValue{BytesValue: v}}
	}
	return &sessiondv1.Attribute{}
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func textToProto(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
