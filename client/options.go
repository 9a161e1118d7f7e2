package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// DefaultTimeout is the longest time a call waits for the authority unless
	// [WithTimeout] says otherwise.
	DefaultTimeout = 2 * time.Second
	// KeepaliveTime is how long a silent connection is left alone before it is
	// probed, with or without calls on it. A server in between must allow it:
	// grpc-go's keepalive.EnforcementPolicy with PermitWithoutStream and a
	// MinTime below this.
	KeepaliveTime = 30 * time.Second

	keepaliveTimeout = 5 * time.Second
)

// serviceConfig keeps all calls on one connection, to an authority chosen at
// random, and repeats what found no authority. The methods only read, so that is
// safe; a deadline that passed is not repeated.
const serviceConfig = `{
	"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}],
	"methodConfig": [{
		"name": [
			{"service": "sessiond.v1.SessionService", "method": "GetIntake"},
			{"service": "sessiond.v1.SessionService", "method": "Validate"},
			{"service": "sessiond.v1.SessionService", "method": "BatchValidate"}
		],
		"waitForReady": false,
		"retryPolicy": {
			"maxAttempts": 3,
			"initialBackoff": "0.02s",
			"maxBackoff": "0.2s",
			"backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}]
}`

// Option configures a Client.
type Option interface{ apply(*settings) }

type option func(*settings)

func (o option) apply(s *settings) { o(s) }

type settings struct {
	tls         *tls.Config
	useTLS      bool
	insecure    bool
	dialOptions []grpc.DialOption
	observer    Observer
	timeout     time.Duration
	name        string
	uncached    bool
	cacheBytes  int64
	bound       time.Duration
}

// WithTLS connects with TLS. A nil Config means the system's roots and the
// target's host name.
func WithTLS(config *tls.Config) Option {
	return option(func(s *settings) { s.tls, s.useTLS = config, true })
}

// WithInsecure connects in plaintext to wherever the target points. Credentials
// then cross the network readable. Loopback addresses and unix sockets need no
// such permission.
func WithInsecure() Option {
	return option(func(s *settings) { s.insecure = true })
}

// WithDialOptions adds gRPC dial options, after the package's own.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return option(func(s *settings) { s.dialOptions = append(s.dialOptions, opts...) })
}

// WithObserver has an Observer told of every validation.
func WithObserver(observer Observer) Option {
	return option(func(s *settings) { s.observer = observer })
}

// WithTimeout sets the longest time a call waits for the authority; the caller's
// own deadline counts if it is earlier. The default is [DefaultTimeout].
func WithTimeout(timeout time.Duration) Option {
	return option(func(s *settings) { s.timeout = timeout })
}

// WithName names this client in the authority's view of its watchers, such as
// "content-api". The default is the program's name.
func WithName(name string) Option {
	return option(func(s *settings) { s.name = name })
}

// WithoutCache has every call ask the authority.
func WithoutCache() Option {
	return option(func(s *settings) { s.uncached = true })
}

// DefaultCacheSize is the memory of cached sessions unless [WithCacheSize] says otherwise.
const DefaultCacheSize = 64 << 20

// WithCacheSize sets the most bytes of memory of cached sessions. About a kilobyte
// is needed for each.
func WithCacheSize(bytes int64) Option {
	return option(func(s *settings) { s.cacheBytes = bytes })
}

// WithStalenessBound lowers the staleness bound for this client. The authority's
// bound counts where it is lower.
func WithStalenessBound(bound time.Duration) Option {
	return option(func(s *settings) { s.bound = bound })
}

// CallOption changes one call.
type CallOption interface{ applyCall(*callSettings) }

type callOption func(*callSettings)

func (o callOption) applyCall(s *callSettings) { o(s) }

type callSettings struct {
	limited bool
	maxAge  time.Duration
	atLeast string
}

// goesThrough reports whether the authority has to be asked, whatever memory holds.
func (s callSettings) goesThrough() bool { return s.limited || s.atLeast != "" }

// strict reports whether the store is read for the call.
func (s callSettings) strict() bool { return s.limited && s.maxAge == 0 }

// limit lowers how old the knowledge behind the answer may be.
func (s *callSettings) limit(age time.Duration) {
	if !s.limited || age < s.maxAge {
		s.limited, s.maxAge = true, age
	}
}

func (s callSettings) maxAgeProto() *durationpb.Duration {
	if !s.limited {
		return nil
	}
	return durationpb.New(s.maxAge)
}

// Strict has the authority read the store for this call.
func Strict() CallOption { return MaxAge(0) }

// MaxAge bounds how old the knowledge behind the answer may be when the call
// arrives at the authority. It may only lower the authority's own bound. Zero,
// and anything below, is [Strict].
func MaxAge(age time.Duration) CallOption {
	return callOption(func(s *callSettings) { s.limited, s.maxAge = true, max(age, 0) })
}

// AtLeast has the call judged by everything that was committed up to a revision:
// one that [Client.Revision] or a revocation returned. So a test can sign out and
// expect a refusal at once.
func AtLeast(revision string) CallOption {
	return callOption(func(s *callSettings) { s.atLeast = revision })
}

func callSettingsOf(opts []CallOption) callSettings {
	if len(opts) == 0 {
		return callSettings{} // what follows allocates
	}
	var s callSettings
	for _, o := range opts {
		o.applyCall(&s)
	}
	return s
}

// dialOptionsFor returns the dial options for a target.
func (s *settings) dialOptionsFor(target string) ([]grpc.DialOption, error) {
	transport, err := s.transport(target)
	if err != nil {
		return nil, err
	}
	reconnect := backoff.DefaultConfig
	// An authority that was restarted is to be found again within a second.
	reconnect.BaseDelay, reconnect.MaxDelay = 50*time.Millisecond, time.Second
	own := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// A service config published in DNS could spread the calls.
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: KeepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
	}
	return append(own, s.dialOptions...), nil
}

func (s *settings) transport(target string) (credentials.TransportCredentials, error) {
	switch {
	case s.useTLS && s.insecure:
		return nil, errors.New("client: WithTLS and WithInsecure exclude each other: give one")
	case s.useTLS:
		return credentials.NewTLS(s.tls), nil
	case s.insecure || isLocal(target):
		return insecure.NewCredentials(), nil
	default:
		return nil, fmt.Errorf("client: target %q is not a loopback address: give WithTLS, or WithInsecure to send credentials in plaintext", target)
	}
}

// isLocal reports whether a gRPC target stays on this machine for certain. The
// forms are those of grpc-go's built-in resolvers.
func isLocal(target string) bool {
	scheme, endpoint := "dns", target
	for _, known := range []string{"dns", "passthrough", "unix", "unix-abstract"} {
		if rest, ok := strings.CutPrefix(target, known+":"); ok {
			scheme, endpoint = known, rest
			break
		}
	}
	if strings.HasPrefix(scheme, "unix") {
		return true
	}
	// Of "//authority/endpoint" the authority must be empty: a name server that
	// somebody chose may call anything localhost.
	if rest, ok := strings.CutPrefix(endpoint, "//"); ok {
		if endpoint, ok = strings.CutPrefix(rest, "/"); !ok {
			return false
		}
	}
	host := endpoint
	if address, err := netip.ParseAddrPort(endpoint); err == nil {
		return address.Addr().Unmap().IsLoopback()
	}
	if i := strings.LastIndexByte(endpoint, ':'); i >= 0 && strings.Count(endpoint, ":") == 1 {
		host = endpoint[:i]
	}
	if address, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return address.Unmap().IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
