package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
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
func (c *Client) Validate(ctx context.Context, credential Credential, opts ...CallOption) (*Session, error) {
	start := time.Now()
	results, source, err := c.ask(ctx, []Credential{credential}, callSettingsOf(opts), c.sendOne)
	if err != nil {
		c.observe(ctx, start, source, err)
		return nil, err
	}
	c.observe(ctx, start, source, results[0].Err)
	return results[0].Session, results[0].Err
}

// ValidateBatch returns the verdicts on many credentials, in their order, asking
// for as many at once as the authority takes. The error is as with
// [Client.Validate], but never a refusal; there are no results then.
func (c *Client) ValidateBatch(ctx context.Context, credentials []Credential, opts ...CallOption) ([]Result, error) {
	start := time.Now()
	results, source, err := c.ask(ctx, credentials, callSettingsOf(opts), c.sendBatch)
	if err != nil {
		for range credentials {
			c.observe(ctx, start, source, err)
		}
		return nil, err
	}
	for _, result := range results {
		c.observe(ctx, start, source, result.Err)
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

// send asks for the verdicts on narrowed credentials.
type send func(context.Context, []*sessiondv1.Credential, *durationpb.Duration) ([]*sessiondv1.ValidateResponse, error)

// ask decides what can be decided here and sends the rest.
func (c *Client) ask(ctx context.Context, credentials []Credential, call callSettings, via send) ([]Result, Source, error) {
	results := make([]Result, len(credentials))
	var open []int // the credentials without a verdict
	for i, credential := range credentials {
		if reason := localReason(credential); reason != "" {
			results[i].Err = refusal(reason)
			continue
		}
		open = append(open, i)
	}
	if len(open) == 0 {
		return results, SourceLocal, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, SourceLocal, err
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r := round{client: c, credentials: credentials, results: results, via: via}
	if call.limited {
		r.maxAge = durationpb.New(call.maxAge)
	}
	if err := r.run(bounded, open); err != nil {
		return nil, SourceAuthority, c.failure(ctx, bounded, err)
	}
	if r.sent {
		return results, SourceAuthority, nil
	}
	return results, SourceLocal, nil
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
	results     []Result
	via         send
	maxAge      *durationpb.Duration
	sent        bool
}

// run fills in the results of the open credentials.
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
			r.results[i] = Result{Err: refusal(reason)}
			continue
		}
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
		sentAt := time.Now()
		r.sent = true
		answers, err := r.via(ctx, narrowed[:n], r.maxAge)
		if err != nil {
			return nil, err
		}
		// One response comes from one process.
		if instance := answers[0].GetInstance(); !in.knows(instance) {
			next, err := r.client.intake.refreshFor(ctx, instance)
			if err != nil || !next.sameAs(in) {
				return next, err
			}
			in = next
		}
		in.confirm(sentAt)
		for k, answer := range answers {
			r.results[toSend[k]] = resultFromProto(answer, sentAt)
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

func (c *Client) sendOne(ctx context.Context, credentials []*sessiondv1.Credential, maxAge *durationpb.Duration) ([]*sessiondv1.ValidateResponse, error) {
	answer, err := c.rpc.Validate(ctx, &sessiondv1.ValidateRequest{Credential: credentials[0], MaxAge: maxAge})
	if err != nil {
		return nil, fmt.Errorf("validate: %w", err)
	}
	return []*sessiondv1.ValidateResponse{answer}, nil
}

func (c *Client) sendBatch(ctx context.Context, credentials []*sessiondv1.Credential, maxAge *durationpb.Duration) ([]*sessiondv1.ValidateResponse, error) {
	answer, err := c.rpc.BatchValidate(ctx, &sessiondv1.BatchValidateRequest{Credentials: credentials, MaxAge: maxAge})
	if err != nil {
		return nil, fmt.Errorf("validate batch: %w", err)
	}
	if len(answer.GetVerdicts()) != len(credentials) {
		return nil, fmt.Errorf("validate batch: %d verdicts for %d credentials", len(answer.GetVerdicts()), len(credentials))
	}
	return answer.GetVerdicts(), nil
}

func resultFromProto(answer *sessiondv1.ValidateResponse, sentAt time.Time) Result {
	if session := answer.GetSession(); session != nil {
		return Result{Session: sessionFromProto(session, answer.GetNeedsRefresh(), sentAt)}
	}
	// No verdict at all has the reason 0, which is a refusal too.
	return Result{Err: refusal(reasonFromProto(answer.GetRefusal().GetReason()))}
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
		Outcome:  outcome,
		Reason:   ReasonOf(err),
		Source:   source,
		Duration: time.Since(start),
		Err:      err,
	})
}
