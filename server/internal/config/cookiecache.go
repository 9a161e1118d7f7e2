package config

import (
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/server/internal/store/issued"
	"github.com/sessiond/sessiond/sessioncookie"
)

// isStateless reports whether the issuer has no session store.
func (r *reader) isStateless() bool { return r.text(keyStoreDriver) == server.DriverNone }

// sessionData says how the issuer's session_data cookie is read. Its name and secrets
// are left open.
func (r *reader) sessionData(version sessioncookie.Version) sessiondata.Config {
	strategy := r.choice(keyCookieCache, "auto", sessiondata.Compact, sessiondata.JWT, sessiondata.JWE)
	switch {
	case strategy == "auto" && r.isStateless():
		strategy = sessiondata.JWE
	case strategy == "auto":
		strategy = sessiondata.Compact
	}
	cfg := sessiondata.Config{
		Strategy: strategy, Version: version, CacheVersion: r.text(keyCacheVersion),
		Keys: r.cacheKeys(version, strategy), Bind: r.boolean(keyBindSessionData),
	}
	if len(cfg.Keys) > 0 {
		cfg.Origin = origin(r.text(keyBaseURL))
	}
	if cfg.Bind && !r.isStateless() {
		r.fail(keyBindSessionData, "is about sessions that are cookies: it needs %s=%s", keyStoreDriver, server.DriverNone)
	}
	return cfg
}

// origin is that of a base URL as the issuer writes it: in lower case, without the
// scheme's own port. Empty: there is none.
func origin(base string) string {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return ""
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host
}

func (r *reader) cacheKeys(version sessioncookie.Version, strategy string) []sessiondata.Key {
	path := r.text(keyCacheJWKS)
	if path == "" {
		return nil
	}
	if strategy != sessiondata.JWT || version != 0 && version < sessioncookie.V1_7 {
		r.fail(keyCacheJWKS, "is for %s=%s and %s 1.7 or newer", keyCookieCache, sessiondata.JWT, keyIssuerVersion)
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		r.fail(keyCacheJWKS, "%w", err)
		return nil
	}
	keys, err := sessiondata.ParseKeys(content)
	if err != nil {
		r.fail(keyCacheJWKS, "%w", err)
	}
	return keys
}

// cacheSecrets are those that session_data cookies are read with. Issuers from 1.6 on
// open a jwe by any of their secrets. Where the cookie is the session a retired one
// counts only if its signatures do: whoever has it could write any user into a cookie.
func (r *reader) cacheSecrets(secrets []string, cfg authority.Config) []string {
	if cfg.Stateless != nil && !cfg.AcceptRetired {
		return secrets
	}
	return slices.Concat(secrets, cfg.Cookies.Retired)
}

// defaultCacheMaxAge is the issuer's up to 1.4.
const defaultCacheMaxAge = 5 * time.Minute

// stateless says how sessions are read that are in cookies alone; nil: they are not.
func (r *reader) stateless(version sessioncookie.Version) *authority.Stateless {
	maxAge, refresh := r.duration(keyCacheMaxAge), r.text(keyCacheRefresh)
	if !r.isStateless() {
		for key, set := range map[string]bool{keyCacheMaxAge: maxAge != 0, keyCacheRefresh: refresh != "auto"} {
			if set {
				r.fail(key, "is about sessions that are cookies: it needs %s=%s", keyStoreDriver, server.DriverNone)
			}
		}
		return nil
	}
	if version != 0 && version < sessioncookie.V1_4 {
		r.fail(keyStoreDriver, "%s is for %s 1.4 or newer: before, the issuer knows no sessions without a store", server.DriverNone, keyIssuerVersion)
	}
	hide := func(key string) map[string]bool {
		fields := make(map[string]bool)
		for _, name := range r.list(key) {
			fields[name] = true
		}
		return fields
	}
	s := &authority.Stateless{Decoder: issued.Decoder{HideSession: hide(keySessionHide), HideUser: hide(keyUserHide)}}
	if maxAge == 0 {
		maxAge = defaultCacheMaxAge
		if version == 0 || version > sessioncookie.V1_4 {
			maxAge = r.duration(keyExpiresIn)
		}
	}
	switch refresh {
	case "auto":
		s.RefreshAge = (maxAge / 5).Truncate(time.Second)
	case "off":
	default:
		s.RefreshAge = r.duration(keyCacheRefresh)
	}
	return s
}

// noStore refuses settings that would have to ask a store, or are about one.
func (r *reader) noStore() {
	const unused = "there is no store"
	refused := map[string]string{
		keyStorePath: unused, keyStoreDSN: unused, keyStoreDSNFile: unused, keyStoreTimeZone: unused, keyStoreMaxConns: unused,
		keyTokenForm: unused, keySessionTable: unused, keySessionColumns: unused, keyUserTable: unused, keyUserColumns: unused,
		keySecondaryURL:     "an issuer with secondaryStorage is not stateless",
		keySecondaryURLFile: "an issuer with secondaryStorage is not stateless",
		keyFeedMode:         "nothing tells of a change, since there is none",
		keyShadowURL:        "the process of the issuer that made a session accepts it without its cookie, so what it says settles nothing",
		keyAllowBareTokens:  "a bare token names a session in a store",
		keyRefuseBanned:     "a ban is not in cookies that were written before it",
		keySoftDelete:       "a deletion is not in cookies that were written before it",
		keyMaxIdle:          "a stateless issuer never moves updatedAt",
	}
	for _, s := range settings {
		why, ok := refused[s.Key]
		if text := r.text(s.Key); !ok || text == "" || text == s.Default || s.Key == keyFeedMode && text == server.FeedOff {
			continue
		}
		r.fail(s.Key, "does not go with %s=%s: %s", keyStoreDriver, server.DriverNone, why)
	}
}
