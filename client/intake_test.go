package client_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/sessioncookie"
)

const bound = 5 * time.Second

func TestIntakeIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &server{intake: func(context.Context) (*sessiondv1.GetIntakeResponse, error) {
			<-release
			return testIntake("one", "session"), nil
		}}
		sessions := connect(t, s)

		// One who goes away neither ends the fetch nor waits for it.
		impatient, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := sessions.Validate(impatient, client.FromHeaders("session=x", ""))
			gone <- err
		}()
		synctest.Wait()
		var waiters sync.WaitGroup
		for range 10 {
			waiters.Go(func() {
				if _, err := sessions.Validate(t.Context(), client.FromHeaders("session=x", "")); err != nil {
					t.Errorf("Validate: %v", err)
				}
			})
		}
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUnavailable) {
			t.Errorf("cancelled caller: %v, want context.Canceled", err)
		}
		close(release)
		waiters.Wait()
		// Equal questions that gather behind those on their way are one.
		if intakes, validates := s.counts(); intakes != 1 || validates == 0 || validates > 5 {
			t.Errorf("%d GetIntake and %d Validate, want 1 and at most 5", intakes, validates)
		}
	})
}

func TestIntakeFailureIsNotRemembered(t *testing.T) {
	var fail atomic.Bool
	fail.Store(true)
	s := &server{intake: func(context.Context) (*sessiondv1.GetIntakeResponse, error) {
		if fail.Load() {
			return nil, status.Error(codes.PermissionDenied, "this worker may not ask")
		}
		return testIntake("one", "session"), nil
	}}
	sessions := connect(t, s)
	_, err := sessions.Validate(t.Context(), client.FromHeaders("session=x", ""))
	if !errors.Is(err, client.ErrUnavailable) || client.ReasonOf(err) != "" {
		t.Fatalf("Validate: %v, want ErrUnavailable", err)
	}
	fail.Store(false)
	if _, err := sessions.Validate(t.Context(), client.FromHeaders("session=x", "")); err != nil {
		t.Errorf("Validate after the failure: %v", err)
	}
}

func TestOnlyWhatTheIntakeNamesIsSent(t *testing.T) {
	for _, c := range []struct {
		name                  string
		authorization         bool
		cookie, bearer        string
		wantCookie, wantBearr string
		wantReason            client.Reason // decided without asking
	}{
		{name: "cookies", cookie: "a=1; session=x; b=2; session=y", bearer: "Bearer z", wantCookie: "session=x; session=y"},
		{name: "authorization is read", authorization: true, cookie: "a=1", bearer: "Bearer z", wantBearr: "Bearer z"},
		{name: "both", authorization: true, cookie: "session=x", bearer: "Bearer z", wantCookie: "session=x", wantBearr: "Bearer z"},
		{name: "nothing is left", cookie: "a=1", bearer: "Bearer z", wantReason: client.ReasonNoCredential},
		{name: "too much", cookie: "session=" + strings.Repeat("x", 1000), wantReason: client.ReasonMalformed},
		{name: "too much of what is not read", cookie: "session=x; a=" + strings.Repeat("x", 1000), wantCookie: "session=x"},
		{name: "control byte in the cookies", cookie: "a=\n; session=x", wantReason: client.ReasonMalformed},
		{name: "control byte in the authorization", cookie: "session=x", bearer: "\x7f", wantReason: client.ReasonMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &server{intake: func(context.Context) (*sessiondv1.GetIntakeResponse, error) {
				intake := testIntake("one", "session")
				intake.Authorization = c.authorization
				return intake, nil
			}}
			sessions := connect(t, s)
			_, err := sessions.Validate(t.Context(), client.FromHeaders(c.cookie, c.bearer))
			if got := client.ReasonOf(err); got != c.wantReason || err != nil && got == "" {
				t.Fatalf("Validate: %v, want the reason %q", err, c.wantReason)
			}
			if c.wantReason != "" {
				if _, validates := s.counts(); validates != 0 {
					t.Errorf("the authority was asked %d times", validates)
				}
				return
			}
			headers := s.lastCredential().GetHeaders()
			if string(headers.GetCookie()) != c.wantCookie || string(headers.GetAuthorization()) != c.wantBearr {
				t.Errorf("sent %q and %q, want %q and %q", headers.GetCookie(), headers.GetAuthorization(), c.wantCookie, c.wantBearr)
			}
			narrowed, err := sessions.Narrow(t.Context(), client.FromHeaders(c.cookie, c.bearer))
			if cookie, bearer := narrowed.Headers(); err != nil || cookie != c.wantCookie || bearer != c.wantBearr {
				t.Errorf("Narrow = %q, %q, %v", cookie, bearer, err)
			}
		})
	}
}

// TestUnreadCookiesAreNamed: the session arrives under another name than the issuer's,
// and whoever looks after the worker is told so.
func TestUnreadCookiesAreNamed(t *testing.T) {
	token := sessioncookie.NewToken()
	signed := sessioncookie.Encode(sessioncookie.Sign(token, strings.Repeat("s", 32)))
	var seen []client.Observation
	sessions := connect(t, &server{}, client.WithObserver(func(_ context.Context, o client.Observation) { seen = append(seen, o) }))
	for cookie, want := range map[string][]string{
		"theme=dark; codex-session=" + signed:                  {"codex-session"},
		"theme=dark; codex-session=" + url.QueryEscape(signed): {"codex-session"},
		"theme=a.b":                    nil,
		"a=1; " + token + "=" + signed: {"[32 bytes]"},
		"better-auth.trust_device=" + signed + "; better-auth.dont_remember=" + signed: nil,
	} {
		seen = nil
		_, err := sessions.Validate(t.Context(), client.FromHeaders(cookie, ""))
		if !errors.Is(err, client.ErrNoCredential) || !slices.Equal(client.UnreadCookiesOf(err), want) {
			t.Errorf("%v with %q, want %q", err, client.UnreadCookiesOf(err), want)
		}
		if len(seen) != 1 || !slices.Equal(seen[0].UnreadCookies, want) {
			t.Errorf("observed %+v", seen)
		}
	}
	if _, err := sessions.Validate(t.Context(), client.FromHeaders("session=x; codex-session="+signed, "")); err != nil {
		t.Error(err)
	}
	if got := client.UnreadCookiesOf(errors.New("another")); got != nil {
		t.Errorf("another error has %q", got)
	}
}

func TestNothingPresentedAsksNobody(t *testing.T) {
	s := &server{}
	sessions := connect(t, s)
	for _, credential := range []client.Credential{{}, client.FromHeaders("", ""), client.CookieValue(""), client.Token("")} {
		if _, err := sessions.Validate(t.Context(), credential); !errors.Is(err, client.ErrNoCredential) {
			t.Errorf("Validate: %v, want ErrNoCredential", err)
		}
	}
	if intakes, validates := s.counts(); intakes+validates != 0 {
		t.Errorf("%d calls of GetIntake and %d of Validate", intakes, validates)
	}
}

// TestRestart: the first answer of a new instance has the intake read again, and
// counts only if the configuration is the same.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name          string
		cookie        string // what the restarted authority reads
		wantIntakes   int
		wantValidates int
		wantSent      string
	}{
		{"configured alike", "session", 2, 2, "session=x"},
		{"configured otherwise", "other", 2, 3, "other=y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var restarted atomic.Bool
			s := &server{}
			s.intake = func(context.Context) (*sessiondv1.GetIntakeResponse, error) {
				if restarted.Load() {
					return testIntake("two", c.cookie), nil
				}
				return testIntake("one", "session"), nil
			}
			s.validate = func(_ context.Context, request *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
				switch {
				case !restarted.Load():
					return good("one"), nil
				case strings.HasPrefix(string(request.GetCredential().GetHeaders().GetCookie()), c.cookie):
					return good("two"), nil
				}
				return refuse("two", sessiondv1.Reason_REASON_NO_CREDENTIAL), nil
			}
			sessions := connect(t, s)
			credential := client.FromHeaders("session=x; other=y", "")
			for range 2 {
				if _, err := sessions.Validate(t.Context(), credential); err != nil {
					t.Fatalf("Validate: %v", err)
				}
				restarted.Store(true)
			}
			if intakes, validates := s.counts(); intakes != c.wantIntakes || validates != c.wantValidates {
				t.Errorf("%d GetIntake and %d Validate, want %d and %d", intakes, validates, c.wantIntakes, c.wantValidates)
			}
			if got := string(s.lastCredential().GetHeaders().GetCookie()); got != c.wantSent {
				t.Errorf("sent %q last, want %q", got, c.wantSent)
			}
		})
	}
}

func TestReplicasAreLearnt(t *testing.T) {
	var calls atomic.Int64
	names := []string{"one", "two", "three"}
	turn := func() string { return names[int(calls.Add(1))%len(names)] }
	s := &server{
		intake: func(context.Context) (*sessiondv1.GetIntakeResponse, error) {
			return testIntake(turn(), "session"), nil
		},
		validate: func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
			return good(turn()), nil
		},
	}
	sessions := connect(t, s)
	for range 50 {
		if _, err := sessions.Validate(t.Context(), client.FromHeaders("session=x", "")); err != nil {
			t.Fatal(err)
		}
	}
	if intakes, _ := s.counts(); intakes > 10 {
		t.Errorf("%d GetIntake for three replicas that answer in turn", intakes)
	}
}

func TestConfigurationThatKeepsChangingIsUndecided(t *testing.T) {
	var n atomic.Int64
	name := func() string { return strings.Repeat("x", int(n.Add(1))) }
	s := &server{
		intake: func(context.Context) (*sessiondv1.GetIntakeResponse, error) {
			return testIntake(name(), "session", name()), nil
		},
		validate: func(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
			return refuse(name(), sessiondv1.Reason_REASON_NOT_FOUND), nil
		},
	}
	sessions := connect(t, s)
	_, err := sessions.Validate(t.Context(), client.FromHeaders("session=x", ""))
	if !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("Validate: %v, want ErrUnavailable", err)
	}
}

// TestLocalRefusalsNeedACurrentIntake: a worker that sees only cookies of a new
// name must find out that the authority reads them now.
func TestLocalRefusalsNeedACurrentIntake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cookie := "session"
		var down bool
		s := &server{}
		s.intake = func(context.Context) (*sessiondv1.GetIntakeResponse, error) {
			if down {
				return nil, status.Error(codes.Unavailable, "down")
			}
			return testIntake("one", cookie), nil
		}
		sessions := connect(t, s)
		credential := client.FromHeaders("other=y", "")
		validate := func() error {
			_, err := sessions.Validate(t.Context(), credential)
			return err
		}

		for range 2 {
			if err := validate(); !errors.Is(err, client.ErrNoCredential) {
				t.Fatalf("Validate: %v, want ErrNoCredential", err)
			}
			time.Sleep(bound - time.Nanosecond)
		}
		if intakes, _ := s.counts(); intakes != 1 {
			t.Errorf("%d GetIntake within the staleness bound, want 1", intakes)
		}
		time.Sleep(bound)
		down = true
		if err := validate(); !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("authority down, intake old: %v, want ErrUnavailable", err)
		}
		down, cookie = false, "other"
		if err := validate(); err != nil {
			t.Errorf("the authority reads the cookie now: %v", err)
		}
		time.Sleep(bound)
		cookie = "third"
		narrowed, err := sessions.Narrow(t.Context(), client.FromHeaders("other=y; third=z", ""))
		if got, _ := narrowed.Headers(); got != "third=z" {
			t.Errorf("Narrow by an old intake: %q, %v", got, err)
		}
	})
}
