package client

import "context"

type sessionKey struct{}

// NewContext returns a context that carries a session. Guards call it; tests of
// handlers may.
func NewContext(ctx context.Context, session *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, session)
}

// FromContext returns the session a context carries; false if there is none.
func FromContext(ctx context.Context) (*Session, bool) {
	session, _ := ctx.Value(sessionKey{}).(*Session)
	return session, session != nil
}

// WithoutSession returns a context that carries no session, for work that must
// not act as the user. It returns ctx itself if there is none.
func WithoutSession(ctx context.Context) context.Context {
	if _, ok := FromContext(ctx); !ok {
		return ctx
	}
	return NewContext(ctx, nil)
}
