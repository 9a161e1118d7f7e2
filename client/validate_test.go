package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/client/clienttest"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

func TestNoStatusIsARefusal(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		t.Run(code.String(), func(t *testing.T) {
			s := &server{validate: func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
				return nil, status.Error(code, "no")
			}}
			sessions := connect(t, s)
			session, err := sessions.Validate(t.Context(), client.FromHeaders("session=x", ""))
			if session != nil || !errors.Is(err, client.ErrUnavailable) || errors.Is(err, client.ErrInvalid) || errors.Is(err, client.ErrNoCredential) {
				t.Fatalf("Validate = %v, %v, want ErrUnavailable alone", session, err)
			}
			if unavailable, ok := errors.AsType[*client.UnavailableError](err); !ok || status.Code(unavailable.Cause) != code {
				t.Errorf("the cause of %v has lost its code", err)
			}
			wantCalls := 1
			if code == codes.Unavailable {
				wantCalls = 3
			}
			if _, validates := s.counts(); validates != wantCalls {
				t.Errorf("asked %d times, want %d", validates, wantCalls)
			}
		})
	}
}

func TestUnavailableIsAskedAgain(t *testing.T) {
	calls := 0
	s := &server{validate: func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
		if calls++; calls < 3 {
			return nil, status.Error(codes.Unavailable, "draining")
		}
		return good("one"), nil
	}}
	sessions := connect(t, s)
	if _, err := sessions.Validate(t.Context(), client.FromHeaders("session=x", "")); err != nil {
		t.Errorf("Validate: %v", err)
	}
}

func TestAnswersWithoutASessionAreRefusals(t *testing.T) {
	for name, answer := range map[string]*sessiondv1.ValidateResponse{
		"no verdict":     {Instance: "one"},
		"no reason":      refuse("one", sessiondv1.Reason_REASON_UNSPECIFIED),
		"unknown reason": refuse("one", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{validate: func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
				return answer, nil
			}}
			sessions := connect(t, s)
			session, err := sessions.Validate(t.Context(), client.FromHeaders("session=x", ""))
			if session != nil || !errors.Is(err, client.ErrInvalid) || client.ReasonOf(err) != client.ReasonUnspecified {
				t.Errorf("Validate = %v, %v, want a refusal without a reason", session, err)
			}
		})
	}
}

// TestWhoseTimeIsUp: an authority that never answers is the authority's failure
// unless the caller's own context ended first.
func TestWhoseTimeIsUp(t *testing.T) {
	for _, c := range []struct {
		name     string
		context  func(context.Context) (context.Context, context.CancelFunc)
		want     error
		wantTime time.Duration
	}{
		{"no deadline", context.WithCancel, client.ErrUnavailable, client.DefaultTimeout},
		{"late deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Minute)
		}, client.ErrUnavailable, client.DefaultTimeout},
		{"early deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, context.DeadlineExceeded, time.Second},
		{"cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, context.Canceled, time.Second},
	} {
		for _, hung := range []string{"GetIntake", "Validate"} {
			t.Run(c.name+", "+hung+" hangs", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &server{validate: func(ctx context.Context, _ *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
						<-ctx.Done()
						return nil, status.FromContextError(ctx.Err()).Err()
					}}
					if hung == "GetIntake" {
						s.intake = func(ctx context.Context) (*sessiondv1.GetIntakeResponse, error) {
							<-ctx.Done()
							return nil, status.FromContextError(ctx.Err()).Err()
						}
					}
					sessions := connect(t, s)
					ctx, cancel := c.context(t.Context())
					defer cancel()
					start := time.Now()
					_, err := sessions.Validate(ctx, client.FromHeaders("session=x", ""))
					if got := time.Since(start); got != c.wantTime {
						t.Errorf("took %v, want %v", got, c.wantTime)
					}
					for _, sentinel := range []error{client.ErrUnavailable, context.DeadlineExceeded, context.Canceled} {
						if errors.Is(err, sentinel) != (sentinel == c.want) {
							t.Errorf("Validate: %v, want %v alone", err, c.want)
						}
					}
				})
			})
		}
	}
}

// TestTimeUpWhileRefetching: the deadline that ends the wait is the client's own,
// so it must not look like the caller's.
func TestTimeUpWhileRefetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.intake = func(ctx context.Context) (*sessiondv1.GetIntakeResponse, error) {
			if intakes, _ := s.counts(); intakes == 1 {
				return testIntake("one", "session"), nil
			}
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		s.validate = func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
			time.Sleep(client.DefaultTimeout / 2)
			return good("two"), nil
		}
		sessions := connect(t, s)
		start := time.Now()
		session, err := sessions.Validate(t.Context(), client.CookieValue("x"))
		if session != nil || !errors.Is(err, client.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Validate = %v, %v, want ErrUnavailable alone", session, err)
		}
		if got := time.Since(start); got != client.DefaultTimeout {
			t.Errorf("took %v, want %v", got, client.DefaultTimeout)
		}
	})
}

func TestMaxAgeIsSent(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []client.CallOption
		want *durationpb.Duration
	}{
		{"unset", nil, nil},
		{"strict", []client.CallOption{client.Strict()}, durationpb.New(0)},
		{"a second", []client.CallOption{client.MaxAge(time.Second)}, durationpb.New(time.Second)},
		{"negative", []client.CallOption{client.MaxAge(-time.Second)}, durationpb.New(0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &server{}
			sessions := connect(t, s)
			if _, err := sessions.Validate(t.Context(), client.CookieValue("x"), c.opts...); err != nil {
				t.Fatal(err)
			}
			got := s.validates[0].GetMaxAge()
			if (got == nil) != (c.want == nil) || got.AsDuration() != c.want.AsDuration() {
				t.Errorf("max_age = %v, want %v", got, c.want)
			}
			if value := string(s.lastCredential().GetCookieValue()); value != "x" {
				t.Errorf("cookie value %q", value)
			}
		})
	}
}

func TestBatchIsSplit(t *testing.T) {
	s := &server{batch: func(_ context.Context, request *sessiondv1.BatchValidateRequest) (*sessiondv1.BatchValidateResponse, error) {
		answer := &sessiondv1.BatchValidateResponse{}
		for _, credential := range request.GetCredentials() {
			verdict := good("one")
			verdict.GetSession().Id = string(credential.GetCookieValue())
			answer.Verdicts = append(answer.Verdicts, verdict)
		}
		return answer, nil
	}}
	sessions := connect(t, s)
	credentials := []client.Credential{client.CookieValue("a"), {}, client.CookieValue("b"), client.CookieValue("c"), client.FromHeaders("x=1", "")}
	results, err := sessions.ValidateBatch(t.Context(), credentials)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, result := range results {
		if result.Session != nil {
			got = append(got, result.Session.ID)
			continue
		}
		got = append(got, string(client.ReasonOf(result.Err)))
	}
	if diff := cmp.Diff([]string{"a", "NO_CREDENTIAL", "b", "c", "NO_CREDENTIAL"}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if len(s.batches) != 2 || len(s.batches[0].GetCredentials()) != 2 || len(s.batches[1].GetCredentials()) != 1 {
		t.Errorf("batches %v, want one of 2 and one of 1", s.batches)
	}
	if want := (client.Stats{Calls: 5, Refusals: 2, Misses: 4, LeaseAge: -1, Watch: client.WatchUnsupported}); sessions.Stats() != want {
		t.Errorf("stats %+v, want %+v", sessions.Stats(), want)
	}
}

func TestBatchWithTooFewVerdictsIsUndecided(t *testing.T) {
	s := &server{batch: func(context.Context, *sessiondv1.BatchValidateRequest) (*sessiondv1.BatchValidateResponse, error) {
		return &sessiondv1.BatchValidateResponse{Verdicts: []*sessiondv1.ValidateResponse{good("one")}}, nil
	}}
	sessions := connect(t, s)
	results, err := sessions.ValidateBatch(t.Context(), []client.Credential{client.CookieValue("a"), client.CookieValue("b")})
	if results != nil || !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("ValidateBatch = %v, %v, want ErrUnavailable", results, err)
	}
}

func TestObserverAndStats(t *testing.T) {
	var mu sync.Mutex
	var got []string
	observer := func(_ context.Context, o client.Observation) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprint(o.Outcome, " ", o.Reason, " ", o.Source, " ", o.Err != nil))
	}
	answers := []*sessiondv1.ValidateResponse{good("one"), refuse("one", sessiondv1.Reason_REASON_NOT_FOUND)}
	s := &server{validate: func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
		if len(answers) == 0 {
			return nil, status.Error(codes.Internal, "bug")
		}
		answer := answers[0]
		answers = answers[1:]
		return answer, nil
	}}
	sessions := connect(t, s, client.WithObserver(observer))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, call := range []struct {
		ctx        context.Context
		credential client.Credential
	}{
		{t.Context(), client.FromHeaders("session=x", "")},
		{t.Context(), client.FromHeaders("session=x", "")},
		{t.Context(), client.FromHeaders("session=x", "")},
		{t.Context(), client.FromHeaders("a=1", "")},
		{cancelled, client.FromHeaders("session=x", "")},
	} {
		_, _ = sessions.Validate(call.ctx, call.credential) // the observer is told
	}
	want := []string{
		"accepted  authority false", "refused NOT_FOUND authority true", "unavailable  authority true",
		"refused NO_CREDENTIAL local true", "aborted  local true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("observed (-want +got):\n%s", cmp.Diff(want, got))
	}
	if want := (client.Stats{Calls: 5, Refusals: 2, Unavailable: 1, Misses: 4, LeaseAge: -1, Watch: client.WatchUnsupported}); sessions.Stats() != want {
		t.Errorf("stats %+v, want %+v", sessions.Stats(), want)
	}
}

func TestClosedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{intake: func(ctx context.Context) (*sessiondv1.GetIntakeResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}}
		sessions := connect(t, s)
		waiting := make(chan error, 1)
		go func() {
			_, err := sessions.Validate(t.Context(), client.CookieValue("x"))
			waiting <- err
		}()
		synctest.Wait()
		start := time.Now()
		if err := sessions.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, client.ErrUnavailable) || time.Since(start) != 0 {
			t.Errorf("call under way: %v after %v, want ErrUnavailable at once", err, time.Since(start))
		}
		if _, err := sessions.Validate(t.Context(), client.CookieValue("x")); !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("call after Close: %v, want ErrUnavailable", err)
		}
	})
}

// TestBatchOfLargeCredentials: a batch within max_batch_size may still be more
// than a gRPC server takes in one message.
func TestBatchOfLargeCredentials(t *testing.T) {
	authority := clienttest.New(t)
	cookie := authority.Add(client.Session{})
	credentials := make([]client.Credential, 100)
	for i := range credentials {
		credentials[i] = client.FromHeaders(cookie+"; "+clienttest.CookieName+"="+strings.Repeat("x", 60<<10), "")
	}
	results, err := authority.Client().ValidateBatch(t.Context(), credentials)
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range results {
		if result.Session == nil {
			t.Fatalf("credential %d: %v", i, result.Err)
		}
	}
}
