// Package shadow holds a sample of the verdicts that are given against the
// issuer's own, after they were given. It delays nobody and changes no verdict.
//
// A credential is held in memory until it is compared, and is in no log.
package shadow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/issuer"
)

// Config says what is compared.
type Config struct {
	// IssuerURL is the issuer's base URL with its base path; empty: nothing is compared.
	IssuerURL string
	// PerMinute is the most comparisons in a minute. One that disagrees asks the
	// issuer twice.
	PerMinute int
	// Sample is the fraction of the verdicts that is compared, from 0 to 1.
	Sample float64
}

const (
	// queueLength bounds the credentials that wait.
	queueLength = 16
	// workers bounds the comparisons at a time: a slow issuer has few.
	workers = 4
	// timeout bounds a comparison.
	timeout = 15 * time.Second
)

// Recorder counts. Its methods are called concurrently.
type Recorder interface {
	// Compared records the outcome of one comparison.
	Compared(issuer.Outcome)
	// Dropped records a verdict that was to be compared and found the queue full.
	Dropped()
}

// Checker compares. It is safe for concurrent use.
type Checker struct {
	sample    float64
	authority *authority.Authority
	store     authority.Source
	issuer    *issuer.Client
	recorder  Recorder
	log       *slog.Logger
	pace      pace
	queue     chan item
}

// item is a verdict that was given.
type item struct {
	credential authority.Credential
	ours       issuer.Verdict
	reason     authority.Reason
}

// New returns a Checker of the verdicts of an authority over a store. It does no
// I/O; Run compares.
func New(cfg Config, a *authority.Authority, src authority.Source, r Recorder, log *slog.Logger) (*Checker, error) {
	if cfg.PerMinute <= 0 {
		return nil, errors.New("shadow.per_minute is not above zero: leave shadow.issuer_url empty to compare nothing")
	}
	client, err := issuer.New(cfg.IssuerURL)
	if err != nil {
		return nil, fmt.Errorf("shadow.issuer_url: %w", err)
	}
	return &Checker{
		sample: cfg.Sample, authority: a, store: src, issuer: client, recorder: r, log: log,
		pace: pace{every: time.Minute / time.Duration(cfg.PerMinute)}, queue: make(chan item, queueLength),
	}, nil
}

// Offer has a verdict compared, if chance wills and there is room. It returns at
// once. Credentials other than headers are left out: the issuer takes no others.
func (c *Checker) Offer(credential authority.Credential, answer *authority.Answer) {
	if credential.Form != authority.FormHeaders || rand.Float64() >= c.sample { //nolint:gosec // a sample need not be secret
		return
	}
	select {
	case c.queue <- item{credential: credential, ours: verdictOf(answer), reason: answer.Verdict.Reason}:
	default:
		c.recorder.Dropped()
	}
}

// Run compares until the context ends. What waits then is forgotten.
func (c *Checker) Run(ctx context.Context) {
	defer c.issuer.Close()
	var running sync.WaitGroup
	for range workers {
		running.Go(func() { c.work(ctx) })
	}
	running.Wait()
}

func (c *Checker) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case i := <-c.queue:
			if err := c.pace.wait(ctx); err != nil {
				return
			}
			c.compare(ctx, i)
		}
	}
}

func (c *Checker) compare(ctx context.Context, i item) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reason := i.reason
	again := func(ctx context.Context) (issuer.Verdict, error) {
		answer, err := c.authority.Validate(ctx, authority.Call{Now: time.Now(), Arrived: clock.Now()}, i.credential)
		if err != nil {
			return issuer.Verdict{}, err
		}
		reason = answer.Verdict.Reason
		return verdictOf(&answer), nil
	}
	theirs := func(ctx context.Context) (issuer.Verdict, error) {
		return c.issuer.Ask(ctx, i.credential.Cookie, i.credential.Authorization)
	}
	result := issuer.Compare(bounded, i.ours, again, theirs)
	if ctx.Err() != nil {
		return // the server stops: that is no outcome
	}
	c.recorder.Compared(result.Outcome)
	switch {
	case result.Outcome == issuer.Disagree:
		c.report(bounded, i.credential, result, reason)
	case result.Err != nil:
		c.log.Debug("shadow check: no outcome", "error", result.Err)
	}
}

// report logs a disagreement with the steps of our decision.
func (c *Checker) report(ctx context.Context, credential authority.Credential, result issuer.Comparison, reason authority.Reason) {
	e, err := c.authority.Explain(ctx, time.Now(), c.store, credential)
	attributes := []any{
		"ours", say(result.Ours), "reason", reason.String(), "issuer", say(result.Theirs),
	}
	for n, step := range e.Steps {
		attributes = append(attributes, fmt.Sprintf("step%d", n+1), step.Name+": "+step.Detail)
	}
	if advice, ok := e.Remedy(); ok {
		attributes = append(attributes, "fault", string(advice.Fault), "look_at", advice.Setting)
	}
	if err != nil {
		attributes = append(attributes, "error", err)
	}
	c.log.Warn("shadow check: the issuer decides otherwise; sessiond doctor looks for the cause", attributes...)
}

// say puts a verdict into words.
func say(v issuer.Verdict) string {
	if !v.Good {
		return "refused"
	}
	return fmt.Sprintf("good (session %s of user %s)", v.SessionID, v.UserID)
}

func verdictOf(answer *authority.Answer) issuer.Verdict {
	if !answer.Verdict.Good() {
		return issuer.Verdict{}
	}
	s := &answer.Record.Session
	return issuer.Verdict{Good: true, SessionID: s.ID, UserID: s.UserID}
}

// pace gives turns, one in every so long.
type pace struct {
	every time.Duration

	mu   sync.Mutex
	next time.Time
}

// wait returns when it is the caller's turn, or with the context's error.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	turn := p.next
	if turn.Before(now) {
		turn = now
	}
	p.next = turn.Add(p.every)
	p.mu.Unlock()
	timer := time.NewTimer(turn.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
