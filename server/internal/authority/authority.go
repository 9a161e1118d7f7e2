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

	"github.com/sessiond/sessiond/server/internal/sessiondata"
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
	// SessionData, where set, has the issuer's session_data cookie refuse
	// sessions as issuers before 1.7 do.
	SessionData *sessiondata.Config
	// DontRemember is the name of the issuer's dont_remember cookie: sessions
	// signed in with it are never refreshed. Empty: none.
	DontRemember string
	// Policy holds the rules of the decision.
	Policy Policy
	// StalenessBound is the longest time for which an answer may be used.
	StalenessBound time.Duration
	// MaxBatchSize is the most credentials in one batch.
	MaxBatchSize int
}

// Authority decides. It is safe for concurrent use.
type Authority struct {
	cfg          Config
	reader       *sessioncookie.Reader
	sessionData  *sessiondata.Checker
	dontRemember *sessioncookie.Reader
	store        store.Store
	intake       Intake
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

// New returns an Authority over a store. It checks the configuration and does no I/O.
func New(cfg Config, st store.Store) (*Authority, error) {
	if cfg.AcceptRetired {
		cfg.Cookies.Secrets = append(append([]string(nil), cfg.Cookies.Secrets...), cfg.Cookies.Retired...)
		cfg.Cookies.Retired = nil
	}
	reader, err := sessioncookie.New(cfg.Cookies)
	if err != nil {
		return nil, err
	}
	a := &Authority{cfg: cfg, reader: reader, store: st}
	if cfg.SessionData != nil {
		if a.sessionData, err = sessiondata.New(*cfg.SessionData); err != nil {
			return nil, err
		}
	}
	if cfg.DontRemember != "" {
		other := cfg.Cookies
		other.Names, other.Bearer = []string{cfg.DontRemember}, false
		if a.dontRemember, err = sessioncookie.New(other); err != nil {
			return nil, fmt.Errorf("dont_remember cookie: %w", err)
		}
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
	if cfg.SessionData != nil {
		in.Cookies = append(in.Cookies, CookieRule{Name: cfg.SessionData.Name, Chunked: true})
	}
	if cfg.DontRemember != "" {
		in.Cookies = append(in.Cookies, CookieRule{Name: cfg.DontRemember})
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

// Answer is a verdict and what it was decided on.
type Answer struct {
	Verdict Verdict
	// Record is what the store held; meaningful for a good session.
	Record store.Record
	// Secret is the index of the secret that made the signature, -1 for none.
	Secret int
}

// ErrBatchTooLarge means that a batch holds more credentials than MaxBatchSize.
var ErrBatchTooLarge = errors.New("batch too large")

// Validate decides one credential at an instant, the arrival of the call. A
// credential that does not verify never reaches the store. An error wraps
// [store.ErrUnavailable] or the context's error.
func (a *Authority) Validate(ctx context.Context, now time.Time, c Credential) (Answer, error) {
	var tokens [1]string
	reading, reason := a.read(c, now)
	if reason != ReasonNone {
		return Answer{Verdict: Verdict{Reason: reason}, Secret: reading.Secret}, nil
	}
	tokens[0] = reading.Token
	records, err := a.store.Lookup(ctx, "", tokens[:])
	if err != nil {
		return Answer{}, err
	}
	return a.answer(c, reading, records[0], now), nil
}

// ValidateBatch decides many credentials with one lookup, in order.
func (a *Authority) ValidateBatch(ctx context.Context, now time.Time, cs []Credential) ([]Answer, error) {
	if len(cs) > a.cfg.MaxBatchSize {
		return nil, fmt.Errorf("%w: %d credentials, at most %d", ErrBatchTooLarge, len(cs), a.cfg.MaxBatchSize)
	}
	answers := make([]Answer, len(cs))
	readings := make([]sessioncookie.Reading, len(cs))
	var tokens []string
	var at []int
	for i, c := range cs {
		reading, reason := a.read(c, now)
		if reason != ReasonNone {
			answers[i] = Answer{Verdict: Verdict{Reason: reason}, Secret: reading.Secret}
			continue
		}
		readings[i] = reading
		tokens, at = append(tokens, reading.Token), append(at, i)
	}
	if len(tokens) == 0 {
		return answers, nil
	}
	records, err := a.store.Lookup(ctx, "", tokens)
	if err != nil {
		return nil, err
	}
	for n, i := range at {
		answers[i] = a.answer(cs[i], readings[i], records[n], now)
	}
	return answers, nil
}

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
	if a.sessionData != nil && c.Form == FormHeaders && a.sessionData.Rejects(c.Cookie, now) {
		return reading, ReasonSessionDataRejected
	}
	return reading, ReasonNone
}

func (a *Authority) answer(c Credential, reading sessioncookie.Reading, r store.Record, now time.Time) Answer {
	v := Decide(r, now, a.cfg.Policy)
	if v.NeedsRefresh && a.dontRemember != nil && c.Form == FormHeaders {
		v.NeedsRefresh = a.dontRemember.FromHeaders(c.Cookie, "").Err != nil
	}
	return Answer{Verdict: v, Record: r, Secret: reading.Secret}
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
