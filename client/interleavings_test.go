package client

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/internal/interleave"
)

// sceneBound is the bound of the scenes; a tick is half of it.
const sceneBound = clock.Bound(6 * time.Second)

const sceneTick = time.Duration(sceneBound) / 2

var sceneKey = sessionDigest{1}

var sceneCredential = FromHeaders("sid=token", "")

// scene is one session that ends once, two authorities, and a client with its real
// Watch. All messages are on their way for as long as the chooser wants.
type scene struct {
	sessiondv1.SessionServiceClient
	c      *interleave.Chooser
	client *Client
	plan   scenePlan

	alive     bool
	committed clock.Instant // 0: not yet
	returned  bool          // Revoke has returned
	processed bool          // the client has processed the event

	home, away sceneAuthority
	streams    []*sceneStream
	mu         sync.Mutex // orders what the client's goroutines add to the following
	calls      []*sceneCall
	callers    []*sceneCaller
	ticks      int
	breaks     int
	grants     int
}

// scenePlan says what may happen in a scene.
type scenePlan struct {
	callers int
	warm    bool // the session is in the client's memory
	lease   bool // and the client has a lease
	ticks   int  // how often half of the bound passes
	grants  int  // how many more grants there are
	breaks  int  // how often the Watch's stream breaks
	direct  bool // calls take no time
	away    bool // calls may reach the other authority
	event   func() *sessiondv1.Event
}

// sceneAuthority answers from memory as of its proof.
type sceneAuthority struct {
	name    string
	proof   clock.Instant
	applied bool
}

// sceneStream is the authority's end of a Watch.
type sceneStream struct {
	grpc.ClientStream
	s      *scene
	ctx    context.Context
	down   []*sessiondv1.WatchResponse // not received yet
	recv   chan *sessiondv1.WatchResponse
	broken chan struct{}
	isCut  bool
	number uint64
	// The event's number, 0 if it was not pushed here; what was acknowledged; the
	// newest proof that a grant has stated, now and when the event was pushed.
	event, acked   uint64
	stated, before clock.Instant
	renewals       []uint64 // not received yet, at most one
}

// sceneCall is a Validate on its way.
type sceneCall struct {
	request *sessiondv1.ValidateRequest
	decided *sessiondv1.ValidateResponse
	done    bool
	answer  chan struct{}
}

type sceneCaller struct {
	name                                 string
	begun, afterProcessed, afterReturned bool
	at                                   clock.Instant
	done, accepted                       bool
	err                                  error
}

func newScene(t *testing.T, c *interleave.Chooser, plan scenePlan) *scene {
	cl, err := New("127.0.0.1:1", WithTimeout(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	now := clock.Now()
	s := &scene{
		c: c, client: cl, plan: plan, alive: true,
		home: sceneAuthority{name: "home", proof: now}, away: sceneAuthority{name: "away", proof: now},
	}
	cl.rpc, cl.watch.rpc = s, s
	cl.intake.known.Store(newIntake(sceneIntake(), time.Now()))
	for i := range plan.callers {
		s.callers = append(s.callers, &sceneCaller{name: string(rune('A' + i))})
	}
	cl.openWatch()
	synctest.Wait()
	s.deliver(s.streams[0]) // the hello
	s.settle()
	if plan.warm {
		s.fill()
		s.settle()
	}
	if plan.lease {
		s.grant(s.streams[0])
		s.settle()
		s.deliver(s.streams[0])
		s.settle()
		s.grants = 0
	}
	return s
}

func sceneIntake() *sessiondv1.GetIntakeResponse {
	return &sessiondv1.GetIntakeResponse{
		Cookies: []*sessiondv1.CookieRule{{Name: "sid"}}, MaxCredentialBytes: 1 << 16, MaxBatchSize: 10,
		ConfigDigest: []byte("scene"), StalenessBound: durationpb.New(time.Duration(sceneBound)), Instance: "home",
	}
}

// settle lets everybody do what can be done now, a moment later than before.
func (s *scene) settle() {
	s.publish()
	time.Sleep(time.Nanosecond)
	synctest.Wait()
	if s.committed != 0 && !s.returned && s.covered() {
		s.returned = true
		s.c.Note("Revoke returns")
	}
}

// publish orders what this goroutine did before what those do that only time wakes.
func (s *scene) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

// fill has the client keep the session, as it is now.
func (s *scene) fill() {
	q := s.client.cache.ask()
	in := s.client.intake.known.Load()
	narrowed, _ := in.narrow(sceneCredential)
	a := answerFromProto(s.response("home", true, 0), time.Now(), q.sent)
	s.client.cache.judge(s.client.cache.digester.of(narrowed), q, &a, nil)
}

func (s *scene) response(instance string, live bool, age time.Duration) *sessiondv1.ValidateResponse {
	r := &sessiondv1.ValidateResponse{Instance: instance, ConfigDigest: []byte("scene"), SessionKey: sceneKey[:], Age: durationpb.New(age)}
	if live {
		r.Verdict = &sessiondv1.ValidateResponse_Session{Session: &sessiondv1.Session{Id: "s", UserId: "u", Age: durationpb.New(0)}}
		r.RemainingLifetime = durationpb.New(time.Hour)
	} else {
		r.Verdict = &sessiondv1.ValidateResponse_Refusal{Refusal: &sessiondv1.Refusal{Reason: sessiondv1.Reason_REASON_NOT_FOUND}}
	}
	return r
}

// Validate is a call's way to an authority and back.
func (s *scene) Validate(ctx context.Context, request *sessiondv1.ValidateRequest, _ ...grpc.CallOption) (*sessiondv1.ValidateResponse, error) {
	call := &sceneCall{request: request, answer: make(chan struct{})}
	if s.plan.direct {
		s.decide(call, &s.home)
		return call.decided, nil
	}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	s.mu.Unlock()
	select {
	case <-call.answer:
		return call.decided, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// decide is an authority's answer to a call that arrives now: from its memory, as
// of its proof, where the call allows that and it helps, else from the store.
func (s *scene) decide(call *sceneCall, by *sceneAuthority) {
	age := clock.Now().Sub(by.proof)
	maxAge := time.Duration(sceneBound)
	if call.request.GetMaxAge() != nil {
		maxAge = call.request.GetMaxAge().AsDuration()
	}
	fromMemory := !by.applied && age < sceneBound.Lease() && age < maxAge
	switch {
	case s.alive:
		call.decided = s.response(by.name, true, 0)
	case fromMemory:
		call.decided = s.response(by.name, true, age)
	default:
		call.decided = s.response(by.name, false, 0)
	}
}

// Watch is a stream to the home authority.
func (s *scene) Watch(ctx context.Context, _ ...grpc.CallOption) (sessiondv1.SessionService_WatchClient, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &sceneStream{s: s, ctx: ctx, recv: make(chan *sessiondv1.WatchResponse), broken: make(chan struct{}), stated: clock.Never}
	s.streams = append(s.streams, w)
	w.push(&sessiondv1.WatchResponse{Hello: &sessiondv1.WatchHello{Intake: sceneIntake()}})
	return w, nil
}

func (w *sceneStream) push(m *sessiondv1.WatchResponse) {
	w.number++
	m.Number = w.number
	w.down = append(w.down, m)
}

// Send is the client's.
func (w *sceneStream) Send(m *sessiondv1.WatchRequest) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.isCut {
		return io.EOF
	}
	if m.GetRenew() > 0 {
		w.renewals = []uint64{m.GetRenew()} // the scenes answer the newest only
	}
	w.acked = max(w.acked, m.GetAck())
	return nil
}

// Recv is the client's.
func (w *sceneStream) Recv() (*sessiondv1.WatchResponse, error) {
	select {
	case m := <-w.recv:
		return m, nil
	case <-w.broken:
		return nil, io.ErrUnexpectedEOF
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	}
}

// deliver hands the client its next message.
func (s *scene) deliver(w *sceneStream) {
	m := w.down[0]
	w.down = w.down[1:]
	w.recv <- m
	if len(m.GetEvents()) > 0 {
		s.processed = true
	}
}

// grant answers a renewal, if the proof is young.
func (s *scene) grant(w *sceneStream) {
	n := w.renewals[0]
	w.renewals = nil
	s.grants++
	if age := clock.Now().Sub(s.home.proof); age < sceneBound.Lease() {
		w.stated = s.home.proof
		w.push(&sessiondv1.WatchResponse{Grant: &sessiondv1.Grant{Renew: n, Age: durationpb.New(age)}})
	}
}

// beat brings an authority up to date: what is committed is applied and pushed
// before the proof is renewed.
func (s *scene) beat(by *sceneAuthority) {
	if s.committed != 0 && !by.applied {
		by.applied = true
		for _, w := range s.streams {
			if by == &s.home && !w.isCut {
				w.push(&sessiondv1.WatchResponse{Events: []*sessiondv1.Event{s.plan.event()}})
				w.event, w.before = w.number, w.stated
			}
		}
	}
	by.proof = clock.Now()
}

// covered reports whether Revoke may return: everybody has applied the event, and
// each Watch has acknowledged it or can no longer use an older lease.
func (s *scene) covered() bool {
	now := clock.Now()
	if now.Sub(s.committed) >= sceneBound.Wait() {
		return true
	}
	if !s.home.applied || s.plan.away && !s.away.applied {
		return false
	}
	for _, w := range s.streams {
		lent := w.stated
		if w.event > 0 {
			if w.acked >= w.event {
				continue
			}
			lent = w.before
		}
		if lent != clock.Never && lent < s.committed && now.Sub(lent) < sceneBound.Wait() {
			return false
		}
	}
	return true
}

func (s *scene) steps() []interleave.Step {
	var out []interleave.Step
	add := func(name string, do func()) { out = append(out, interleave.Step{Name: name, Do: do}) }
	for _, k := range s.callers {
		if !k.begun {
			add(k.name+" asks", func() { s.begin(k) })
			break // they are alike: their order does not matter
		}
	}
	if s.committed == 0 {
		add("the session ends in the store", func() { s.alive, s.committed = false, clock.Now() })
	} else {
		if !s.home.applied {
			add("home beats and applies the event", func() { s.beat(&s.home) })
		}
		if s.plan.away && !s.away.applied {
			add("away beats and applies the event", func() { s.beat(&s.away) })
		}
	}
	if w := s.streams[len(s.streams)-1]; !w.isCut {
		if len(w.down) > 0 {
			add("the client receives from its Watch", func() { s.deliver(w) })
		}
		if len(w.renewals) > 0 && s.grants < s.plan.grants {
			add("a renewal arrives", func() { s.grant(w) })
		}
		if s.breaks < s.plan.breaks {
			add("the Watch breaks", func() {
				s.breaks++
				w.isCut = true
				close(w.broken)
			})
		}
	} else {
		add("the Watch is opened again", func() { s.publish(); time.Sleep(2 * firstWatchPause) })
	}
	for i, call := range s.calls {
		switch {
		case call.decided == nil:
			add(fmt.Sprintf("call %d reaches home", i+1), func() { s.decide(call, &s.home) })
			if s.plan.away {
				add(fmt.Sprintf("call %d reaches away", i+1), func() { s.decide(call, &s.away) })
			}
		case !call.done:
			add(fmt.Sprintf("call %d is answered", i+1), func() { call.done = true; close(call.answer) })
		}
	}
	if s.ticks < s.plan.ticks {
		add("half of the bound passes", func() { s.ticks++; s.publish(); time.Sleep(sceneTick) })
	}
	return out
}

func (s *scene) begin(k *sceneCaller) {
	k.begun, k.afterProcessed, k.afterReturned, k.at = true, s.processed, s.returned, clock.Now()
	go func() {
		session, err := s.client.Validate(context.Background(), sceneCredential)
		k.done, k.accepted, k.err = true, session != nil, err
	}()
}

// run does all steps in the chosen order and says which promise was broken.
func (s *scene) run(t *testing.T) string {
	for s.c.Next(s.steps()) {
		s.settle()
	}
	if err := s.client.Close(); err != nil {
		t.Error(err)
	}
	for _, k := range s.callers {
		switch {
		case !k.done:
			return k.name + " was not answered"
		case k.accepted && k.afterProcessed:
			return "P5: " + k.name + " asked after the client had processed the event, and was accepted"
		case k.accepted && k.afterReturned:
			return "P4: " + k.name + " asked after Revoke had returned, and was accepted"
		case k.accepted && s.committed != 0 && k.at.Sub(s.committed) >= time.Duration(sceneBound):
			return "P3: " + k.name + " asked a bound or more after the end, and was accepted"
		}
	}
	return ""
}

// The three kinds of event.
var sceneEvents = map[string]func() *sessiondv1.Event{
	"key": func() *sessiondv1.Event {
		return &sessiondv1.Event{Scope: &sessiondv1.Event_SessionKey{SessionKey: sceneKey[:]}}
	},
	"user": func() *sessiondv1.Event { return &sessiondv1.Event{Scope: &sessiondv1.Event_UserId{UserId: "u"}} },
	"all":  func() *sessiondv1.Event { return &sessiondv1.Event{} },
}

func explore(t *testing.T, plan scenePlan) {
	t.Helper()
	if plan.event == nil {
		plan.event = sceneEvents["key"]
	}
	orders := interleave.Explore(t, 100_000, func(t *testing.T, c *interleave.Chooser) string {
		return newScene(t, c, plan).run(t)
	})
	t.Logf("%d orders", orders)
}

// TestFencedFills: whoever asks after the client has processed an event, or after
// Revoke has returned, is refused, whatever is on its way (A3, C3).
func TestFencedFills(t *testing.T) {
	for name, event := range sceneEvents {
		t.Run(name, func(t *testing.T) {
			explore(t, scenePlan{callers: 3, lease: true, event: event})
		})
	}
}

// TestLeases: while time passes and messages are late, nobody is accepted a bound
// or more after the end (C1, C4, W2).
func TestLeases(t *testing.T) {
	t.Run("warm", func(t *testing.T) { explore(t, scenePlan{callers: 1, warm: true, lease: true, ticks: 2, grants: 1}) })
	t.Run("cold", func(t *testing.T) { explore(t, scenePlan{callers: 1, lease: true, ticks: 2, grants: 1}) })
}

// TestNewWatch: what was kept under one Watch is of no use under the next (C5).
func TestNewWatch(t *testing.T) {
	explore(t, scenePlan{callers: 1, warm: true, direct: true, lease: true, breaks: 1, ticks: 2, grants: 1})
}

// TestEpochBeginsWithTheHello: what was asked before the hello arrived is not kept,
// though its Watch was being opened (C5).
func TestEpochBeginsWithTheHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &interleave.Chooser{}, scenePlan{callers: 2, breaks: 1, event: sceneEvents["key"]})
		s.streams[0].isCut = true
		close(s.streams[0].broken)
		time.Sleep(2 * firstWatchPause)
		synctest.Wait()
		s.begin(s.callers[0])
		s.settle()
		s.decide(s.calls[0], &s.home)
		s.deliver(s.streams[1])
		s.settle()
		close(s.calls[0].answer)
		s.settle()
		if !s.callers[0].accepted || !s.client.cache.idle() {
			t.Errorf("accepted %t, kept %t; want the answer used and not kept", s.callers[0].accepted, !s.client.cache.idle())
		}
		if err := s.client.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestOtherReplica: an answer of another replica is nothing to join and nothing to
// keep (A3, C6).
func TestOtherReplica(t *testing.T) {
	explore(t, scenePlan{callers: 2, lease: true, away: true})
}
