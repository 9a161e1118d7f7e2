package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// follow follows the scene's session and wants it accepted.
func (s *scripted) follow(t *testing.T) context.Context {
	t.Helper()
	session, followed, err := s.client.Follow(t.Context(), sceneCredential, nil)
	if err != nil || session.ID != "s" {
		t.Fatalf("Follow = %v, %v", session, err)
	}
	synctest.Wait()
	if followed.Err() != nil {
		t.Fatalf("it ended at once: %v", context.Cause(followed))
	}
	return followed
}

// end has the session end in the store.
func (s *scripted) end() { s.change(goneAnswer) }

// change has the authority answer otherwise from now on.
func (s *scripted) change(answer func() *sessiondv1.ValidateResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse { return answer() }
}

// live renews the lease for a time, or until a context ends.
func (s *scripted) live(ctx context.Context, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(time.Second) {
		s.lend()
		synctest.Wait()
	}
}

// TestFollowEnds: whatever tells that the session may have ended, the stream asks
// at once and ends.
func TestFollowEnds(t *testing.T) {
	for name, tell := range map[string]func(*scripted){
		"key":     (*scripted).event,
		"user":    func(s *scripted) { s.client.cache.apply(s.epoch, []change{{user: "u"}}) },
		"all":     func(s *scripted) { s.client.cache.apply(s.epoch, []change{{all: true}}) },
		"epoch":   func(s *scripted) { s.epoch = s.client.cache.begin("home", sceneBound) },
		"refusal": func(s *scripted) { _, _ = s.client.Validate(context.Background(), sceneCredential, Strict()) },
	} {
		for _, warm := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newScripted(t)
					if warm {
						s.validate(t)
					}
					followed := s.follow(t)
					if s.asked() != 1 {
						t.Errorf("asked %d times, want once", s.asked())
					}
					s.live(followed, time.Minute)
					if s.asked() != 1 || followed.Err() != nil {
						t.Fatalf("asked %d times in a minute of nothing, want once", s.asked())
					}
					s.end()
					start := time.Now()
					tell(s)
					<-followed.Done()
					if took := time.Since(start); took > 2*followPause || !errors.Is(context.Cause(followed), ErrInvalid) {
						t.Errorf("ended after %v with %v, want ErrInvalid at once", took, context.Cause(followed))
					}
				})
			})
		}
	}
}

// TestFollowPassedAnswer: an answer that was passed on its way is no reason to go
// on, though the call that it belongs to may use it (T1).
func TestFollowPassedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.answer = func(n int, _ *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
			if n > maxAttempts {
				return goneAnswer()
			}
			s.event()
			return liveAnswer()
		}
		_, followed, err := s.client.Follow(t.Context(), sceneCredential, nil)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		<-followed.Done()
		if took := time.Since(start); took > 2*followPause {
			t.Errorf("ended after %v, want at once", took)
		}
	})
}

// TestFollowAcrossWatches: an answer that was asked for under another Watch is
// vouched for by nobody, since what ended the session may have been told before.
func TestFollowAcrossWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
			s.epoch = s.client.cache.begin("home", sceneBound)
			time.Sleep(time.Millisecond)
			return liveAnswer()
		}
		followed := s.follow(t)
		s.end()
		start := time.Now()
		s.live(followed, time.Minute)
		if took := time.Since(start); took > time.Duration(sceneBound) || !errors.Is(context.Cause(followed), ErrInvalid) {
			t.Errorf("ended after %v with %v, want ErrInvalid within a bound", took, context.Cause(followed))
		}
	})
}

// TestFollowWithoutWatch: the lease of a Watch says nothing about what another
// replica answered: then each answer vouches for itself.
func TestFollowWithoutWatch(t *testing.T) {
	for name, change := range map[string]func(*sessiondv1.ValidateResponse){
		"another replica": func(a *sessiondv1.ValidateResponse) { a.Instance = "away" },
		"untracked":       func(a *sessiondv1.ValidateResponse) { a.Untracked = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScripted(t)
				s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
					a := liveAnswer()
					change(a)
					return a
				}
				followed := s.follow(t)
				s.live(followed, time.Minute)
				if n := s.asked(); n < 10 || n > 20 || followed.Err() != nil {
					t.Errorf("asked %d times in a minute, want once each three fifths of the bound", n)
				}
				s.end()
				start := time.Now()
				s.live(followed, time.Minute)
				if took := time.Since(start); took > time.Duration(sceneBound) {
					t.Errorf("ended after %v, want within a bound", took)
				}
			})
		})
	}
}

// TestFollowDeadline: when the session may have ended by itself, the authority is
// asked, and the stream goes on if it was extended (C7).
func TestFollowDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		followed := s.follow(t)
		s.live(followed, maxLifetime+time.Minute)
		if s.asked() != 2 || followed.Err() != nil {
			t.Errorf("asked %d times, ended with %v; want twice and no end", s.asked(), context.Cause(followed))
		}
		s.end()
		s.live(followed, maxLifetime)
		if !errors.Is(context.Cause(followed), ErrInvalid) {
			t.Errorf("ended with %v, want ErrInvalid", context.Cause(followed))
		}
	})
}

// TestFollowUndecided: a stream goes on for a bound after what vouched for it is
// over, and ends before another has passed; an event leaves it one.
func TestFollowUndecided(t *testing.T) {
	for _, c := range []struct {
		name     string
		event    bool
		from, to time.Duration
	}{
		{"silence", false, time.Duration(sceneBound), 2 * time.Duration(sceneBound)},
		{"event", true, time.Duration(sceneBound) * 9 / 10, time.Duration(sceneBound)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScripted(t)
				followed := s.follow(t)
				s.lend()
				s.change(func() *sessiondv1.ValidateResponse { return nil })
				start := time.Now()
				if c.event {
					s.event()
				}
				<-followed.Done()
				took := time.Since(start)
				if cause := context.Cause(followed); took < c.from || took > c.to || !errors.Is(cause, ErrUnavailable) {
					t.Errorf("ended after %v with %v, want ErrUnavailable after %v to %v", took, cause, c.from, c.to)
				}
				if n := s.asked(); n < 3 || n > 300 {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}

// TestFollowCheck: what a stream needs beyond a good session is asked for as long
// as it is open.
func TestFollowCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		errRole := errors.New("no role")
		check := func(session *Session) error {
			if session.User.Role != "admin" {
				return errRole
			}
			return nil
		}
		if _, _, err := s.client.Follow(t.Context(), sceneCredential, check); !errors.Is(err, errRole) {
			t.Errorf("Follow: %v, want what check said", err)
		}
		role := "admin"
		s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
			a := liveAnswer()
			a.GetSession().User = &sessiondv1.User{Id: "u", Role: &role}
			return a
		}
		s.event()
		time.Sleep(time.Nanosecond)
		_, followed, err := s.client.Follow(t.Context(), sceneCredential, check)
		if err != nil {
			t.Fatal(err)
		}
		role = "user"
		s.event()
		<-followed.Done()
		if !errors.Is(context.Cause(followed), errRole) {
			t.Errorf("ended with %v, want what check said", context.Cause(followed))
		}
	})
}

// TestFollowIsReleased: nothing is left of a stream that ended, however it did.
func TestFollowIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		ctx, cancel := context.WithCancel(t.Context())
		_, followed, err := s.client.Follow(ctx, sceneCredential, nil)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if cause := context.Cause(followed); !errors.Is(cause, context.Canceled) {
			t.Errorf("ended with %v, want the caller's own end", cause)
		}
		closing := s.follow(t)
		if err := s.client.Close(); err != nil {
			t.Fatal(err)
		}
		if cause := context.Cause(closing); !errors.Is(cause, ErrUnavailable) {
			t.Errorf("ended with %v at Close, want ErrUnavailable", cause)
		}
		if _, _, err := s.client.Follow(t.Context(), sceneCredential, nil); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Follow after Close: %v, want ErrUnavailable", err)
		}
		f := s.client.cache.follows
		if len(f.all)+len(f.keys)+len(f.users) != 0 {
			t.Errorf("%d streams, %d keys and %d users are left", len(f.all), len(f.keys), len(f.users))
		}
	})
}

// TestFollowRefused: what does not validate is not followed.
func TestFollowRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.end()
		for want, credential := range map[error]Credential{ErrInvalid: sceneCredential, ErrNoCredential: {}} {
			if session, followed, err := s.client.Follow(t.Context(), credential, nil); session != nil || followed != nil || !errors.Is(err, want) {
				t.Errorf("Follow = %v, %v, %v, want %v", session, followed, err, want)
			}
		}
	})
}

// TestFollowRaces: an event never falls between the judgement of a stream's answer
// and its registration (T1).
func TestFollowRaces(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			s := newScripted(t)
			s.answer = func(n int, _ *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
				if n > 1 {
					return goneAnswer()
				}
				go s.event()
				return liveAnswer()
			}
			_, followed, err := s.client.Follow(t.Context(), sceneCredential, nil)
			if errors.Is(err, ErrInvalid) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			<-followed.Done()
			if took := time.Since(start); took > 2*followPause {
				t.Fatalf("the event was lost: the stream ended after %v, want at once", took)
			}
		})
	}
}
