package client_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// server is an authority that answers as a test says and keeps what it was asked.
type server struct {
	sessiondv1.UnimplementedSessionServiceServer
	intake   func(context.Context) (*sessiondv1.GetIntakeResponse, error)
	validate func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error)
	batch    func(context.Context, *sessiondv1.BatchValidateRequest) (*sessiondv1.BatchValidateResponse, error)

	mu        sync.Mutex
	intakes   int
	validates []*sessiondv1.ValidateRequest
	batches   []*sessiondv1.BatchValidateRequest
}

func (s *server) GetIntake(ctx context.Context, _ *sessiondv1.GetIntakeRequest) (*sessiondv1.GetIntakeResponse, error) {
	s.mu.Lock()
	s.intakes++
	s.mu.Unlock()
	if s.intake == nil {
		return testIntake("one", "session"), nil
	}
	return s.intake(ctx)
}

func (s *server) Validate(ctx context.Context, request *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
	s.mu.Lock()
	s.validates = append(s.validates, request)
	s.mu.Unlock()
	if s.validate == nil {
		return good("one"), nil
	}
	return s.validate(ctx, request)
}

func (s *server) BatchValidate(ctx context.Context, request *sessiondv1.BatchValidateRequest) (*sessiondv1.BatchValidateResponse, error) {
	s.mu.Lock()
	s.batches = append(s.batches, request)
	s.mu.Unlock()
	return s.batch(ctx, request)
}

// counts returns how many calls of GetIntake and Validate there were.
func (s *server) counts() (intakes, validates int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.intakes, len(s.validates)
}

// lastCredential returns the credential of the last Validate.
func (s *server) lastCredential() *sessiondv1.Credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.validates[len(s.validates)-1].GetCredential()
}

// testIntake names cookies; its digest is made of them.
func testIntake(instance string, cookies ...string) *sessiondv1.GetIntakeResponse {
	intake := &sessiondv1.GetIntakeResponse{
		MaxCredentialBytes: 1000,
		MaxBatchSize:       2,
		StalenessBound:     durationpb.New(bound),
		Instance:           instance,
	}
	for _, name := range cookies {
		intake.Cookies = append(intake.Cookies, &sessiondv1.CookieRule{Name: name})
		intake.ConfigDigest = append(intake.ConfigDigest, name...)
	}
	return intake
}

func good(instance string) *sessiondv1.ValidateResponse {
	return &sessiondv1.ValidateResponse{
		Verdict:  &sessiondv1.ValidateResponse_Session{Session: &sessiondv1.Session{Id: "id", UserId: "user", Age: durationpb.New(0)}},
		Instance: instance,
	}
}

func refuse(instance string, reason sessiondv1.Reason) *sessiondv1.ValidateResponse {
	return &sessiondv1.ValidateResponse{
		Verdict:  &sessiondv1.ValidateResponse_Refusal{Refusal: &sessiondv1.Refusal{Reason: reason}},
		Instance: instance,
	}
}

// connect serves s in memory and returns a Client of it. Both end with the test,
// or with its synctest bubble.
func connect(t *testing.T, s *server, opts ...client.Option) *client.Client {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	g := grpc.NewServer()
	sessiondv1.RegisterSessionServiceServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
	opts = append([]client.Option{client.WithInsecure(), client.WithDialOptions(grpc.WithContextDialer(dial))}, opts...)
	sessions, err := client.New("passthrough:///authority", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sessions.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return sessions
}
