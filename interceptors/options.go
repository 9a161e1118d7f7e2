package interceptors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/client"
)

// Option configures a Guard.
type Option interface{ apply(*settings) error }

type option func(*settings) error

func (o option) apply(s *settings) error { return o(s) }

type settings struct {
	rules      map[string]*rule
	credential func(context.Context) (client.Credential, error)
	observer   client.Observer
}

// Public names methods that need no session. Their credentials are not looked at,
// and their handlers get no session.
func Public(patterns ...string) Option { return accessOption("Public", accessPublic, patterns) }

// Optional names methods that go on without a session if none is presented or
// the presented one is not good.
func Optional(patterns ...string) Option { return accessOption("Optional", accessOptional, patterns) }

func accessOption(name string, to access, patterns []string) Option {
	return option(func(s *settings) error {
		for _, pattern := range patterns {
			err := change(s.rules, name, pattern, func(r *rule) error {
				switch {
				case r.hasAccess && r.access == to:
					return errTwice
				case r.hasAccess:
					return errContradiction
				}
				r.access, r.hasAccess = to, true
				return r.conflict()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// RequireFresh demands that the user signed in less than limit ago.
func RequireFresh(pattern string, limit time.Duration) Option {
	return option(func(s *settings) error {
		return change(s.rules, "RequireFresh", pattern, func(r *rule) error {
			switch {
			case limit <= 0:
				return fmt.Errorf("the limit %v must be positive", limit)
			case r.fresh > 0:
				return errTwice
			}
			r.fresh = limit
			return r.conflict()
		})
	})
}

// RequireRole demands that the user has at least one of the roles.
func RequireRole(pattern string, roles ...string) Option {
	return option(func(s *settings) error {
		return change(s.rules, "RequireRole", pattern, func(r *rule) error {
			if len(roles) == 0 {
				return errors.New("name at least one role")
			}
			for _, role := range roles {
				if role == "" {
					return errors.New("a role must not be empty")
				}
			}
			if len(r.roles) > 0 {
				return errTwice
			}
			r.roles = append([]string(nil), roles...)
			return r.conflict()
		})
	})
}

// Strict has the authority read the store for every call of these methods.
func Strict(patterns ...string) Option {
	return option(func(s *settings) error {
		for _, pattern := range patterns {
			err := change(s.rules, "Strict", pattern, func(r *rule) error {
				if r.strict {
					return errTwice
				}
				r.strict = true
				return r.conflict()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// WithCredential takes the credential from elsewhere than the cookie and
// authorization headers. The function must be safe for concurrent use; for
// net/http it gets the request's context. Its error refuses the call as Internal
// unless it wraps a sentinel of package client or a context's error.
func WithCredential(from func(context.Context) (client.Credential, error)) Option {
	return option(func(s *settings) error {
		if from == nil {
			return errors.New("interceptors: WithCredential: the function must not be nil")
		}
		s.credential = from
		return nil
	})
}

// WithObserver has an Observer told of every call but those of public methods.
func WithObserver(observer client.Observer) Option {
	return option(func(s *settings) error {
		s.observer = observer
		return nil
	})
}
