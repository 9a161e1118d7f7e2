package secondary_test

import (
	"testing"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/feed/feedtest"
	"github.com/sessiond/sessiond/server/internal/store/redis"
	"github.com/sessiond/sessiond/server/internal/store/secondary"
)

// TestRevokeOthersNotListed: the issuer's lists lose sessions. Where it finds the others
// by their rows, so does a Revoke: none of their keys is left.
func TestRevokeOthersNotListed(t *testing.T) {
	p := newPlace(t)
	lost, _ := p.signIn("ann")
	p.Do("DEL", prefix+"active-sessions-ann")
	stays, session := p.signIn("ann")
	f := secondary.NewNamed(p.openFeed(feed.EndDelete), p.openWriter(redis.Release16, false))
	if _, err := f.Register(t.Context(), feedtest.Bound); err != nil {
		t.Fatal(err)
	}
	if r, err := f.Revoke(t.Context(), feed.Target{User: "ann", Except: session}); err != nil || r.Sessions != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if p.Text(prefix+lost) != "" || p.Text(prefix+stays) == "" {
		t.Errorf("the one that no list names is there: %t; the one that stays: %t", p.Text(prefix+lost) != "", p.Text(prefix+stays) != "")
	}
}
