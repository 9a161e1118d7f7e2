package vectors_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// suite is a vectors.json: see testdata/README.md for the format.
type suite struct {
	Format      int       `json:"format"`
	GeneratedAt time.Time `json:"generatedAt"`
	Datasets    []dataset `json:"datasets"`
	Vectors     []vector  `json:"vectors"`

	dir     string
	answers map[string]answer // by vector name, and by name#expectedCached
}

// dataset is one version of Better Auth under one configuration on one database.
type dataset struct {
	ID                string                                               `json:"id"`
	BetterAuthVersion string                                               `json:"betterAuthVersion"`
	Backend           string                                               `json:"backend"`
	Options           options                                              `json:"options"`
	Secret            string                                               `json:"secret"`
	Secrets           []struct{ Value string }                             `json:"secrets"`
	CookieNames       struct{ SessionToken string }                        `json:"cookieNames"`
	Files             struct{ Postgres, SQLite, SQLiteFile, Redis string } `json:"files"`
	Tables            map[string]table                                     `json:"tables"`
	SecondaryStorage  *secondaryStorage                                    `json:"secondaryStorage"`
	JWKS              json.RawMessage                                      `json:"jwks"`
}

type table struct {
	Table   string            `json:"table"`
	Columns map[string]string `json:"columns"`
}

// options are those options of betterAuth() that concern sessions.
type options struct {
	BaseURL  string `json:"baseURL"`
	Session  modelOptions
	User     modelOptions
	Advanced struct {
		UseSecureCookies *bool
		CookiePrefix     string
		Cookies          map[string]struct{ Name string }
	}
	Plugins []struct {
		ID      string
		Options struct{ RequireSignature bool }
	}
}

type modelOptions struct {
	ModelName        string
	Fields           map[string]string
	AdditionalFields map[string]struct {
		Type      string
		FieldName string
		Returned  *bool
	}
	ExpiresIn   *float64
	UpdateAge   *float64
	CookieCache struct {
		Enabled           bool
		Strategy, Version string
	}
}

// secondaryStorage says how the issuer used its Redis.
type secondaryStorage struct {
	KeyPrefix                 string
	StoreSessionInDatabase    bool
	PreserveSessionInDatabase bool
}

// settings are what a user configures of it.
func (s *secondaryStorage) settings() map[string]string {
	return map[string]string{
		"secondary.key_prefix":           s.KeyPrefix,
		"secondary.store_in_database":    strconv.FormatBool(s.StoreSessionInDatabase),
		"secondary.preserve_in_database": strconv.FormatBool(s.PreserveSessionInDatabase),
	}
}

// vector is one request and Better Auth's answer to it.
type vector struct {
	Name                string   `json:"name"`
	Dataset             string   `json:"dataset"`
	Group               string   `json:"group"`
	CookieHeader        *string  `json:"cookieHeader"`
	CookieHeaderBase64  *string  `json:"cookieHeaderBase64"`
	AuthorizationHeader string   `json:"authorizationHeader"`
	EvaluatedAt         *instant `json:"evaluatedAt"`
	Expected            answer   `json:"expected"`
	ExpectedCached      answer   `json:"expectedCached"`
	ReasonHint          *string  `json:"reasonHint"`
}

// answer is what get-session printed.
type answer struct {
	Status   int            `json:"status"`
	Valid    bool           `json:"valid"`
	UserID   string         `json:"userId"`
	Session  map[string]any `json:"session"`
	User     map[string]any `json:"user"`
	AnswerOf string         `json:"answerOf"`
	// SideEffects says what the request changed in the stores.
	SideEffects []string `json:"sideEffects"`
}

// instant is an ISO date or a count of milliseconds.
type instant struct{ time.Time }

func (i *instant) UnmarshalJSON(b []byte) error {
	var ms int64
	if err := json.Unmarshal(b, &ms); err == nil {
		i.Time = time.UnixMilli(ms)
		return nil
	}
	return json.Unmarshal(b, &i.Time)
}

// refreshed reports whether the issuer moved the session's expiry as it answered.
func (a answer) refreshed() bool {
	return slices.Contains(a.SideEffects, "session: expiresAt, updatedAt changed")
}

func load(dir string) (*suite, error) {
	text, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		return nil, err
	}
	s := &suite{dir: dir, answers: make(map[string]answer)}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("vectors.json: %w", err)
	}
	if s.Format != 1 {
		return nil, fmt.Errorf("vectors.json: format %d, want 1", s.Format)
	}
	if len(s.Vectors) == 0 || len(s.Datasets) == 0 {
		return nil, fmt.Errorf("vectors.json: %d datasets, %d vectors: nothing to check", len(s.Datasets), len(s.Vectors))
	}
	for _, v := range s.Vectors {
		s.answers[v.Name] = v.Expected
		s.answers[v.Name+"#expectedCached"] = v.ExpectedCached
	}
	return s, nil
}

// printed returns the session and user an answer stands for, following answerOf.
func (s *suite) printed(a answer) (session, user map[string]any, err error) {
	for range 4 {
		if a.AnswerOf == "" {
			return a.Session, a.User, nil
		}
		next, ok := s.answers[a.AnswerOf]
		if !ok {
			return nil, nil, fmt.Errorf("answerOf names %q, which is not there", a.AnswerOf)
		}
		a = next
	}
	return nil, nil, fmt.Errorf("answerOf goes in a circle at %q", a.AnswerOf)
}

// cookie returns the exact bytes of the Cookie header.
func (v vector) cookie() (string, error) {
	if v.CookieHeaderBase64 != nil {
		b, err := base64.StdEncoding.DecodeString(*v.CookieHeaderBase64)
		return string(b), err
	}
	if v.CookieHeader == nil {
		return "", nil
	}
	return *v.CookieHeader, nil
}

// flags returns the settings that describe the dataset's issuer, as a user would
// set them from the issuer's own configuration. Schema names are left to discovery.
func (d dataset) flags() map[string]string {
	f := map[string]string{
		"issuer.version":       d.BetterAuthVersion,
		"issuer.base_url":      d.Options.BaseURL,
		"issuer.cookie_prefix": d.Options.Advanced.CookiePrefix,
		"issuer.cookie_name":   d.Options.Advanced.Cookies["session_token"].Name,
	}
	if secure := d.Options.Advanced.UseSecureCookies; secure != nil {
		f["issuer.use_secure_cookies"] = fmt.Sprint(*secure)
	}
	if strategy := d.Options.Session.CookieCache.Strategy; strategy != "" {
		f["issuer.cookie_cache"] = strategy
	}
	if version := d.Options.Session.CookieCache.Version; version != "" {
		f["issuer.cookie_cache_version"] = version
	}
	if s := d.Options.Session.ExpiresIn; s != nil {
		f["issuer.expires_in"] = fmt.Sprintf("%fs", *s)
	}
	if s := d.Options.Session.UpdateAge; s != nil {
		f["issuer.update_age"] = fmt.Sprintf("%fs", *s)
	}
	for _, p := range d.Options.Plugins {
		if p.ID == "bearer" {
			f["issuer.bearer"] = "true"
			f["issuer.bearer_require_signature"] = fmt.Sprint(p.Options.RequireSignature)
		}
	}
	f["store.session_columns"], f["store.session_hide"] = d.Options.Session.schema()
	f["store.user_columns"], f["store.user_hide"] = d.Options.User.schema()
	return f
}

// schema returns the additional fields whose columns have another name, and the
// columns that are not to be returned. Known fields are left to discovery.
func (m modelOptions) schema() (columns, hide string) {
	var mapped, hidden []string
	for name, field := range m.AdditionalFields {
		column := name
		if field.FieldName != "" {
			column = field.FieldName
			mapped = append(mapped, name+"="+column)
		}
		if field.Returned != nil && !*field.Returned {
			hidden = append(hidden, column)
			if column != name {
				mapped = mapped[:len(mapped)-1]
			}
		}
	}
	return strings.Join(mapped, ","), strings.Join(hidden, ",")
}

// secret returns the issuer's current secret and the ones before it.
func (d dataset) secret() (current string, former []string) {
	if len(d.Secrets) == 0 {
		return d.Secret, nil
	}
	for _, s := range d.Secrets[1:] {
		former = append(former, s.Value)
	}
	return d.Secrets[0].Value, former
}
