package secondary

import (
	"context"
	"math"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Tokens finds the tokens of sessions by ids, as [store.Writer] does.
type Tokens interface {
	Token(ctx context.Context, user, session string) (token string, found bool, err error)
	Sessions(ctx context.Context, user string, limit int, after store.Cursor) ([]store.NamedSession, error)
}

// Named is a feed of both stores that ends by token what is named by id: keys of some
// versions hold no ids, and rows do. What ends but for one session it finds as the issuer
// lists them: where that is by rows, the list of the keys may have lost some.
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
	if target.Except != "" {
		others, err := n.tokens.Sessions(ctx, target.User, math.MaxInt32, store.Cursor{})
		if err != nil {
			return feed.Revoked{}, err
		}
		for _, o := range others {
			target.Also = append(target.Also, o.Token)
		}
	}
	return n.Source.Revoke(ctx, target)
}
