package differential_test

import (
	"slices"
	"strconv"
	"strings"
)

const (
	secret  = "a secret of the differential run, 32 bytes and more"
	retired = "the secret of before the rotation, 32 bytes and more"
	other   = "a secret that nobody has configured, 32 bytes and more"
)

// configuration is one way of configuring both sides: the issuer's options, and what a
// user would copy of them.
type configuration struct {
	name string
	// from is the first version that has it; empty: all.
	from string
	// redis says that the issuer has secondary storage, rows that it keeps sessions in
	// the database.
	redis, rows bool
	// options are Better Auth's, in JSON; bearer those of its plugin, empty: without it.
	options, bearer string
	// flags are ours, beside those of version, base URL, bearer and stores.
	flags map[string]string
}

const cache = `{"session": {"cookieCache": {"enabled": true, "maxAge": 3600, "strategy": "`

var configurations = []configuration{
	{name: "sql", rows: true, bearer: `{}`},
	{name: "redis", redis: true, bearer: `{}`},
	{name: "redis, then rows", redis: true, rows: true, bearer: `{}`, options: `{"session": {"storeSessionInDatabase": true}}`},
	{
		name: "preserved rows", redis: true, rows: true, bearer: `{}`,
		options: `{"session": {"storeSessionInDatabase": true, "preserveSessionInDatabase": true}}`,
		flags:   map[string]string{"secondary.preserve_in_database": "true"},
	},
	{name: "cache compact", rows: true, bearer: `{}`, options: cache + `compact"}}}`},
	{name: "cache jwt", rows: true, bearer: `{}`, options: cache + `jwt"}}}`, flags: map[string]string{"issuer.cookie_cache": "jwt"}},
	{name: "cache jwe", rows: true, bearer: `{}`, options: cache + `jwe"}}}`, flags: map[string]string{"issuer.cookie_cache": "jwe"}},
	{name: "signed bearer", rows: true, bearer: `{"requireSignature": true}`, flags: map[string]string{"issuer.bearer_require_signature": "true"}},
	{name: "no bearer", redis: true},
	{
		name: "secure prefix", redis: true, bearer: `{}`,
		options: `{"baseURL": "https://auth.example.com", "advanced": {"cookiePrefix": "app"}, "session": {"cookieCache": {"enabled": true, "maxAge": 3600}}}`,
		flags:   map[string]string{"issuer.base_url": "https://auth.example.com", "issuer.cookie_prefix": "app"},
	},
	{
		name: "secure name", rows: true, bearer: `{}`,
		options: `{"advanced": {"useSecureCookies": true, "cookies": {"session_token": {"name": "codex-session"}}}}`,
		flags:   map[string]string{"issuer.use_secure_cookies": "true", "issuer.cookie_name": "codex-session"},
	},
	{
		name: "rotated secrets", from: "1.7", rows: true, bearer: `{}`,
		options: `{"secrets": [{"version": 2, "value": ` + strconv.Quote(secret) + `}, {"version": 1, "value": ` + strconv.Quote(retired) + `}]}`,
	},
}

// of are the configurations that a version knows.
func of(version string) []configuration {
	return slices.DeleteFunc(slices.Clone(configurations), func(c configuration) bool { return c.from > version })
}

// twoStores reports whether key and row can disagree.
func (c configuration) twoStores() bool { return c.redis && c.rows }

// cached reports whether the issuer sets session_data cookies.
func (c configuration) cached() bool { return strings.Contains(c.options, "cookieCache") }

// outcomes are those that have to occur often.
func (c configuration) outcomes(version string) []string {
	want := []string{"good by cookie", "NO_CREDENTIAL", "MALFORMED", "BAD_SIGNATURE", "NOT_FOUND", "EXPIRED", "USER_NOT_FOUND"}
	if c.bearer != "" {
		want = append(want, "good by bearer")
		if c.flags["issuer.bearer_require_signature"] == "" {
			want = append(want, "good by bare token")
		} else {
			want = append(want, "UNSIGNED_NOT_ALLOWED")
		}
	}
	if c.redis {
		want = append(want, "STORED_VALUE_UNREADABLE")
		if version == "1.7" {
			want = append(want, "REVOKED")
		}
	}
	if c.cached() && version == "1.4" {
		want = append(want, "SESSION_DATA_REJECTED")
	}
	if c.from != "" {
		want = append(want, "RETIRED_SECRET")
	}
	return want
}
