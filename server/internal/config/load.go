package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/issuer"
	"github.com/sessiond/sessiond/server/internal/lifecycle"
	"github.com/sessiond/sessiond/server/internal/shadow"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// Config is what the program runs with.
type Config struct {
	Server server.Config
	Log    Log
	// Embedded reports whether the embedded default is used: the SQLite file in
	// data_dir.
	Embedded bool
	// SecretFile is the file the embedded secret is kept in; empty if the secret was configured.
	SecretFile string
	// IssuerURL is issuer.base_url, empty if it is not set.
	IssuerURL string
	// SecretFiles are the files that hold secrets, by the setting that names them.
	SecretFiles map[string]string
}

// Log says what is logged and how.
type Log struct {
	Level slog.Level
	JSON  bool
}

// Load reads all sources and returns a checked configuration, or an error that
// names every wrong setting. With create, the embedded default's folder and
// secret are made if absent; without, their absence is an error.
func Load(src Sources, create bool) (Config, error) {
	values, err := resolve(src)
	if err != nil {
		return Config{}, err
	}
	r := &reader{values: values}
	cfg := Config{Server: server.Config{
		Listen:       r.text(keyListen),
		Insecure:     r.boolean(keyInsecure),
		TLS:          server.TLSFiles{Cert: r.text(keyTLSCert), Key: r.text(keyTLSKey), ClientCA: r.text(keyTLSClientCA)},
		AdminListen:  r.text(keyAdminListen),
		DrainTimeout: r.duration(keyDrainTimeout),
		Feed: server.FeedConfig{
			Mode:         r.choice(keyFeedMode, server.FeedAuto, server.FeedRequired, server.FeedOff),
			PollInterval: r.duration(keyFeedPoll),
		},
		Shadow:         r.shadow(),
		CacheBytes:     int64(r.integer(keyCacheBytes, 0, 1<<40)),
		OperatorSecret: r.operatorSecret(),
	}}
	cfg.Log = r.log()
	cfg.Server.Store, cfg.Embedded = r.store(create)
	cfg.Server.Authority = r.authority()
	cfg.Server.Cookies = r.cookies()
	secrets, file := r.secret(cfg.Embedded, create)
	cfg.SecretFile = file
	cfg.IssuerURL = r.text(keyBaseURL)
	cfg.SecretFiles = r.secretFiles(file)
	cfg.Server.Authority.Cookies.Secrets = secrets
	for _, c := range cfg.Server.Authority.Companions {
		c.SessionData.Secrets = r.cacheSecrets(secrets, cfg.Server.Authority)
	}
	if err := errors.Join(r.errs...); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// LoadStore reads what is needed to work on the store alone: where it is, and the
// staleness bound. No secret of the issuer's has to be given.
func LoadStore(src Sources) (server.StoreConfig, time.Duration, error) {
	values, err := resolve(src)
	if err != nil {
		return server.StoreConfig{}, 0, err
	}
	r := &reader{values: values}
	cfg, _ := r.store(false)
	if cfg.Driver == server.DriverNone {
		r.fail(keyStoreDriver, "%s: the issuer is stateless, and there is no store to work on", cfg.Driver)
	}
	bound := r.duration(keyStalenessBound)
	if bound < server.MinStalenessBound {
		r.fail(keyStalenessBound, "%v is below %v", bound, server.MinStalenessBound)
	}
	return cfg, bound, errors.Join(r.errs...)
}

// reader reads typed values and collects what is wrong with them.
type reader struct {
	values map[string]value
	errs   []error
	named  []sessioncookie.Naming // what naming returns, once it was asked
}

func (r *reader) text(key string) string { return strings.TrimSpace(r.values[key].text) }

func (r *reader) fail(key, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s (from %s): %w", key, r.values[key].source, fmt.Errorf(format, args...)))
}

func (r *reader) boolean(key string) bool {
	b, err := strconv.ParseBool(r.text(key))
	if err != nil {
		r.fail(key, "%q is not true or false", r.text(key))
	}
	return b
}

func (r *reader) integer(key string, least, most int) int {
	n, err := strconv.Atoi(r.text(key))
	if err != nil || n < least || n > most {
		r.fail(key, "%q is not a whole number from %d to %d", r.text(key), least, most)
	}
	return n
}

func (r *reader) fraction(key string) float64 {
	f, err := strconv.ParseFloat(r.text(key), 64)
	if err != nil || !(f >= 0 && f <= 1) { // NaN is neither
		r.fail(key, "%q is not a number from 0 to 1", r.text(key))
	}
	return f
}

func (r *reader) shadow() shadow.Config {
	cfg := shadow.Config{PerMinute: r.integer(keyShadowRate, 1, 60_000), Sample: r.fraction(keyShadowSample)}
	if base := r.text(keyShadowURL); base != "" {
		cfg.IssuerURL = issuer.BaseOf(base)
		if _, err := issuer.New(cfg.IssuerURL); err != nil {
			r.fail(keyShadowURL, "%w", err)
		}
	}
	return cfg
}

func (r *reader) duration(key string) time.Duration {
	if r.text(key) == "0" {
		return 0
	}
	d, err := time.ParseDuration(r.text(key))
	if err != nil || d < 0 {
		r.fail(key, "%q is not a duration of zero or more, like 30s, 15m or 168h", r.text(key))
	}
	return d
}

func (r *reader) choice(key string, allowed ...string) string {
	v := r.text(key)
	for _, a := range allowed {
		if v == a {
			return v
		}
	}
	r.fail(key, "%q is not one of %s", v, strings.Join(allowed, ", "))
	return ""
}

func (r *reader) list(key string) []string {
	var out []string
	for item := range strings.SplitSeq(r.text(key), ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

func (r *reader) columns(key string) map[string]string {
	out := make(map[string]string)
	for _, pair := range r.list(key) {
		field, column, ok := strings.Cut(pair, "=")
		field, column = strings.TrimSpace(field), strings.TrimSpace(column)
		if !ok || field == "" || column == "" {
			r.fail(key, "%q is not field=column", pair)
			continue
		}
		if _, twice := out[field]; twice {
			r.fail(key, "field %s is mapped twice", field)
		}
		out[field] = column
	}
	return out
}

func (r *reader) log() Log {
	var level slog.Level
	if err := level.UnmarshalText([]byte(r.choice(keyLogLevel, "debug", "info", "warn", "error"))); err != nil && len(r.errs) == 0 {
		r.fail(keyLogLevel, "%w", err)
	}
	return Log{Level: level, JSON: r.choice(keyLogFormat, "text", "json") == "json"}
}

func (r *reader) store(create bool) (cfg server.StoreConfig, embedded bool) {
	cfg = server.StoreConfig{
		Driver:   r.choice(keyStoreDriver, server.DriverSQLite, server.DriverPostgres, server.DriverNone),
		MaxConns: int32(r.integer(keyStoreMaxConns, 0, 10_000)),
		Schema: store.Schema{
			Session:          store.Table{Name: r.text(keySessionTable), Columns: r.columns(keySessionColumns), Hide: r.list(keySessionHide)},
			User:             store.Table{Name: r.text(keyUserTable), Columns: r.columns(keyUserColumns), Hide: r.list(keyUserHide)},
			SoftDeleteColumn: r.text(keySoftDelete),
		},
	}
	var err error
	if cfg.Zone, err = time.LoadLocation(r.text(keyStoreTimeZone)); err != nil {
		r.fail(keyStoreTimeZone, "%w", err)
	}
	if r.values[keyStoreTimeZone].source == sourceDefault {
		cfg.Zone = nil // nobody said so
	}
	cfg.Secondary = r.secondary()
	if cfg.Driver == server.DriverNone {
		r.noStore()
		return cfg, false
	}
	// A database that holds no sessions may be absent: only new ones need their users.
	keysOnly := cfg.Secondary != nil && !cfg.Secondary.InDatabase
	switch cfg.Driver {
	case server.DriverSQLite:
		for _, key := range []string{keyStoreDSN, keyStoreDSNFile} {
			if r.text(key) != "" {
				r.fail(key, "is for %s=postgres; the driver is sqlite", keyStoreDriver)
			}
		}
		cfg.Path = r.text(keyStorePath)
		if cfg.Path == "" && !keysOnly {
			cfg.Path, embedded = filepath.Join(r.text(keyDataDir), "sessions.sqlite"), true
			cfg.Create = create
		}
		if embedded && create {
			if err := os.MkdirAll(r.text(keyDataDir), 0o700); err != nil {
				r.fail(keyDataDir, "%w", err)
			}
		}
	case server.DriverPostgres:
		if r.text(keyStorePath) != "" {
			r.fail(keyStorePath, "is for %s=sqlite; the driver is postgres", keyStoreDriver)
		}
		cfg.DSN = r.secretText(keyStoreDSN, keyStoreDSNFile)
		if cfg.DSN == "" && !keysOnly {
			r.fail(keyStoreDSN, "not set: give the connection string in %s or in a file named by %s", envOf(keyStoreDSN), keyStoreDSNFile)
		}
	}
	return cfg, embedded
}

// secondary returns the issuer's secondary storage, nil where it has none.
func (r *reader) secondary() *server.SecondaryConfig {
	url := strings.TrimSpace(r.secretText(keySecondaryURL, keySecondaryURLFile))
	strict := r.choice(keyDisagreement, server.DisagreementParity, server.DisagreementStrict) == server.DisagreementStrict
	inDatabase, preserve := r.boolean(keyInDatabase), r.boolean(keyPreserve)
	if url == "" {
		for key, set := range map[string]bool{keyInDatabase: inDatabase, keyPreserve: preserve, keyDisagreement: strict} {
			if set {
				r.fail(key, "is about secondary storage, and %s is not set", keySecondaryURL)
			}
		}
		return nil
	}
	if !inDatabase {
		for key, set := range map[string]bool{keyPreserve: preserve, keyDisagreement: strict} {
			if set {
				r.fail(key, "is about the rows beside secondary storage: set %s", keyInDatabase)
			}
		}
	}
	version, err := sessioncookie.ParseVersion(r.text(keyIssuerVersion))
	if err != nil {
		version = 0 // said where the version is read
	}
	return &server.SecondaryConfig{
		URL: url, Prefix: r.text(keySecondaryPrefix), InDatabase: inDatabase, Preserve: preserve,
		Version: version, ExpiresIn: r.duration(keyExpiresIn), Strict: strict,
	}
}

func (r *reader) authority() authority.Config {
	version, err := sessioncookie.ParseVersion(r.text(keyIssuerVersion))
	if err != nil {
		r.fail(keyIssuerVersion, "%w", err)
	}
	naming := r.naming()
	cfg := authority.Config{
		Cookies: sessioncookie.Config{
			Version:                version,
			Bearer:                 r.boolean(keyBearer),
			BearerRequireSignature: r.boolean(keyBearerSignature),
			AllowBareToken:         r.boolean(keyAllowBareTokens),
			MaxBytes:               r.integer(keyMaxCredentialSize, 1024, 1<<20),
			Retired:                r.retired(),
		},
		AcceptRetired: r.boolean(keyAcceptRetired),
		TokenForm: authority.TokenForm(r.choice(keyTokenForm, string(authority.TokenPlain), string(authority.TokenSHA256Hex),
			string(authority.TokenSHA256Base64), string(authority.TokenSHA256Base64URL))),
		Policy: authority.Policy{
			RefuseBanned:  r.boolean(keyRefuseBanned),
			RefuseDeleted: r.text(keySoftDelete) != "",
			MaxLifetime:   r.duration(keyMaxLifetime),
			MaxIdle:       r.duration(keyMaxIdle),
			ExpiresIn:     r.duration(keyExpiresIn),
			UpdateAge:     r.duration(keyUpdateAge),
			NoRefresh:     r.boolean(keyNoRefresh),
		},
		StalenessBound: r.duration(keyStalenessBound),
		MaxBatchSize:   r.integer(keyMaxBatch, 1, 10_000),
	}
	if cfg.Cookies.Names = r.list(keyCookieNames); len(cfg.Cookies.Names) == 0 {
		for _, n := range naming {
			cfg.Cookies.Names = append(cfg.Cookies.Names, n.SessionToken())
		}
	}
	data := r.sessionData(version)
	for _, n := range naming {
		own := data
		own.Name = n.SessionData()
		cfg.Companions = append(cfg.Companions, authority.Companion{Session: n.SessionToken(), DontRemember: n.DontRemember(), SessionData: &own})
	}
	cfg.Stateless = r.stateless(version)
	if cfg.AcceptRetired && len(cfg.Cookies.Retired) == 0 {
		r.fail(keyAcceptRetired, "is set and %s is not: there is no retired secret to accept", keyRetiredFile)
	}
	return cfg
}

// naming returns how the issuer names its cookies; two ways, secure first, where
// nothing says whether it uses secure cookies.
func (r *reader) naming() []sessioncookie.Naming {
	if r.named == nil {
		r.named = r.readNaming()
	}
	return r.named
}

func (r *reader) readNaming() []sessioncookie.Naming {
	n := sessioncookie.Naming{Prefix: r.text(keyCookiePrefix), Custom: r.text(keyCookieName)}
	base := r.text(keyBaseURL)
	if base != "" {
		if u, err := url.Parse(base); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			r.fail(keyBaseURL, "%q is not an http or https URL", base)
		}
	}
	secure, plain := n, n
	secure.Secure = true
	switch r.choice(keySecureCookies, "auto", "true", "false") {
	case "true":
		return []sessioncookie.Naming{secure}
	case "false":
		return []sessioncookie.Naming{plain}
	}
	switch {
	case strings.HasPrefix(base, "https://"):
		return []sessioncookie.Naming{secure}
	case base != "":
		return []sessioncookie.Naming{plain}
	default:
		return []sessioncookie.Naming{secure, plain}
	}
}

// cookies returns how the issuer writes its cookies. Where it is not known whether it
// uses secure ones, they are not: a browser would drop those of a plain site.
func (r *reader) cookies() lifecycle.Cookies {
	naming := r.naming()
	n := naming[len(naming)-1]
	c := lifecycle.Cookies{Session: n.SessionToken(), DontRemember: n.DontRemember(), Domain: r.text(keyCookieDomain), Secure: n.Secure}
	switch r.choice(keyCookieSameSite, "lax", "strict", "none") {
	case "strict":
		c.SameSite = http.SameSiteStrictMode
	case "none":
		c.SameSite = http.SameSiteNoneMode
	default:
		c.SameSite = http.SameSiteLaxMode
	}
	if names := r.list(keyCookieNames); len(names) > 0 {
		c.Session = names[0]
	}
	return c
}

const minSecretBytes = 32

// secret returns the issuer's secret, or in the embedded default the one of the
// data folder, and in that case its file.
func (r *reader) secret(embedded, create bool) (secrets []string, file string) {
	secret := r.secretText(keySecret, keySecretFile)
	if secret == "" && embedded && r.text(keySecret) == "" && r.text(keySecretFile) == "" {
		file = filepath.Join(r.text(keyDataDir), "secret")
		var err error
		if secret, err = embeddedSecret(file, create); err != nil {
			r.fail(keyDataDir, "%w", err)
			return nil, file
		}
	}
	switch {
	case secret == "" && r.values[keySecret].text == "" && r.text(keySecretFile) == "":
		r.fail(keySecret, "not set: give the issuer's BETTER_AUTH_SECRET in %s or in a file named by %s", envOf(keySecret), keySecretFile)
	case secret != "" && len(secret) < minSecretBytes:
		key := keySecret
		if r.text(keySecretFile) != "" {
			key = keySecretFile
		}
		r.fail(key, "the secret is %d bytes, at least %d are wanted: make one with `openssl rand -base64 32` and give the issuer the same", len(secret), minSecretBytes)
	}
	return []string{secret}, file
}

// operatorSecret returns the secret of SessionAdminService's callers, if there is one.
func (r *reader) operatorSecret() string {
	secret := r.secretText(keyOperatorSecret, keyOperatorFile)
	if secret != "" && len(secret) < minSecretBytes {
		r.fail(keyOperatorSecret, "the secret is %d bytes, at least %d are wanted: make one with `openssl rand -base64 32`", len(secret), minSecretBytes)
	}
	return secret
}

// secretText reads a secret from its variable or its file, never both.
func (r *reader) secretText(key, fileKey string) string {
	text, path := r.values[key].text, r.text(fileKey)
	switch {
	case text != "" && path != "":
		r.fail(key, "is set and so is %s: set one", fileKey)
	case path != "":
		content, err := os.ReadFile(path)
		if err != nil {
			r.fail(fileKey, "%w", err)
			return ""
		}
		text = trimLineBreak(string(content))
		if text == "" {
			r.fail(fileKey, "%s is empty", path)
		}
	}
	return text
}

// secretFiles returns the files that hold secrets, the embedded one under data_dir.
func (r *reader) secretFiles(embedded string) map[string]string {
	files := make(map[string]string)
	for _, key := range []string{keySecretFile, keyRetiredFile, keyOperatorFile, keyStoreDSNFile, keyTLSKey} {
		if path := r.text(key); path != "" {
			files[key] = path
		}
	}
	if embedded != "" {
		files[keyDataDir] = embedded
	}
	return files
}

func (r *reader) retired() []string {
	path := r.text(keyRetiredFile)
	if path == "" {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		r.fail(keyRetiredFile, "%w", err)
		return nil
	}
	var out []string
	for line := range strings.Lines(string(content)) {
		if line = trimLineBreak(line); line == "" {
			continue
		}
		if len(line) < minSecretBytes {
			r.fail(keyRetiredFile, "line %d is %d bytes, at least %d are wanted", len(out)+1, len(line), minSecretBytes)
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		r.fail(keyRetiredFile, "%s holds no secret", path)
	}
	return out
}

// embeddedSecret reads the embedded default's secret and, with create, makes it.
func embeddedSecret(path string, create bool) (string, error) {
	content, err := os.ReadFile(path)
	if err == nil {
		return trimLineBreak(string(content)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if !create {
		return "", fmt.Errorf("%s does not exist: run sessiond serve once, or set issuer.secret_file", path)
	}
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	secret := base64.StdEncoding.EncodeToString(raw[:])
	// O_EXCL: two servers starting at once must not end up with two secrets.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	if _, err := f.WriteString(secret + "\n"); err != nil {
		return "", errors.Join(err, f.Close())
	}
	return secret, f.Close()
}

// trimLineBreak drops one line break at the end, which editors add and no
// issuer's environment variable has.
func trimLineBreak(s string) string {
	return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
}

func envOf(key string) string { return Setting{Key: key}.Env() }
