// Package config turns flags, environment and a file into a [server.Config].
//
// There is one table of settings. A setting "store.dsn_file" is the flag
// --store-dsn-file, the variable SESSIOND_STORE_DSN_FILE and the key dsn_file in
// the file's table [store]. A flag beats the environment, the environment beats
// the file, the file beats the default. An unknown key, variable or flag is an error.
package config

import (
	"slices"
	"strings"
)

// Setting is one row of the table.
type Setting struct {
	// Key is the setting's name, TABLE.KEY or KEY.
	Key string
	// Type says what a value looks like, for the documentation.
	Type string
	// Default is the value if nobody sets one.
	Default string
	// Help says what it does, in a sentence or two.
	Help string
	// EnvOnly marks a secret: it has no flag (arguments show in process lists)
	// and no key in the file (files are copied about); it comes from the
	// environment, or from a file of its own named by another setting.
	EnvOnly bool
}

// Flag is the setting's flag, without dashes.
func (s Setting) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.Key) }

// Env is the setting's environment variable.
func (s Setting) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

const envPrefix = "SESSIOND_"

// The settings' keys, as the code names them.
const (
	keyListen            = "listen"
	keyInsecure          = "insecure"
	keyTLSCert           = "tls.cert_file"
	keyTLSKey            = "tls.key_file"
	keyTLSClientCA       = "tls.client_ca_file"
	keyAdminListen       = "admin.listen"
	keyDrainTimeout      = "drain_timeout"
	keyDataDir           = "data_dir"
	keyLogLevel          = "log.level"
	keyLogFormat         = "log.format"
	keyStoreDriver       = "store.driver"
	keyStorePath         = "store.path"
	keyStoreDSN          = "store.dsn"
	keyStoreDSNFile      = "store.dsn_file"
	keyStoreTimeZone     = "store.time_zone"
	keyStoreMaxConns     = "store.max_conns"
	keyTokenForm         = "store.token_form"
	keySessionTable      = "store.session_table"
	keySessionColumns    = "store.session_columns"
	keySessionHide       = "store.session_hide"
	keyUserTable         = "store.user_table"
	keyUserColumns       = "store.user_columns"
	keyUserHide          = "store.user_hide"
	keySecondaryURL      = "secondary.url"
	keySecondaryURLFile  = "secondary.url_file"
	keySecondaryPrefix   = "secondary.key_prefix"
	keyInDatabase        = "secondary.store_in_database"
	keyPreserve          = "secondary.preserve_in_database"
	keyDisagreement      = "policy.disagreement"
	keyBindSessionData   = "policy.bind_session_data"
	keyStalenessBound    = "staleness_bound"
	keyFeedMode          = "feed.mode"
	keyFeedPoll          = "feed.poll_interval"
	keyCacheBytes        = "cache.max_bytes"
	keyOperatorSecret    = "operator.secret"
	keyOperatorFile      = "operator.secret_file"
	keyShadowURL         = "shadow.issuer_url"
	keyShadowRate        = "shadow.per_minute"
	keyShadowSample      = "shadow.sample"
	keyIssuerVersion     = "issuer.version"
	keySecret            = "issuer.secret"
	keySecretFile        = "issuer.secret_file"
	keyRetiredFile       = "issuer.retired_secrets_file"
	keyAcceptRetired     = "issuer.accept_retired_secrets"
	keyBaseURL           = "issuer.base_url"
	keySecureCookies     = "issuer.use_secure_cookies"
	keyCookiePrefix      = "issuer.cookie_prefix"
	keyCookieName        = "issuer.cookie_name"
	keyCookieNames       = "issuer.cookie_names"
	keyCookieDomain      = "issuer.cookie_domain"
	keyCookieSameSite    = "issuer.cookie_same_site"
	keyCookieCache       = "issuer.cookie_cache"
	keyCacheVersion      = "issuer.cookie_cache_version"
	keyCacheMaxAge       = "issuer.cookie_cache_max_age"
	keyCacheRefresh      = "issuer.cookie_cache_refresh"
	keyCacheJWKS         = "issuer.cookie_cache_jwks_file"
	keyBearer            = "issuer.bearer"
	keyBearerSignature   = "issuer.bearer_require_signature"
	keyAllowBareTokens   = "issuer.allow_bare_tokens"
	keyExpiresIn         = "issuer.expires_in"
	keyUpdateAge         = "issuer.update_age"
	keyNoRefresh         = "issuer.disable_session_refresh"
	keyRefuseBanned      = "policy.refuse_banned"
	keySoftDelete        = "policy.soft_delete_column"
	keyMaxLifetime       = "policy.max_lifetime"
	keyMaxIdle           = "policy.max_idle"
	keyMaxCredentialSize = "limits.max_credential_bytes"
	keyMaxBatch          = "limits.max_batch_size"
)

// Settings returns the table, in the order of the documentation.
func Settings() []Setting {
	return slices.Clone(settings)
}

var settings = []Setting{
	{Key: keyListen, Type: "host:port", Default: "127.0.0.1:8443", Help: "Address of the gRPC listener. Port 0 takes a free one."},
	{Key: keyInsecure, Type: "bool", Default: "false", Help: "Allow plaintext on addresses that are not loopback. Only where something else encrypts."},
	{Key: keyDrainTimeout, Type: "duration", Default: "10s", Help: "How long calls under way may take when the server stops."},
	{Key: keyDataDir, Type: "path", Default: "sessiond-data", Help: "Folder of the embedded default: the SQLite file sessions.sqlite and the file secret, both made if absent. Used only where store.path and the issuer's secret are not set."},
	{Key: keyTLSCert, Type: "path", Help: "PEM file with the listener's certificate chain. Read again at each handshake, so a renewed file needs no restart."},
	{Key: keyTLSKey, Type: "path", Help: "PEM file with the listener's private key."},
	{Key: keyTLSClientCA, Type: "path", Help: "PEM file with the authorities whose client certificates are let in. Set: every client needs one."},
	{Key: keyAdminListen, Type: "host:port", Default: "127.0.0.1:8444", Help: "Address of the operator's HTTP listener: /metrics, /livez, /readyz. Empty: none."},
	{Key: keyLogLevel, Type: "debug|info|warn|error", Default: "info", Help: "Least level that is logged, on standard error."},
	{Key: keyLogFormat, Type: "text|json", Default: "text", Help: "Form of the log."},
	{Key: keyStoreDriver, Type: "sqlite|postgres|none", Default: "sqlite", Help: "Where the issuer keeps sessions. none: nowhere. It runs without database and secondaryStorage (stateless, from 1.4 on), and its signed session_data cookie is the session: nothing is looked up, and nothing can be revoked. See contract.md."},
	{Key: keyStorePath, Type: "path", Help: "The issuer's SQLite file. Empty: the embedded one in data_dir."},
	{Key: keyStoreDSN, Type: "connection string", EnvOnly: true, Help: "Postgres connection string or URL, password included. For PgBouncer in transaction mode add default_query_exec_mode=exec."},
	{Key: keyStoreDSNFile, Type: "path", Help: "File that holds store.dsn; the other way to give it."},
	{Key: keyStoreTimeZone, Type: "IANA zone", Default: "UTC", Help: "Zone of Postgres columns of type timestamp without time zone. Better Auth 1.2 writes its process's local time; Drizzle's timestamp() writes UTC."},
	{Key: keyStoreMaxConns, Type: "int", Default: "0", Help: "Most connections of the Postgres pool. 0: the larger of 4 and the number of CPUs."},
	{Key: keyTokenForm, Type: "plain|sha256-hex|sha256-base64|sha256-base64url", Default: "plain", Help: "How tokens are kept, in rows and in keys of secondary storage. Better Auth keeps them plain; some adapters keep their SHA-256."},
	{Key: keySessionTable, Type: "name", Help: "The session table, with its schema if not on the search path. Empty: discovered."},
	{Key: keySessionColumns, Type: "field=column,…", Help: "Columns of the session table by Better Auth field (token=session_key). Fields not named are discovered; an additional column named here is returned under the field's name."},
	{Key: keySessionHide, Type: "column,…", Help: "Columns of the session table that are never read and never returned."},
	{Key: keyUserTable, Type: "name", Help: "The user table, as store.session_table."},
	{Key: keyUserColumns, Type: "field=column,…", Help: "Columns of the user table, as store.session_columns."},
	{Key: keyUserHide, Type: "column,…", Help: "Columns of the user table that are never read and never returned. All others are returned to workers as attributes."},
	{Key: keySecondaryURL, Type: "URL", EnvOnly: true, Help: "The issuer's secondaryStorage, a Redis or Valkey: redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss:// for TLS, or unix:///SOCKET. Set: the issuer asks it first, and without secondary.store_in_database sessions are there alone. A database in store.* is then read for one thing: the user of a session that sessiond sessions create makes."},
	{Key: keySecondaryURLFile, Type: "path", Help: "File that holds secondary.url; the other way to give it."},
	{Key: keySecondaryPrefix, Type: "text", Default: "better-auth:", Help: "What is in front of the issuer's keys: better-auth: with @better-auth/redis-storage, none with the snippet of its documentation."},
	{Key: keyInDatabase, Type: "bool", Default: "false", Help: "The issuer's session.storeSessionInDatabase: rows are kept beside secondary storage, and used where a key is gone."},
	{Key: keyPreserve, Type: "bool", Default: "false", Help: "The issuer's session.preserveSessionInDatabase: rows outlive their sessions. From version 1.6 on they are a record only; up to 1.4 the issuer uses them again, so that signing out has no effect."},
	{Key: keyStalenessBound, Type: "duration", Default: "5s", Help: "The longest time for which any answer may be used after the moment it speaks of, whatever is lost, cut, paused or slow. At least 500ms. All replicas of one store need the same; sessiond feed install stores it."},
	{Key: keyFeedMode, Type: "auto|required|off", Default: "auto", Help: "Whether changes made by others are learnt from the change feed (sessiond feed install). auto: where it is installed; without it cached sessions age out within staleness_bound. required: refuse to start without it."},
	{Key: keyFeedPoll, Type: "duration", Default: "5ms", Help: "Time between two reads of the change feed while anything is cached or watched. 20ms behind a pooler that forbids prepared statements."},
	{Key: keyCacheBytes, Type: "int", Default: "268435456", Help: "Most bytes of sessions kept in memory. 0: none; every call reads the store."},
	{Key: keyOperatorSecret, Type: "text", EnvOnly: true, Help: "Secret of the callers of SessionAdminService, who send it as authorization: Bearer SECRET; at least 32 bytes. Empty: only callers on this machine are let in, which a proxy on this machine would undo."},
	{Key: keyOperatorFile, Type: "path", Help: "File that holds operator.secret; the other way to give it."},
	{Key: keyIssuerVersion, Type: "1.2|1.3|1.4|1.6|1.7", Default: "1.7", Help: "Better Auth's version. Decides the bearer rules and what a bad session_data cookie does."},
	{Key: keySecret, Type: "text", EnvOnly: true, Help: "The issuer's secret (BETTER_AUTH_SECRET), as text, at least 32 bytes."},
	{Key: keySecretFile, Type: "path", Help: "File that holds issuer.secret; the other way to give it. One line break at its end is not part of the secret."},
	{Key: keyRetiredFile, Type: "path", Help: "File of former secrets, one a line. Their signatures are recognised and refused as RETIRED_SECRET."},
	{Key: keyAcceptRetired, Type: "bool", Default: "false", Help: "Accept signatures made with retired secrets. The issuer does not."},
	{Key: keyBaseURL, Type: "URL", Help: "The issuer's baseURL. Its scheme counts: https means that cookie names carry __Secure-. With issuer.cookie_cache_jwks_file its origin does too: the cookie has to name it."},
	{Key: keySecureCookies, Type: "auto|true|false", Default: "auto", Help: "The issuer's advanced.useSecureCookies. auto: by issuer.base_url, and where that is not set either, both names are read, __Secure- first."},
	{Key: keyCookiePrefix, Type: "text", Help: "The issuer's advanced.cookiePrefix. Empty: better-auth."},
	{Key: keyCookieName, Type: "text", Help: "The issuer's advanced.cookies.session_token.name. Empty: PREFIX.session_token. (session.cookieName is not a Better Auth option; the issuer ignores it, so leave this empty then.)"},
	{Key: keyCookieNames, Type: "name,…", Help: "The exact cookie names to read, instead of what the settings above give. The first that is present decides, good or bad. For migrations; the issuer reads one."},
	{Key: keyCookieDomain, Type: "domain", Help: "The issuer's advanced.crossSubDomainCookies.domain: the Domain of cookies made by sessiond sessions. Empty: none."},
	{Key: keyCookieSameSite, Type: "lax|strict|none", Default: "lax", Help: "The SameSite of cookies made by sessiond sessions, as the issuer's advanced.defaultCookieAttributes has it."},
	{Key: keyCookieCache, Type: "auto|compact|jwt|jwe", Default: "auto", Help: "The issuer's session.cookieCache.strategy; auto: its default, which is jwe with store.driver=none and else compact. With a store the cache is never a source of truth, but versions before 1.7 refuse a session whose session_data cookie is bad, even with the cache off, and explain says what the cookie holds."},
	{Key: keyCacheVersion, Type: "text", Default: "1", Help: "The issuer's session.cookieCache.version. A version that the issuer computes by a function of the user cannot be followed."},
	{Key: keyCacheJWKS, Type: "path", Help: "File with the issuer's public keys, as its /jwks answers, where its jwt plugin signs the cookie: jwt({ sessionCookieCache: true }), strategy jwt, from 1.7 on. Read at the start; only EdDSA keys are."},
	{Key: keyCacheMaxAge, Type: "duration", Default: "0", Help: "The issuer's session.cookieCache.maxAge, for needs_refresh with store.driver=none. 0: the issuer's default, 5m up to 1.4 and then issuer.expires_in."},
	{Key: keyCacheRefresh, Type: "auto|off|duration", Default: "auto", Help: "The issuer's session.cookieCache.refreshCache, for needs_refresh with store.driver=none: how much of a cookie's time is left when its get-session writes a new one. auto: a fifth of the max age. off: refreshCache is false."},
	{Key: keyBearer, Type: "bool", Default: "false", Help: "The issuer's bearer plugin is on: the Authorization header is read, by the rules of issuer.version."},
	{Key: keyBearerSignature, Type: "bool", Default: "false", Help: "The bearer plugin's requireSignature. Off, as in the plugin, a bare database token is a credential."},
	{Key: keyAllowBareTokens, Type: "bool", Default: "false", Help: "Accept Credential.token, a bare database token, from workers."},
	{Key: keyExpiresIn, Type: "duration", Default: "168h", Help: "The issuer's session.expiresIn. With issuer.update_age it decides needs_refresh."},
	{Key: keyUpdateAge, Type: "duration", Default: "24h", Help: "The issuer's session.updateAge."},
	{Key: keyNoRefresh, Type: "bool", Default: "false", Help: "The issuer's session.disableSessionRefresh."},
	{Key: keyShadowURL, Type: "URL", Help: "Hold a sample of the verdicts against those of the issuer at this URL, after they were given: its base URL with its basePath (without a path: /api/auth). Empty: off. Disagreements are logged and counted in sessiond_shadow_total. Cookies of users go there, so plaintext to another machine needs insecure."},
	{Key: keyShadowRate, Type: "int", Default: "60", Help: "Most comparisons a minute; each asks the issuer once, and twice where it disagrees."},
	{Key: keyShadowSample, Type: "fraction", Default: "0.01", Help: "Fraction of the verdicts that is compared, from 0 to 1."},
	{Key: keyRefuseBanned, Type: "bool", Default: "false", Help: "Refuse users whose banned column is set and whose banExpires has not passed. Stricter than the issuer."},
	{Key: keyDisagreement, Type: "parity|strict", Default: "parity", Help: "What counts where secondary storage and the database disagree. parity: decide as the issuer, for whom a key alone is enough. strict: only what the issuer and the row both accept; every call reads both."},
	{Key: keyBindSessionData, Type: "bool", Default: "false", Help: "With store.driver=none, take a session_data cookie only beside the token it was made with. Versions from 1.7 on do; before, any signed token beside it will do. Stricter than those."},
	{Key: keySoftDelete, Type: "column", Help: "Refuse users whose row has this column set (not NULL; for a boolean, true). Stricter than the issuer."},
	{Key: keyMaxLifetime, Type: "duration", Default: "0", Help: "Refuse sessions older than this, counted from createdAt. 0: no cap. Stricter than the issuer."},
	{Key: keyMaxIdle, Type: "duration", Default: "0", Help: "Refuse sessions the issuer has not refreshed for this long, counted from updatedAt. 0: no cap. Stricter than the issuer."},
	{Key: keyMaxCredentialSize, Type: "int", Default: "65536", Help: "Most bytes of Cookie and Authorization headers together; more is MALFORMED."},
	{Key: keyMaxBatch, Type: "int", Default: "256", Help: "Most credentials in one BatchValidate."},
}
