package history

import (
	"context"
	"math/rand/v2"
	"time"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/sessioncookie"
)

// ending is a way to end sessions.
type ending struct {
	name string
	// size is how many sessions the user has; weight is how often this way is taken.
	size, weight int
	// waits: when it is acknowledged everybody knows. Otherwise everybody does the
	// staleness bound later.
	waits bool
	// brink: it is held back until just before a crash of the store, if one comes soon.
	brink bool
	// before is how many commits of their own each end the session before the last one.
	before int
	// targets are the sessions of a group that it ends.
	targets func(*group) []*session
	// do is one attempt. To do it again changes nothing.
	do func(context.Context, *run, *group, []*session) error
}

func all(g *group) []*session        { return g.sessions }
func first(g *group) []*session      { return g.sessions[:1] }
func allButLast(g *group) []*session { return g.sessions[:len(g.sessions)-1] }
func none(*group) []*session         { return nil }

// late is how long a commit may be late.
func (r *run) late() time.Duration { return rand.N(r.Bound) }

// revocations are sessiond's ways, the same over every store. before is the issuer's
// plain way, after which a revocation finds nothing.
func revocations(before func(context.Context, *run, []*session) error) []ending {
	return []ending{
		{
			name: "revoke by credential", size: 2, weight: 6, waits: true, targets: first,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				cookie := cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign(targets[0].token, r.secret))
				return r.revoke(ctx, &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Credential{
					Credential: &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{Cookie: []byte(cookie)}}},
				}})
			},
		},
		{
			name: "revoke by ids", size: 2, weight: 6, waits: true, targets: first,
			do: func(ctx context.Context, r *run, g *group, targets []*session) error {
				return r.revoke(ctx, &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Ref{
					Ref: &sessiondv1.SessionRef{UserId: g.user, SessionId: targets[0].id},
				}})
			},
		},
		{
			name: "revoke after the issuer", before: 1, size: 1, weight: 3, waits: true, targets: all,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				// The session is gone when the authority looks for it; caches may not know.
				if err := before(ctx, r, targets); err != nil {
					return err
				}
				cookie := cookieName + "=" + sessioncookie.Encode(sessioncookie.Sign(targets[0].token, r.secret))
				return r.revoke(ctx, &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Credential{
					Credential: &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{Cookie: []byte(cookie)}}},
				}})
			},
		},
		{
			name: "revoke user", size: 3, weight: 3, waits: true, targets: all,
			do: func(ctx context.Context, r *run, g *group, _ []*session) error {
				return r.revokeUser(ctx, &sessiondv1.RevokeUserSessionsRequest{UserId: g.user})
			},
		},
		{
			name: "revoke user but one", size: 3, weight: 3, waits: true, targets: allButLast,
			do: func(ctx context.Context, r *run, g *group, targets []*session) error {
				return r.revokeUser(ctx, &sessiondv1.RevokeUserSessionsRequest{UserId: g.user, ExceptSessionId: g.sessions[len(g.sessions)-1].id})
			},
		},
		{
			name: "lives on", size: 2, weight: 2, targets: none,
			do: func(context.Context, *run, *group, []*session) error { return nil },
		},
	}
}

// someEnding chooses by weight.
func someEnding(endings []ending) ending {
	total := 0
	for _, e := range endings {
		total += e.weight
	}
	n := rand.IntN(total)
	for _, e := range endings {
		if n -= e.weight; n < 0 {
			return e
		}
	}
	return endings[0]
}

func idsOf(sessions []*session) []string {
	out := make([]string, len(sessions))
	for i, s := range sessions {
		out[i] = s.id
	}
	return out
}

// revoke asks an authority, any, to end a session.
func (r *run) revoke(ctx context.Context, request *sessiondv1.RevokeSessionRequest) error {
	ctx, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	_, err := r.authorities[rand.IntN(len(r.authorities))].admin.RevokeSession(ctx, request)
	return err
}

func (r *run) revokeUser(ctx context.Context, request *sessiondv1.RevokeUserSessionsRequest) error {
	ctx, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	_, err := r.authorities[rand.IntN(len(r.authorities))].admin.RevokeUserSessions(ctx, request)
	return err
}

// patience is how long one Revoke is waited for: it promises the bound and a
// percent, and the store may be slow.
func (r *run) patience() time.Duration { return r.Bound + r.Bound/4 + 2*time.Second }
