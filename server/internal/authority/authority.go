// Package authority holds the rules: it reads a credential, verifies it, looks
// the session up and decides. It knows neither gRPC nor SQL.
//
// A refusal is a Verdict; an error means that the authority could not find out.
package authority

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/cache"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// Config configures an Authority.
type Config struct {
	// Cookies says how credentials are read and which secrets verify them.
	Cookies sessioncookie.Config
	// AcceptRetired accepts signatures by a retired secret. The issuer does not:
	// it verifies with its first secret only.
	AcceptRetired bool
	// Companions are the cookies beside the session cookies.
	Companions []Companion
	// TokenForm is the form in which the store holds tokens; empty: TokenPlain.
	TokenForm TokenForm
	// Policy holds the rules of the decision.
	Policy Policy
	// StalenessBound is the longest time for which an answer may be used.
	StalenessBound time.Duration
	// MaxBatchSize is the most credentials in one batch.
	MaxBatchSize int
}

// Authority decides. It is safe for concurrent use.
type Authority struct {
	cfg        Config
	reader     *sessioncookie.Reader
	companions []companion
	records    Records
	intake     Intake
}

// Records answers what the store holds for a token, from memory where that is as
// good as the store. A replica.Replica is one; [Direct] makes one of a store.
type Records interface {
	Get(ctx context.Context, q cache.Question) (cache.Answer, error)
	GetBatch(ctx context.Context, qs []cache.Question, out []cache.Answer) error
	// NeedsRead reports whether a question at a revision or newer needs a fresh
	// read. The error wraps store.ErrUnavailable, or says what is wrong with the
	// revision.
	NeedsRead(revision feed.Revision) (bool, error)
	// Findings reads what the places that make up the store hold, nil where it is one.
	Findings(ctx context.Context, token string) []store.Finding
}

// Intake says what the authority reads, for those who send it.
type Intake struct {
	Cookies            []CookieRule
	Authorization      bool
	MaxCredentialBytes int
	MaxBatchSize       int
	ConfigDigest       []byte
	StalenessBound     time.Duration
	Instance           string
}

// CookieRule names a cookie, or with Chunked also NAME.0, NAME.1, ….
type CookieRule struct {
	Name    string
	Chunked bool
}

// New returns an Authority over records. It checks the configuration and does no I/O.
func New(cfg Config, records Records) (*Authority, error) {
	if cfg.AcceptRetired {
		cfg.Cookies.Secrets = append(append([]string(nil), cfg.Cookies.Secrets...), cfg.Cookies.Retired...)
		cfg.Cookies.Retired = nil
	}
	reader, err := sessioncookie.New(cfg.Cookies)
	if err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg, reader: reader, records: records}
	if a.companions, err = newCompanions(cfg); err != nil {
		return nil, err
	}
	if a.intake, err = newIntake(cfg); err != nil {
		return nil, err
	}
	return a, nil
}

func newIntake(cfg Config) (Intake, error) {
	in := Intake{
		Authorization:      cfg.Cookies.Bearer,
		MaxCredentialBytes: cfg.Cookies.MaxBytes,
		MaxBatchSize:       cfg.MaxBatchSize,
		StalenessBound:     cfg.StalenessBound,
		Instance:           rand.Text(),
	}
	if in.MaxCredentialBytes == 0 {
		in.MaxCredentialBytes = sessioncookie.DefaultMaxBytes
	}
	for _, name := range cfg.Cookies.Names {
		in.Cookies = append(in.Cookies, CookieRule{Name: name})
	}
	for _, c := range cfg.Companions {
		if c.SessionData != nil {
			in.Cookies = append(in.Cookies, CookieRule{Name: c.SessionData.Name, Chunked: true})
		}
		if c.DontRemember != "" {
			in.Cookies = append(in.Cookies, CookieRule{Name: c.DontRemember})
		}
	}
	digest, err := configDigest(cfg, in)
	if err != nil {
		return Intake{}, err
	}
	in.ConfigDigest = digest
	return in, nil
}

// configDigest is a MAC under the first secret, so that it tells nothing of the
// secrets and equal configurations of two replicas have equal digests.
func configDigest(cfg Config, in Intake) ([]byte, error) {
	mac := hmac.New(sha256.New, []byte(cfg.Cookies.Secrets[0]))
	in.Instance = ""
	if err := json.NewEncoder(mac).Encode(struct {
		Purpose string
		Intake  Intake
		Config  Config
	}{"sessiond config digest v1", in, cfg}); err != nil {
		return nil, fmt.Errorf("config digest: %w", err)
	}
	return mac.Sum(nil), nil
}

// Intake says what this authority reads.
func (a *Authority) Intake() Intake { return a.intake }

// Credential is what a caller presented. Exactly one of the three forms counts,
// the one that Form names.
type Credential struct {
	Form Form
	// Cookie and Authorization are the headers' values, for FormHeaders.
	Cookie, Authorization string
	// Value is the session cookie's value or the bare token, for the other forms.
	Value string
}

// Form is the form in which a credential came.
type Form uint8

// The forms.
const (
	FormHeaders Form = iota
	FormCookieValue
	FormToken
)

// Call says when a question arrived and how it has to be answered.
type Call struct {
	// Now is the wall clock at the arrival, which the session's instants are held
	// against.
	Now time.Time
	// Arrived is the same moment on the monotonic clock.
	Arrived clock.Instant
	// MaxAge is how old the knowledge behind the answer may be on arrival; zero:
	// the store is read.
	MaxAge time.Duration
	// AtLeast, where set, is a revision that the answer has to be at, or newer.
	AtLeast feed.Revision
}

// Answer is a verdict and what it was decided on.
type Answer struct {
	Verdict Verdict
	// Record is what the store held; meaningful for a good session. It is shared
	// and must not be changed.
	Record *store.Record
	// Secret is the index of the secret that made the signature, -1 for none.
	Secret int
	// Verified reports whether a token was verified, which Key is the digest of.
	Verified bool
	Key      feed.Key
	// Age is how old the knowledge was when the call arrived.
	Age time.Duration
	// Untracked means that nobody would tell of a change.
	Untracked bool
}

// ErrBatchTooLarge means that a batch holds more credentials than MaxBatchSize.
var ErrBatchTooLarge = errors.New("batch too large")

// ErrBadRevision means that a call's AtLeast is no revision of this store, or that
// the store has none.
var ErrBadRevision = errors.New("at_least cannot be used")

// Validate decides one credential. One that does not verify never reaches the
// cache or the store. An error wraps [store.ErrUnavailable], ErrBadRevision or the
// context's error.
func (a *Authority) Validate(ctx context.Context, call Call, c Credential) (Answer, error) {
	call, err := a.settle(call)
	if err != nil {
		return Answer{}, err
	}
	reading, reason := a.read(c, call.Now)
	if reason != ReasonNone {
		return Answer{Verdict: Verdict{Reason: reason}, Secret: reading.Secret}, nil
	}
	q := a.question(call, reading.Token)
	known, err := a.records.Get(ctx, q)
	if err != nil {
		return Answer{}, err
	}
	answer := a.answer(c, reading, q, known, call.Now)
	if known.FromCache && answer.byTime() {
		q.MaxAge = 0
		if known, err = a.records.Get(ctx, q); err != nil {
			return Answer{}, err
		}
		answer = a.answer(c, reading, q, known, call.Now)
	}
	return answer, nil
}

// ValidateBatch decides many credentials, in order, with one lookup for all that
// are not known.
func (a *Authority) ValidateBatch(ctx context.Context, call Call, cs []Credential) ([]Answer, error) {
	if len(cs) > a.cfg.MaxBatchSize {
		return nil, fmt.Errorf("%w: %d credentials, at most %d", ErrBatchTooLarge, len(cs), a.cfg.MaxBatchSize)
	}
	call, err := a.settle(call)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(cs))
	readings := make([]sessioncookie.Reading, len(cs))
	open := make([]int, 0, len(cs)) // the credentials whose records are wanted
	for i, c := range cs {
		reading, reason := a.read(c, call.Now)
		if reason != ReasonNone {
			answers[i] = Answer{Verdict: Verdict{Reason: reason}, Secret: reading.Secret}
			continue
		}
		readings[i] = reading
		open = append(open, i)
	}
	for len(open) > 0 {
		questions := make([]cache.Question, len(open))
		known := make([]cache.Answer, len(open))
		for n, i := range open {
			questions[n] = a.question(call, readings[i].Token)
		}
		if err := a.records.GetBatch(ctx, questions, known); err != nil {
			return nil, err
		}
		var again []int
		for n, i := range open {
			answers[i] = a.answer(cs[i], readings[i], questions[n], known[n], call.Now)
			if known[n].FromCache && answers[i].byTime() {
				again = append(again, i)
			}
		}
		open, call.MaxAge = again, 0
	}
	return answers, nil
}

// settle turns a revision that is not known to be covered into a read of the store.
func (a *Authority) settle(call Call) (Call, error) {
	if call.AtLeast == "" {
		return call, nil
	}
	read, err := a.records.NeedsRead(call.AtLeast)
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return call, err
	case err != nil:
		return call, fmt.Errorf("%w: %w", ErrBadRevision, err)
	case read:
		call.MaxAge = 0
	}
	return call, nil
}

// question asks for a token, as the store holds it.
func (a *Authority) question(call Call, token string) cache.Question {
	token = a.cfg.TokenForm.Stored(token)
	return cache.Question{Token: token, Key: feed.KeyOf(token), Arrived: call.Arrived, MaxAge: call.MaxAge}
}

// byTime reports whether the answer rests on a time in the record that the issuer
// may have moved without an event: such a record is read anew (A8).
func (answer Answer) byTime() bool { return !answer.Verdict.Good() || answer.Verdict.NeedsRefresh }

// Find verifies a credential and returns its token, be there a session or not: as the
// browser holds it, and as the store does. A reason other than ReasonNone says why it
// does not verify.
func (a *Authority) Find(now time.Time, c Credential) (token, stored string, _ Reason) {
	reading, reason := a.read(c, now)
	if reason != ReasonNone {
		return "", "", reason
	}
	return reading.Token, a.cfg.TokenForm.Stored(reading.Token), ReasonNone
}

// Decide says whether a record is good at an instant, by this authority's policy.
func (a *Authority) Decide(r *store.Record, now time.Time) Verdict {
	return Decide(r, now, a.cfg.Policy)
}

// Cookies says how credentials are read. Secrets are among it.
func (a *Authority) Cookies() sessioncookie.Config { return a.cfg.Cookies }

// Policy holds the rules of the decision.
func (a *Authority) Policy() Policy { return a.cfg.Policy }

// Stored returns a token as the store holds it.
func (a *Authority) Stored(token string) string { return a.cfg.TokenForm.Stored(token) }

// read finds and verifies the credential. It is the one place where credentials
// are read; Explain calls it too.
func (a *Authority) read(c Credential, now time.Time) (sessioncookie.Reading, Reason) {
	var reading sessioncookie.Reading
	switch c.Form {
	case FormCookieValue:
		reading = a.reader.FromValue(c.Value)
	case FormToken:
		reading = a.reader.FromToken(c.Value)
	default:
		reading = a.reader.FromHeaders(c.Cookie, c.Authorization)
	}
	if reading.Err != nil {
		return reading, reasonOf(reading.Err)
	}
	if beside := a.beside(reading.Name); beside.sessionData != nil && c.Form == FormHeaders && beside.sessionData.Rejects(c.Cookie, now) {
		return reading, ReasonSessionDataRejected
	}
	return reading, ReasonNone
}

// sessionDataHorizon is as far as anybody keeps an answer.
const sessionDataHorizon = 5 * time.Minute

func (a *Authority) answer(c Credential, reading sessioncookie.Reading, q cache.Question, known cache.Answer, now time.Time) Answer {
	v := Decide(known.Record, now, a.cfg.Policy)
	beside := a.beside(reading.Name)
	if v.NeedsRefresh && beside.dontRemember != nil && c.Form == FormHeaders {
		v.NeedsRefresh = beside.dontRemember.FromHeaders(c.Cookie, "").Err != nil
	}
	if v.Good() && beside.sessionData != nil && c.Form == FormHeaders {
		if d := beside.sessionData.GoodFor(c.Cookie, now, sessionDataHorizon); d < sessionDataHorizon {
			v.Remaining = min(v.Remaining, d)
		}
	}
	return Answer{
		Verdict: v, Record: known.Record, Secret: reading.Secret,
		Verified: true, Key: q.Key, Age: max(q.Arrived.Sub(known.AsOf), 0), Untracked: known.Untracked,
	}
}

// reasonOf maps what sessioncookie says to a reason. A test covers every sentinel.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, sessioncookie.ErrNoCredential):
		return ReasonNoCredential
	case errors.Is(err, sessioncookie.ErrBadSignature):
		return ReasonBadSignature
	case errors.Is(err, sessioncookie.ErrRetiredSecret):
		return ReasonRetiredSecret
	case errors.Is(err, sessioncookie.ErrUnsigned):
		return ReasonUnsignedNotAllowed
	default:
		return ReasonMalformed
	}
}
