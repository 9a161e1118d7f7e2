package rpc_test

import (
	"context"
	"slices"
	"testing"
	"time"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/rpc"
	"github.com/sessiond/sessiond/sessioncookie"
)

// seen keeps what an observer was shown.
type seen struct{ reasons []authority.Reason }

func (s *seen) Offer(c authority.Credential, answer *authority.Answer) {
	if c.Cookie != "" {
		s.reasons = append(s.reasons, answer.Verdict.Reason)
	}
}

// TestObserve: an observer is shown every verdict, single or of a batch, with its
// own credential.
func TestObserve(t *testing.T) {
	f := newFixture(t)
	a, err := authority.New(authority.Config{
		Cookies: sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}}, StalenessBound: 5 * time.Second, MaxBatchSize: 4,
	}, authority.Direct(f.store))
	if err != nil {
		t.Fatal(err)
	}
	s, o := rpc.New(a, nil, f.counts, nil), &seen{}
	s.Observe(o)
	forged := cookieCredential(name + "=" + sessioncookie.Sign(f.token, "another-secret-of-thirty-two-bytes"))
	if _, err := s.Validate(t.Context(), &sessiondv1.ValidateRequest{Credential: cookieCredential(f.cookie)}); err != nil {
		t.Fatal(err)
	}
	batch := []*sessiondv1.Credential{forged, cookieCredential(f.cookie)}
	if _, err := s.BatchValidate(t.Context(), &sessiondv1.BatchValidateRequest{Credentials: batch}); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Validate(gone, &sessiondv1.ValidateRequest{Credential: cookieCredential(f.cookie)}); err == nil {
		t.Error("decided for somebody who left")
	}
	want := []authority.Reason{authority.ReasonNone, authority.ReasonBadSignature, authority.ReasonNone}
	if !slices.Equal(o.reasons, want) {
		t.Errorf("shown %v, want %v", o.reasons, want)
	}
}
