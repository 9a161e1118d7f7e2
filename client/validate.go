package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
)

// maxRounds is how often one call is asked anew because the authority's
// configuration changed meanwhile.
const maxRounds = 3

var errUnsettled = errors.New("the authority's configuration keeps changing: its replicas must all be configured alike")

// Result is the verdict on one credential of a batch.
type Result struct {
	// Session is the session; nil if the credential was refused.
	Session *Session
	// Err is a [*RefusedError]; nil for a good session.
	Err error
}

// Validate returns the session of a credential.
//
// The error is a [*RefusedError] if the credential is not good, ctx.Err() if the
// caller's own context ended, and otherwise an [*UnavailableError]: nothing is
// known about the session then. The Session is shared and must not be changed.
//
// It is answered from memory where the authority's leave for that is fresh: see
// the package's guarantees, and [Strict] and [AtLeast] for calls that need more.
func (c *Client) Validate(ctx context.Context, credential Credential, opts ...CallOption) (*Session, error) {
	call := callSettingsOf(opts)
	if c.cached && !call.goesThrough() && ctx.Err() == nil {
		if session := c.hit(ctx, credential); session != nil {
			return session, nil
		}
	}
	start := time.Now()
	result, source, err := c.ask(ctx, credential, call)
	if err != nil {
		c.observe(ctx, start, source, err)
		return nil, err
	}
	c.observe(ctx, start, source, result.Err)
	return result.Session, result.Err
}

// hit answers from memory: from the raw headers on, without a lock and without
// allocating. Without an answer it returns nil.
func (c *Client) hit(ctx context.Context, credential Credential) *Session {
	var start time.Time
	if c.observer != nil {
		start = time.Now()
	}
	in := c.intake.known.Load()
	if in == nil || !sendable(credential.cookie) || !sendable(credential.authorization) {
		return nil
	}
	narrowed, reason := in.narrow(credential)
	if reason != "" {
		return nil
	}
	session := c.cache.hit(narrowed)
	if session != nil && c.observer != nil {
		c.observer(ctx, Observation{Outcome: OutcomeAccepted, Source: SourceCache, Duration: time.Since(start)})
	}
	return session
}

// ValidateBatch returns the verdicts on many credentials, in their order, asking
// for as many at once as the authority takes. The error is as with
// [Client.Validate], but never a refusal; there are no results then.
func (c *Client) ValidateBatch(ctx context.Context, credentials []Credential, opts ...CallOption) ([]Result, error) {
	start := time.Now()
	call := callSettingsOf(opts)
	results := make([]Result, len(credentials))
	var open []int // those that memory does not answer
	for i, credential := range credentials {
		if c.cached && !call.goesThrough() && ctx.Err() == nil {
			if results[i].Session = c.hit(ctx, credential); results[i].Session != nil {
				continue
			}
		}
		open = append(open, i)
	}
	source, err := c.askMany(ctx, credentials, call, open, results)
	for _, i := range open {
		if err != nil {
			c.observe(ctx, start, source, err)
			continue
		}
		c.observe(ctx, start, source, results[i].Err)
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

// Narrow returns the part of a credential that the authority reads, for whoever
// passes it on: the session's cookies instead of the whole Cookie header. What is
// left may be the zero Credential. The error is as with [Client.Validate].
func (c *Client) Narrow(ctx context.Context, credential Credential) (Credential, error) {
	if credential.IsZero() {
		return credential, nil
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	in, err := c.intake.get(bounded)
	if err == nil && !in.current() {
		in, err = c.intake.refresh(bounded)
	}
	if err != nil {
		return Credential{}, c.failure(ctx, bounded, err)
	}
	narrowed, _ := in.narrow(credential)
	return narrowed, nil
}

// ask decides what can be decided here and asks the authority otherwise.
func (c *Client) ask(ctx context.Context, credential Credential, call callSettings) (Result, Source, error) {
	if reason := localReason(credential); reason != "" {
		return Result{Err: refusal(reason, "")}, SourceLocal, nil
	}
	if err := ctx.Err(); err != nil {
		return Result{}, SourceLocal, err
	}
	c.openWatch()
	if !call.goesThrough() {
		if c.cached {
			c.cache.stats.misses.Add(1)
		}
		a, err := c.askShared(ctx, credential)
		if err != nil {
			return Result{}, SourceAuthority, err
		}
		return a.result, a.source(), nil
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answers, err := c.askOwn(ctx, bounded, []Credential{credential}, call, 0, nil)
	if err != nil {
		return Result{}, SourceAuthority, err
	}
	return answers[0].result, answers[0].source(), nil
}

// askMany is ask for the open ones of many credentials, in one question. It fills
// in their results.
func (c *Client) askMany(ctx context.Context, credentials []Credential, call callSettings, open []int, results []Result) (Source, error) {
	var toAsk []Credential
	var places []int
	for _, i := range open {
		if reason := localReason(credentials[i]); reason != "" {
			results[i].Err = refusal(reason, "")
			continue
		}
		toAsk, places = append(toAsk, credentials[i]), append(places, i)
	}
	if len(toAsk) == 0 {
		return SourceLocal, nil
	}
	if err := ctx.Err(); err != nil {
		return SourceLocal, err
	}
	c.openWatch()
	if c.cached && !call.goesThrough() {
		c.cache.stats.misses.Add(uint64(len(toAsk)))
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answers, err := c.askOwn(ctx, bounded, toAsk, call, 0, nil)
	if err != nil {
		return SourceAuthority, err
	}
	source := SourceLocal
	for k, i := range places {
		results[i] = answers[k].result
		if answers[k].asked {
			source = SourceAuthority
		}
	}
	return source, nil
}

// localReason is the reason for which every authority, however it is configured,
// refuses a credential.
func localReason(c Credential) Reason {
	switch {
	case c.IsZero():
		return ReasonNoCredential
	case !sendable(c.cookie) || !sendable(c.authorization):
		return ReasonMalformed
	default:
		return ""
	}
}

// round is one question about one or many credentials, however often it has to
// be repeated.
type round struct {
	client      *Client
	credentials []Credential
	narrowed    []Credential // those that were sent, as they were sent
	answers     []answer
	call        callSettings
}

func newRound(c *Client, credentials []Credential) *round {
	n := len(credentials)
	return &round{client: c, credentials: credentials, narrowed: make([]Credential, n), answers: make([]answer, n)}
}

// all returns the places of all credentials.
func (r *round) all() []int {
	all := make([]int, len(r.credentials))
	for i := range all {
		all[i] = i
	}
	return all
}

// run fills in the answers on the open credentials.
func (r *round) run(ctx context.Context, open []int) error {
	in, err := r.client.intake.get(ctx)
	if err != nil {
		return err
	}
	for range maxRounds {
		toSend, narrowed := r.narrow(in, open)
		// Refusals by an old intake count only if it still holds: else a worker
		// would go on refusing cookies that a restarted authority reads.
		if len(toSend) < len(open) && !in.current() {
			if in, err = r.client.intake.refresh(ctx); err != nil {
				return err
			}
			toSend, narrowed = r.narrow(in, open)
		}
		next, err := r.send(ctx, in, toSend, narrowed)
		if err != nil {
			return err
		}
		if next.sameAs(in) {
			return nil
		}
		in = next
	}
	return errUnsettled
}

// narrow returns those of the open credentials that have to be sent, and refuses the others.
func (r *round) narrow(in *intake, open []int) (toSend []int, narrowed []*sessiondv1.Credential) {
	for _, i := range open {
		credential, reason := in.narrow(r.credentials[i])
		if reason != "" {
			refused := &RefusedError{Reason: reason}
			if reason == ReasonNoCredential {
				refused.UnreadCookies = unread(r.credentials[i].cookie)
			}
			r.answers[i] = answer{result: Result{Err: refused}}
			continue
		}
		r.narrowed[i] = credential
		toSend, narrowed = append(toSend, i), append(narrowed, credential.proto())
	}
	return toSend, narrowed
}

// send asks for verdicts, in parts of the size that the authority takes. It
// returns the intake that the authority has now; if that reads credentials in
// another way, the results mean nothing.
func (r *round) send(ctx context.Context, in *intake, toSend []int, narrowed []*sessiondv1.Credential) (*intake, error) {
	for len(toSend) > 0 {
		n := part(narrowed, in.maxBatch)
		sentAt, sent := time.Now(), clock.Now()
		answers, err := r.via(ctx, narrowed[:n])
		if err != nil {
			return nil, err
		}
		// One response comes from one process.
		if first := answers[0]; !in.knows(first.GetInstance()) && !in.isDigest(first.GetConfigDigest()) {
			next, err := r.client.intake.refreshFor(ctx, first.GetInstance())
			if err != nil || !next.sameAs(in) {
				return next, err
			}
			in = next
		}
		in.confirm(sentAt)
		for k, a := range answers {
			r.answers[toSend[k]] = answerFromProto(a, sentAt, sent)
		}
		toSend, narrowed = toSend[n:], narrowed[n:]
	}
	return in, nil
}

// maxPartBytes bounds the credentials of one request, well below the 4 MiB that a
// gRPC server takes by default.
const maxPartBytes = 1 << 20

// part returns how many of the credentials go into one request: at least one, at
// most most, and no more than maxPartBytes allow.
func part(credentials []*sessiondv1.Credential, most int) int {
	if len(credentials) == 1 {
		return 1
	}
	size := 0
	for n, credential := range credentials {
		size += proto.Size(credential)
		if n == most || n > 0 && size > maxPartBytes {
			return n
		}
	}
	return len(credentials)
}

// via sends one request, and a lone credential by itself.
func (r *round) via(ctx context.Context, credentials []*sessiondv1.Credential) ([]*sessiondv1.ValidateResponse, error) {
	maxAge, atLeast := r.call.maxAgeProto(), r.call.atLeast
	if len(r.credentials) == 1 {
		request := &sessiondv1.ValidateRequest{Credential: credentials[0], MaxAge: maxAge, AtLeast: atLeast}
		answer, err := r.client.rpc.Validate(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("validate: %w", err)
		}
		return []*sessiondv1.ValidateResponse{answer}, nil
	}
	request := &sessiondv1.BatchValidateRequest{Credentials: credentials, MaxAge: maxAge, AtLeast: atLeast}
	answer, err := r.client.rpc.BatchValidate(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("validate batch: %w", err)
	}
	if len(answer.GetVerdicts()) != len(credentials) {
		return nil, fmt.Errorf("validate batch: %d verdicts for %d credentials", len(answer.GetVerdicts()), len(credentials))
	}
	return answer.GetVerdicts(), nil
}

func answerFromProto(in *sessiondv1.ValidateResponse, sentAt time.Time, sent clock.Instant) answer {
	a := answer{
		asked:     true,
		asOf:      clock.AsOf(sent, in.GetAge().AsDuration()),
		remaining: in.GetRemainingLifetime().AsDuration(),
		untracked: in.GetUntracked(),
		instance:  in.GetInstance(),
	}
	if key := in.GetSessionKey(); len(key) == len(a.key) {
		a.key, a.hasKey = sessionDigest(key), true
	}
	if session := in.GetSession(); session != nil {
		a.result.Session = sessionFromProto(session, in.GetNeedsRefresh(), sentAt)
		return a
	}
	// No verdict at all has the reason 0, which is a refusal too.
	a.result.Err = refusal(reasonFromProto(in.GetRefusal().GetReason()), in.GetRefusal().GetExplainId())
	return a
}

// failure is what the caller is told of a question without an answer: that his
// own context ended, or that the authority did not decide. bounded is the context
// the question was asked under.
func (c *Client) failure(ctx, bounded context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	// The authority watches the caller's deadline too and may see it pass first.
	if status.Code(err) == codes.DeadlineExceeded && ownDeadline(ctx, bounded) {
		return context.DeadlineExceeded
	}
	if bounded.Err() != nil {
		return &UnavailableError{Cause: fmt.Errorf("no answer within %v", c.timeout)}
	}
	return &UnavailableError{Cause: err}
}

// ownDeadline reports whether the caller's deadline was the earlier one.
func ownDeadline(ctx, bounded context.Context) bool {
	own, ok := ctx.Deadline()
	effective, _ := bounded.Deadline()
	return ok && own.Equal(effective)
}

func isContextError(err error) bool {
	return !errors.Is(err, ErrUnavailable) &&
		(errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

func (c *Client) observe(ctx context.Context, start time.Time, source Source, err error) {
	outcome := OutcomeOf(err)
	c.counters.count(outcome)
	if c.observer == nil {
		return
	}
	c.observer(ctx, Observation{
		Outcome:       outcome,
		Reason:        ReasonOf(err),
		ExplainID:     ExplainIDOf(err),
		UnreadCookies: UnreadCookiesOf(err),
		Source:        source,
		Duration:      time.Since(start),
		Err:           err,
	})
}
