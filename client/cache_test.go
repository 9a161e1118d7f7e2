package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
)

// scripted is an authority that answers Validate as a test says, under a Watch that
// the test is.
type scripted struct {
	sessiondv1.SessionServiceClient
	client   *Client
	epoch    uint64
	mu       sync.Mutex
	requests []*sessiondv1.ValidateRequest
	batched  int
	// answer answers the question of a number; nil: the store is away.
	answer func(n int, request *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	c, err := New("127.0.0.1:1", WithTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &scripted{client: c}
	s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse { return liveAnswer() }
	c.rpc = s
	c.watch.begun.Store(true)
	c.intake.known.Store(newIntake(sceneIntake(), time.Now()))
	s.epoch = c.cache.begin("home", sceneBound)
	c.cache.grant(s.epoch, clock.Now())
	time.Sleep(time.Second) // so that nothing else happens at that moment
	return s
}

func (s *scripted) Validate(_ context.Context, request *sessiondv1.ValidateRequest, _ ...grpc.CallOption) (*sessiondv1.ValidateResponse, error) {
	s.mu.Lock()
	s.requests = append(s.requests, request)
	n, script := len(s.requests), s.answer
	s.mu.Unlock()
	answer := script(n, request)
	if answer == nil {
		return nil, status.Error(codes.Unavailable, "store unavailable")
	}
	return answer, nil
}

func (s *scripted) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// BatchValidate answers in parts of at most ten, as sceneIntake says.
func (s *scripted) BatchValidate(_ context.Context, request *sessiondv1.BatchValidateRequest, _ ...grpc.CallOption) (*sessiondv1.BatchValidateResponse, error) {
	answer := &sessiondv1.BatchValidateResponse{}
	for range request.GetCredentials() {
		answer.Verdicts = append(answer.Verdicts, liveAnswer())
	}
	s.mu.Lock()
	s.batched += len(answer.GetVerdicts())
	s.mu.Unlock()
	return answer, nil
}

func (s *scripted) event() {
	s.client.cache.apply(s.epoch, []change{{key: sceneKey, hasKey: true}})
}

func (s *scripted) lend() { s.client.cache.grant(s.epoch, clock.Now()) }

// validate asks and wants an accepted session.
func (s *scripted) validate(t *testing.T) *Session {
	t.Helper()
	session, err := s.client.Validate(t.Context(), sceneCredential)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func liveAnswer() *sessiondv1.ValidateResponse {
	return &sessiondv1.ValidateResponse{
		Verdict:  &sessiondv1.ValidateResponse_Session{Session: &sessiondv1.Session{Id: "s", UserId: "u", Age: durationpb.New(0)}},
		Instance: "home", ConfigDigest: []byte("scene"), SessionKey: sceneKey[:], RemainingLifetime: durationpb.New(time.Hour),
	}
}

func goneAnswer() *sessiondv1.ValidateResponse {
	a := liveAnswer()
	a.Verdict = &sessiondv1.ValidateResponse_Refusal{Refusal: &sessiondv1.Refusal{Reason: sessiondv1.Reason_REASON_NOT_FOUND}}
	return a
}

// TestAckComesLast: when a message is acknowledged, what its events name is
// neither answered nor kept any more (C3).
func TestAckComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.validate(t)
		acked := false
		message := &sessiondv1.WatchResponse{Number: 7, Events: []*sessiondv1.Event{{Scope: &sessiondv1.Event_UserId{UserId: "u"}}}}
		s.client.watch.take(s.epoch, message, nil, func(number uint64) {
			acked = true
			if number != 7 || !s.client.cache.idle() {
				t.Errorf("acknowledged %d, and the session is still there: %t", number, !s.client.cache.idle())
			}
		})
		if !acked {
			t.Error("not acknowledged")
		}
	})
}

// TestDriftingClocks: the age of an answer was counted by another clock, which may
// be slow (C3, A5).
func TestDriftingClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		time.Sleep(2 * time.Second)
		s.lend()
		s.event()
		time.Sleep(2 * time.Second)
		// What the authority knows is 2.01 s old, from before the event; its clock is
		// 1 % slow and this one 1 % fast.
		old := float64(2010 * time.Millisecond)
		s.answer = func(n int, _ *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
			if n > 1 {
				return goneAnswer()
			}
			a := liveAnswer()
			a.Age = durationpb.New(time.Duration(old * 0.99 / 1.01))
			return a
		}
		if session, err := s.client.Validate(t.Context(), sceneCredential); !errors.Is(err, ErrInvalid) {
			t.Errorf("Validate = %v, %v, want ErrInvalid", session, err)
		}
	})
}

// TestAskingAgain: a call whose answer an event has passed asks for knowledge that
// is newer than the event, then strictly, and that is used but not kept (C3).
func TestAskingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.answer = func(n int, _ *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
			time.Sleep(time.Second / 2)
			if n <= 3 {
				s.event() // it changes all the time
			}
			time.Sleep(time.Second / 2)
			return liveAnswer()
		}
		s.validate(t)
		if len(s.requests) != 3 {
			t.Fatalf("asked %d times, want 3", len(s.requests))
		}
		if age := s.requests[0].GetMaxAge(); age != nil {
			t.Errorf("first with max_age %v, want none", age.AsDuration())
		}
		// The event was half a second before the second question was sent.
		if age := s.requests[1].GetMaxAge().AsDuration(); age != clock.Within(time.Second/2) {
			t.Errorf("then with max_age %v, want %v", age, clock.Within(time.Second/2))
		}
		if age := s.requests[2].GetMaxAge(); age == nil || age.AsDuration() != 0 {
			t.Errorf("then with max_age %v, want 0", age)
		}
		s.lend()
		s.validate(t)
		if len(s.requests) != 4 {
			t.Errorf("the passed answer was kept")
		}
		s.validate(t)
		if len(s.requests) != 4 {
			t.Errorf("the last answer, which nothing passed, was not kept")
		}
		if stats := s.client.Stats(); stats.Fenced != 3 || stats.AskedAgain != 2 {
			t.Errorf("stats %+v", stats)
		}
	})
}

// TestLateAnswers: an answer that is as old as the bound on arrival is not used
// (C4), whatever it says.
func TestLateAnswers(t *testing.T) {
	for name, answer := range map[string]func() *sessiondv1.ValidateResponse{"live": liveAnswer, "gone": goneAnswer} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScripted(t)
				slow := sceneBound.Lease()
				s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
					time.Sleep(slow)
					return answer()
				}
				_, err := s.client.Validate(t.Context(), sceneCredential)
				if !errors.Is(err, ErrUnavailable) || len(s.requests) != 3 || s.requests[1].GetMaxAge() == nil {
					t.Errorf("Validate: %v after %d questions, want ErrUnavailable after 3, strict from the second on", err, len(s.requests))
				}
				slow--
				if _, err := s.client.Validate(t.Context(), sceneCredential); errors.Is(err, ErrUnavailable) {
					t.Errorf("an answer a nanosecond younger: %v", err)
				}
			})
		})
	}
}

// TestEntriesEnd: an entry answers until its session may have ended by itself;
// then the authority is asked, and nobody is refused (C7).
func TestEntriesEnd(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*sessiondv1.ValidateResponse)
		lives  time.Duration
	}{
		{"long", func(*sessiondv1.ValidateResponse) {}, maxLifetime - maxLifetime/100},
		{"short", func(a *sessiondv1.ValidateResponse) { a.RemainingLifetime = durationpb.New(10 * time.Second) }, 9900 * time.Millisecond},
		{"untracked", func(a *sessiondv1.ValidateResponse) { a.Untracked = true }, sceneBound.Lease()},
		{"refresh due", func(a *sessiondv1.ValidateResponse) { a.NeedsRefresh = true }, sceneBound.Lease()},
		{"nameless", func(a *sessiondv1.ValidateResponse) { a.SessionKey = nil }, 0},
		{"of another replica", func(a *sessiondv1.ValidateResponse) { a.Instance = "away" }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScripted(t)
				s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
					a := liveAnswer()
					c.change(a)
					return a
				}
				s.validate(t)
				start := time.Now()
				if c.lives > 0 {
					time.Sleep(c.lives - 1)
					s.lend()
					s.validate(t)
					if len(s.requests) != 1 {
						t.Errorf("asked again within %v", time.Since(start))
					}
					time.Sleep(time.Nanosecond)
				}
				s.validate(t)
				if len(s.requests) != 2 {
					t.Errorf("not asked again after %v", time.Since(start))
				}
			})
		})
	}
}

// TestLeaseEnds: a lease is over when it is B(1−r) old, to the nanosecond (C1), and
// a grant that is older than it does not bring it back.
func TestLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.validate(t)
		began := clock.Now()
		s.lend()
		s.client.cache.grant(s.epoch, began.Add(-time.Second)) // late
		time.Sleep(sceneBound.Lease() - 1)
		s.validate(t)
		if len(s.requests) != 1 {
			t.Error("the lease ended early")
		}
		time.Sleep(time.Nanosecond)
		s.validate(t)
		if len(s.requests) != 2 {
			t.Error("the lease was used for too long")
		}
		if age := s.client.Stats().LeaseAge; age >= 0 {
			t.Errorf("its age is %v, want none", age)
		}
		s.client.cache.grant(s.epoch-1, clock.Now())
		if age := s.client.Stats().LeaseAge; age >= 0 {
			t.Error("a grant of another epoch counts")
		}
	})
}

// TestRefusalsAreEvidence: a refusal that was read from the store ends what memory
// says of the session, and is not kept itself (A6, N1).
func TestRefusalsAreEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.validate(t)
		s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse { return goneAnswer() }
		for n := range 3 {
			var opts []CallOption
			if n == 0 {
				opts = append(opts, Strict())
			}
			if _, err := s.client.Validate(t.Context(), sceneCredential, opts...); !errors.Is(err, ErrInvalid) {
				t.Errorf("Validate: %v, want ErrInvalid", err)
			}
		}
		if len(s.requests) != 4 {
			t.Errorf("asked %d times, want 4", len(s.requests))
		}
	})
}

// TestMaxAgeIsNeverRaised: asking again keeps to what the caller demanded.
func TestMaxAgeIsNeverRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.answer = func(n int, _ *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
			if n == 1 {
				s.event()
				time.Sleep(2 * time.Second)
			}
			return liveAnswer()
		}
		if _, err := s.client.Validate(t.Context(), sceneCredential, MaxAge(time.Second), AtLeast("r")); err != nil {
			t.Fatal(err)
		}
		if len(s.requests) != 2 || s.requests[1].GetMaxAge().AsDuration() != time.Second || s.requests[1].GetAtLeast() != "r" {
			t.Errorf("asked again with %v", s.requests[1:])
		}
	})
}

// TestMemoryIsBounded: the table keeps to its size, and to what was used last.
func TestMemoryIsBounded(t *testing.T) {
	const most = 1 << 20
	c := newCache(most, 0)
	epoch := c.begin("home", sceneBound)
	put := func(n int) digest {
		d := digest{uint64(n) * 0x9E3779B97F4A7C15, uint64(n)}
		a := answer{
			result: Result{Session: &Session{ID: fmt.Sprint("s", n), UserID: fmt.Sprint("u", n%100)}}, asked: true,
			key: sessionDigest{byte(n), byte(n >> 8), byte(n >> 16)}, hasKey: true, asOf: clock.Now(), remaining: time.Hour, instance: "home",
		}
		q := question{sent: clock.Now(), epoch: epoch}
		if j := c.judge(d, q, &a, nil); j.verdict != usable {
			t.Fatalf("entry %d is not kept", n)
		}
		return d
	}
	hot := put(0)
	for n := 1; n < 10_000; n++ {
		put(n)
		c.table.get(hot).used.Store(true)
		if size := c.table.bytes.Load(); size > most {
			t.Fatalf("%d bytes after %d entries", size, n)
		}
	}
	if n := c.table.count.Load(); n < 1000 || n > 9000 || int(n) != len(c.table.keys) || len(c.table.users) != 100 {
		t.Errorf("%d entries, %d keys, %d users", n, len(c.table.keys), len(c.table.users))
	}
	for u := range 100 {
		c.apply(epoch, []change{{user: fmt.Sprint("u", u)}})
	}
	if n, size := c.table.count.Load(), c.table.bytes.Load(); n != 0 || size != 0 || c.table.oldest != nil || len(c.table.keys) != 0 {
		t.Errorf("%d entries of %d bytes are left of no users", n, size)
	}
}

// TestStampsAreBounded: old stamps are removed, and what they said stays said by
// the floor.
func TestStampsAreBounded(t *testing.T) {
	s := newStamps()
	a := &answer{result: Result{Session: &Session{UserID: "u"}}, key: sessionDigest{1}, hasKey: true}
	s.key(a.key, 1000, sceneBound)
	now := clock.Instant(1000)
	for n := range 3 * minStamps {
		now = now.Add(time.Duration(sceneBound) / minStamps)
		s.user(fmt.Sprint(n), now, sceneBound)
	}
	if n := len(s.keys) + len(s.users); n > 3*minStamps-1 {
		t.Errorf("%d stamps are kept", n)
	}
	if _, kept := s.keys[a.key]; kept || s.last(a) < 1000 {
		t.Errorf("the first stamp is kept: %t; its answer was passed at %d, want 1000 or later", kept, s.last(a))
	}
}

// TestKeptUnderOneWatch: an answer is kept under the Watch that was live when it
// was asked for, and under no other (C5).
func TestKeptUnderOneWatch(t *testing.T) {
	for name, meanwhile := range map[string]func(*scripted){
		"it breaks":      func(s *scripted) { s.client.cache.endWatch(s.epoch) },
		"a new one":      func(s *scripted) { s.epoch = s.client.cache.begin("home", sceneBound) },
		"nothing at all": func(*scripted) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScripted(t)
				s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
					meanwhile(s)
					return liveAnswer()
				}
				s.validate(t)
				if kept := !s.client.cache.idle(); kept != (name == "nothing at all") {
					t.Errorf("kept: %t", kept)
				}
			})
		})
	}
}

// TestJoining: a call shares the question of another only where memory could have
// answered it (A3), or before that is sent.
func TestJoining(t *testing.T) {
	for _, c := range []struct {
		name      string
		meanwhile func(*scripted)
		want      int
	}{
		{"same watch", func(s *scripted) { s.lend() }, 1},
		{"new watch", func(s *scripted) { s.epoch = s.client.cache.begin("home", sceneBound); s.lend() }, 2},
		{"broken watch", func(s *scripted) { s.client.cache.endWatch(s.epoch) }, 1},
		{"lease over", func(*scripted) { time.Sleep(sceneBound.Lease()) }, 2},
		{"long ago", func(s *scripted) { time.Sleep(sceneBound.Lease()); s.lend() }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScripted(t)
				s.lend()
				s.answer = func(n int, _ *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
					time.Sleep(2 * time.Duration(sceneBound))
					return goneAnswer()
				}
				done := make(chan error, 2)
				ask := func() {
					_, err := s.client.Validate(t.Context(), sceneCredential)
					done <- err
				}
				go ask()
				synctest.Wait()
				c.meanwhile(s)
				go ask()
				synctest.Wait()
				if n := s.asked(); n != c.want {
					t.Errorf("%d questions on their way, want %d", n, c.want)
				}
				for range 2 {
					if err := <-done; !errors.Is(err, ErrUnavailable) {
						t.Errorf("an answer older than the bound: %v, want ErrUnavailable", err)
					}
				}
			})
		})
	}
}

// TestJoiningElsewhere: who joined a question on its way does not use what another
// replica than that of the Watch answered (A3).
func TestJoiningElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		s.answer = func(n int, _ *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
			if n > 1 {
				return goneAnswer()
			}
			time.Sleep(time.Second)
			a := liveAnswer()
			a.Instance = "away"
			return a
		}
		first := make(chan error, 1)
		go func() {
			_, err := s.client.Validate(t.Context(), sceneCredential)
			first <- err
		}()
		synctest.Wait()
		if _, err := s.client.Validate(t.Context(), sceneCredential); !errors.Is(err, ErrInvalid) {
			t.Errorf("who joined: %v, want ErrInvalid by a question of its own", err)
		}
		if err := <-first; err != nil {
			t.Errorf("who asked first: %v", err)
		}
		if stats := s.client.Stats(); stats.Joined != 1 {
			t.Errorf("stats %+v", stats)
		}
	})
}

// TestGathering: while maxFlights questions are on their way, others gather in
// batches, and none is lost.
func TestGathering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t)
		release := make(chan struct{})
		s.answer = func(int, *sessiondv1.ValidateRequest) *sessiondv1.ValidateResponse {
			<-release
			return liveAnswer()
		}
		const callers = maxFlights + 2*maxGathered + 3
		done := make(chan error, callers+1)
		for n := range callers {
			go func() {
				_, err := s.client.Validate(t.Context(), FromHeaders(fmt.Sprint("sid=", n), ""))
				done <- err
			}()
		}
		synctest.Wait()
		if len(s.requests) != maxFlights || len(s.client.flights.gathered) != 3 {
			t.Errorf("%d on their way, %d gathered, want %d and 3", len(s.requests), len(s.client.flights.gathered), maxFlights)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := s.client.Validate(ctx, FromHeaders(fmt.Sprint("sid=", callers-1), ""))
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("who left: %v", err)
		}
		close(release)
		for range callers {
			if err := <-done; err != nil {
				t.Errorf("who stayed: %v", err)
			}
		}
		if n := s.client.Stats().Entries; n != callers || len(s.requests) != maxFlights || s.batched != callers-maxFlights {
			t.Errorf("%d entries, %d alone, %d in batches", n, len(s.requests), s.batched)
		}
	})
}
