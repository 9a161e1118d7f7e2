package interceptors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/sessiond/sessiond/client"
)

// Validator validates credentials as [client.Client] does, with the same errors.
// It must be safe for concurrent use.
type Validator interface {
	Validate(ctx context.Context, credential client.Credential, opts ...client.CallOption) (*client.Session, error)
}

var _ Validator = (*client.Client)(nil)

// Guard holds one policy for the gRPC and net/http servers of a worker. It is
// safe for concurrent use.
type Guard struct {
	validator Validator
	narrower  narrower // nil if the validator is none
	follower  follower // nil if the validator is none
	policy    policy
	patterns  []string
	// credential is nil for the headers.
	credential func(context.Context) (client.Credential, error)
	observer   client.Observer
}

// New returns a Guard. A pattern that is malformed, given twice or contradicted
// is an error that names it.
func New(validator Validator, opts ...Option) (*Guard, error) {
	if validator == nil {
		return nil, errors.New("interceptors: the validator must not be nil")
	}
	s := settings{rules: map[string]*rule{}}
	for _, o := range opts {
		if err := o.apply(&s); err != nil {
			return nil, err
		}
	}
	g := &Guard{
		validator:  validator,
		policy:     newPolicy(s.rules),
		patterns:   slices.Sorted(maps.Keys(s.rules)),
		credential: s.credential,
		observer:   s.observer,
	}
	g.narrower, _ = validator.(narrower)
	g.follower, _ = validator.(follower)
	return g, nil
}

// ServiceInfoProvider is implemented by *grpc.Server.
type ServiceInfoProvider interface {
	GetServiceInfo() map[string]grpc.ServiceInfo
}

// grpcName is a pattern's service: at least two identifiers, since "/a/b" may as
// well be a URL's path.
var grpcName = regexp.MustCompile(`^/([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)/([^/]+)$`)

// Check returns an error if the policy names a gRPC method that a server does not
// serve: a misspelt pattern guards nothing. Call it after the services are
// registered. Patterns whose first segment is not a package and a service
// ("/pkg.Service/...") are taken for URL paths.
func (g *Guard) Check(server ServiceInfoProvider) error {
	services := server.GetServiceInfo()
	var problems []error
	for _, pattern := range g.patterns {
		parts := grpcName.FindStringSubmatch(pattern)
		if parts == nil {
			continue
		}
		service, ok := services[parts[1]]
		if !ok {
			problems = append(problems, fmt.Errorf("interceptors: pattern %q: the server has no service %s", pattern, parts[1]))
			continue
		}
		isMethod := func(m grpc.MethodInfo) bool { return m.Name == parts[2] }
		if parts[2] != "*" && !slices.ContainsFunc(service.Methods, isMethod) {
			problems = append(problems, fmt.Errorf("interceptors: pattern %q: the service has no method %s", pattern, parts[2]))
		}
	}
	return errors.Join(problems...)
}

// The refusals of good sessions.
var (
	errNotFresh     = errors.New("signed in too long ago")
	errRoleRequired = errors.New("role required")
)

// authenticate decides whether a call may go on. It is the only place where that
// is decided, for unary calls, streams and HTTP requests alike. The context it
// returns carries the session, if there is one, and the credential for whoever
// forwards it; a session of another guard does not get through. Where the call
// stays open, the context ends with the session.
func (g *Guard) authenticate(ctx context.Context, method string, need requirement, headers client.Credential, stays bool) (context.Context, error) {
	ctx = client.WithoutSession(ctx)
	if need.access == accessPublic {
		if g.credential != nil {
			headers = client.Credential{}
		}
		return g.withCaller(ctx, headers), nil
	}
	start := time.Now()
	credential, err := headers, error(nil)
	if g.credential != nil {
		credential, err = g.credential(ctx)
	}
	var session *client.Session
	followed := ctx
	switch {
	case err != nil:
	case stays && g.follower != nil:
		session, followed, err = g.follower.Follow(ctx, credential, need.checkRoles, need.calls...)
	default:
		session, err = g.validator.Validate(ctx, credential, need.calls...)
	}
	if err == nil && session == nil {
		err = errors.New("the validator returned neither a session nor an error")
	}
	if err == nil {
		err = need.check(session)
	}
	anonymous := err != nil && need.access == accessOptional && client.OutcomeOf(err) == client.OutcomeRefused
	g.observe(ctx, method, start, err, anonymous)
	switch {
	case anonymous:
		return g.withCaller(ctx, credential), nil
	case err != nil:
		return nil, err
	default:
		return client.NewContext(g.withCaller(followed, credential), session), nil
	}
}

// check holds a good session against what the method demands beyond it.
func (r requirement) check(session *client.Session) error {
	switch {
	case r.fresh > 0 && !session.Fresh(r.fresh):
		return errNotFresh
	default:
		return r.checkRoles(session)
	}
}

// checkRoles is what has to stay true of a session while a stream is open.
func (r requirement) checkRoles(session *client.Session) error {
	if len(r.roles) > 0 && !session.HasRole(r.roles...) {
		return errRoleRequired
	}
	return nil
}

func (g *Guard) observe(ctx context.Context, method string, start time.Time, err error, anonymous bool) {
	if g.observer == nil {
		return
	}
	o := client.Observation{
		Method:        method,
		Outcome:       client.OutcomeOf(err),
		Reason:        client.ReasonOf(err),
		ExplainID:     client.ExplainIDOf(err),
		UnreadCookies: client.UnreadCookiesOf(err),
		Duration:      time.Since(start),
		Err:           err,
	}
	switch {
	case anonymous:
		o.Outcome = client.OutcomeAnonymous
	case errors.Is(err, errNotFresh), errors.Is(err, errRoleRequired):
		o.Outcome, o.Reason = client.OutcomeForbidden, client.Reason(answerTo(err).reason)
	}
	g.observer(ctx, o)
}

func joinCookies(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values, "; ")
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
