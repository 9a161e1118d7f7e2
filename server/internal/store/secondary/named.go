package secondary

import (
	"context"

	"github.com/sessiond/sessiond/server/internal/feed"
)

// Tokens finds the token of a session by ids.
type Tokens interface {
	Token(ctx context.Context, user, session string) (token string, found bool, err error)
}

// Named is a feed of both stores that ends by token what is named by id: keys of some
// versions hold no ids, and rows do.
type Named struct {
	feed.Source
	tokens Tokens
}

// NewNamed returns a Named over a feed, which it closes.
func NewNamed(source feed.Source, tokens Tokens) *Named { return &Named{source, tokens} }

// Revoke implements [feed.Source]. What is not found is named as it was: the event is
// written all the same (V1).
func (n *Named) Revoke(ctx context.Context, target feed.Target) (feed.Revoked, error) {
	id := target.Session + target.Except
	if id == "" {
		return n.Source.Revoke(ctx, target)
	}
	token, found, err := n.tokens.Token(ctx, target.User, id)
	switch {
	case err != nil:
		return feed.Revoked{}, err
	case found && target.Session != "":
		target = feed.Target{Token: token}
	case found:
		target.ExceptToken = token
	}
	return n.Source.Revoke(ctx, target)
}
