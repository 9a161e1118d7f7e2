package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/lifecycle"
	"github.com/sessiond/sessiond/server/internal/shadow"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/sessioncookie"
)

// Config is everything a server needs to know.
type Config struct {
	// Listen is the gRPC listener's address, host:port; port 0 takes a free one.
	Listen string
	// Insecure allows plaintext on an address that is not loopback.
	Insecure bool
	// TLS holds the listener's files; empty: plaintext.
	TLS TLSFiles
	// AdminListen is the address of the operator's HTTP listener (metrics,
	// liveness, readiness); empty: none.
	AdminListen string
	// Store says where sessions are.
	Store StoreConfig
	// Authority holds the rules.
	Authority authority.Config
	// Feed says how changes made by others are learnt of.
	Feed FeedConfig
	// Shadow says which verdicts are held against the issuer's.
	Shadow shadow.Config
	// CacheBytes bounds the memory of cached records; 0: nothing is cached.
	CacheBytes int64
	// Cookies says how the issuer writes its cookies, for sessions made here.
	Cookies lifecycle.Cookies
	// OperatorSecret lets callers of SessionAdminService in; empty: only those on
	// this machine. Never log it.
	OperatorSecret string
	// Now is the wall clock that sessions' times are held against; nil: this machine's.
	// For tests that move it: nothing of the coherence protocol goes by it.
	Now func() time.Time
	// Through, where set, is put between the store and its readers, for tests that
	// break it.
	Through func(store.Store) store.Store
	// DrainTimeout is how long calls under way may take when the server stops.
	DrainTimeout time.Duration
}

// TLSFiles names PEM files.
type TLSFiles struct {
	// Cert and Key are the server's certificate chain and private key.
	Cert, Key string
	// ClientCA, if set, makes the server ask for client certificates and accept
	// only those of these authorities.
	ClientCA string
}

// MinStalenessBound is the least staleness bound: a beat and a renewal come every
// fifth of it.
const MinStalenessBound = 500 * time.Millisecond

// Drivers of the store.
const (
	DriverSQLite   = "sqlite"
	DriverPostgres = "postgres"
	// DriverNone is for an issuer that has no session store.
	DriverNone = "none"
)

// StoreConfig says where sessions are.
type StoreConfig struct {
	// Driver is DriverSQLite, DriverPostgres or DriverNone.
	Driver string
	// Path is the SQLite file; Create makes it, with Better Auth's schema, if absent.
	Path   string
	Create bool
	// DSN is the Postgres connection string. It may hold a password: never log it.
	DSN string
	// Zone is the time zone of Postgres columns of type "timestamp without time
	// zone"; nil: UTC.
	Zone *time.Location
	// MaxConns is the most connections of the Postgres pool; 0: the driver's default.
	MaxConns int32
	// Schema overrides what discovery finds.
	Schema store.Schema
	// Secondary is the issuer's secondary storage; nil: it has none. Without
	// Secondary.InDatabase the sessions are there alone, and no database is opened.
	Secondary *SecondaryConfig
}

// What counts where secondary storage and rows disagree.
const (
	// DisagreementParity decides as the issuer.
	DisagreementParity = "parity"
	// DisagreementStrict accepts only what the issuer and the row both accept.
	DisagreementStrict = "strict"
)

// SecondaryConfig says how the issuer uses its secondary storage.
type SecondaryConfig struct {
	// URL is the Redis or Valkey. It may hold a password: never log it.
	URL string
	// Prefix is in front of the issuer's keys.
	Prefix string
	// InDatabase and Preserve are the issuer's session.storeSessionInDatabase and
	// session.preserveSessionInDatabase.
	InDatabase, Preserve bool
	// Version is the issuer's.
	Version sessioncookie.Version
	// ExpiresIn is the issuer's session.expiresIn.
	ExpiresIn time.Duration
	// Strict accepts only what the row accepts too.
	Strict bool
}

// Modes of the change feed.
const (
	// FeedAuto uses the feed where it is installed.
	FeedAuto = "auto"
	// FeedRequired refuses to start where it is not.
	FeedRequired = "required"
	// FeedOff does without.
	FeedOff = "off"
)

// FeedConfig says how changes made by others are learnt of.
type FeedConfig struct {
	// Mode is FeedAuto, FeedRequired or FeedOff; empty: FeedAuto.
	Mode string
	// PollInterval is the time between two polls; 0: the default.
	PollInterval time.Duration
}

// validate refuses what would be unsafe or could not work.
func (c Config) validate() error {
	var errs []error
	loopback, err := isLoopback(c.Listen)
	if err != nil {
		errs = append(errs, fmt.Errorf("listen: %w", err))
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		errs = append(errs, errors.New("tls.cert_file and tls.key_file belong together: set both or neither"))
	}
	if c.TLS.ClientCA != "" && c.TLS.Cert == "" {
		errs = append(errs, errors.New("tls.client_ca_file is set without tls.cert_file: client certificates are asked for over TLS only"))
	}
	if err == nil && !loopback && c.TLS.Cert == "" && !c.Insecure {
		errs = append(errs, fmt.Errorf("listen: %s is not loopback and would be plaintext: set tls.cert_file and tls.key_file, or insecure if something else encrypts", c.Listen))
	}
	if c.AdminListen != "" {
		if loopback, err := isLoopback(c.AdminListen); err != nil {
			errs = append(errs, fmt.Errorf("admin.listen: %w", err))
		} else if !loopback && !c.Insecure {
			errs = append(errs, fmt.Errorf("admin.listen: %s is not loopback and is plaintext: use a loopback address, or set insecure", c.AdminListen))
		}
	}
	if u, err := url.Parse(c.Shadow.IssuerURL); err == nil && u.Scheme == "http" && !c.Insecure {
		if loopback, err := isLoopback(net.JoinHostPort(u.Hostname(), "0")); err != nil || !loopback {
			errs = append(errs, fmt.Errorf("shadow.issuer_url: %s is not loopback, and cookies would go there in plaintext: use https, or set insecure if something else encrypts", u.Host))
		}
	}
	switch c.Feed.Mode {
	case "", FeedAuto, FeedRequired, FeedOff:
	default:
		errs = append(errs, fmt.Errorf("feed.mode: %q: use %s, %s or %s", c.Feed.Mode, FeedAuto, FeedRequired, FeedOff))
	}
	if c.Authority.StalenessBound < MinStalenessBound {
		errs = append(errs, fmt.Errorf("staleness_bound: %v is below %v, which beats and renewals need", c.Authority.StalenessBound, MinStalenessBound))
	}
	if (c.Store.Driver == DriverNone) != (c.Authority.Stateless != nil) {
		errs = append(errs, fmt.Errorf("store.driver: %s is for a stateless issuer, and only for one: configure both", DriverNone))
	}
	if c.Store.Driver == DriverNone && (c.Feed.Mode == FeedRequired || c.Shadow.IssuerURL != "") {
		errs = append(errs, fmt.Errorf("store.driver: with %s there is no change feed, and no issuer that could be asked: unset feed.mode and shadow.issuer_url", DriverNone))
	}
	if c.Authority.Policy.RefuseDeleted && c.Store.Schema.SoftDeleteColumn == "" {
		errs = append(errs, errors.New("policy: deleted users can be refused only with policy.soft_delete_column set"))
	}
	return errors.Join(errs...)
}

func isLoopback(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("%q is not host:port", address)
	}
	if host == "localhost" {
		return true, nil
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback(), nil
}
