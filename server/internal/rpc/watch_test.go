package rpc_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// TestWatchRefuses: who speaks another protocol, or breaks it, is told what is
// wrong; a client that is told so asks for every session.
func TestWatchRefuses(t *testing.T) {
	for _, c := range []struct {
		name     string
		requests []*sessiondv1.WatchRequest
		code     codes.Code
		says     string
	}{
		{"no protocol", []*sessiondv1.WatchRequest{{Client: "worker"}}, codes.FailedPrecondition, "watch protocol 0, this authority speaks 1"},
		{"a later protocol", []*sessiondv1.WatchRequest{{Protocol: 2}}, codes.FailedPrecondition, "upgrade the older of the two"},
		{"a long name", []*sessiondv1.WatchRequest{{Protocol: 1, Client: strings.Repeat("x", 129)}}, codes.InvalidArgument, "client name of 129 bytes, at most 128"},
		{"an acknowledgement of nothing", []*sessiondv1.WatchRequest{{Protocol: 1}, {Ack: 99}}, codes.InvalidArgument, "acknowledges a message that was not sent: number 99"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream, err := newFixture(t).client.Watch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, request := range c.requests {
				if err := stream.Send(request); err != nil {
					t.Fatal(err)
				}
			}
			for err == nil {
				_, err = stream.Recv() // perhaps a hello first
			}
			if s := status.Convert(err); s.Code() != c.code || !strings.Contains(s.Message(), c.says) {
				t.Errorf("the watch ended with %v %q, want %v with %q", s.Code(), s.Message(), c.code, c.says)
			}
		})
	}
}

// TestWatchBegins: the first message is the hello, with what a client has to know.
func TestWatchBegins(t *testing.T) {
	stream, err := newFixture(t).client.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&sessiondv1.WatchRequest{Protocol: 1, Client: "worker"}); err != nil {
		t.Fatal(err)
	}
	hello, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	in := hello.GetHello().GetIntake()
	if hello.GetNumber() != 1 || in.GetInstance() == "" || in.GetStalenessBound().AsDuration() <= 0 || len(in.GetCookies()) == 0 {
		t.Errorf("the hello is %v", hello)
	}
}

// TestOperatorsOnly: only who has the operators' secret may revoke, and no error
// repeats what was sent.
func TestOperatorsOnly(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		name string
		sent []string
		code codes.Code
	}{
		{"nothing", nil, codes.Unauthenticated},
		{"two", []string{"Bearer " + operators, "Bearer " + operators}, codes.Unauthenticated},
		{"another", []string{"Bearer " + operators + "x"}, codes.PermissionDenied},
		{"the start of it", []string{"Bearer " + operators[:8]}, codes.PermissionDenied},
		{"none in it", []string{"Bearer "}, codes.PermissionDenied},
		// Let in, and there is no change feed here.
		{"the secret", []string{"Bearer " + operators}, codes.FailedPrecondition},
	} {
		t.Run(c.name, func(t *testing.T) {
			md := metadata.MD{}
			md.Set("authorization", c.sent...)
			ctx := metadata.NewOutgoingContext(context.Background(), md)
			_, one := f.admin.RevokeSession(ctx, &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Credential{Credential: cookieCredential(f.cookie)}})
			_, all := f.admin.RevokeUserSessions(ctx, &sessiondv1.RevokeUserSessionsRequest{UserId: "u1"})
			for what, err := range map[string]error{"RevokeSession": one, "RevokeUserSessions": all} {
				if s := status.Convert(err); s.Code() != c.code || strings.Contains(s.Message(), operators[:8]) {
					t.Errorf("%s: %v %q, want %v", what, s.Code(), s.Message(), c.code)
				}
			}
		})
	}
}

// TestRevokeRequests: a request that names nothing revokes nothing and says why.
func TestRevokeRequests(t *testing.T) {
	f := newFixture(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+operators)
	for says, request := range map[string]*sessiondv1.RevokeSessionRequest{
		"session is not set": {},
		"ref needs both":     {Session: &sessiondv1.RevokeSessionRequest_Ref{Ref: &sessiondv1.SessionRef{SessionId: "s1"}}},
		"does not verify":    {Session: &sessiondv1.RevokeSessionRequest_Credential{Credential: cookieCredential(f.cookie + "x")}},
	} {
		_, err := f.admin.RevokeSession(ctx, request)
		if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), says) || strings.Contains(s.Message(), f.token) {
			t.Errorf("%v %q, want InvalidArgument with %q", s.Code(), s.Message(), says)
		}
	}
	if _, err := f.admin.RevokeUserSessions(ctx, &sessiondv1.RevokeUserSessionsRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("without a user: %v", err)
	}
}
