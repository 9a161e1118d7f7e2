package authority

import (
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// Policy holds the rules of a decision. The zero Policy decides as the issuer
// does; every field but the two of refresh makes it stricter.
type Policy struct {
	// RefuseBanned refuses users whose banned column is set, unless banExpires
	// has passed. The issuer's get-session never looks at it.
	RefuseBanned bool
	// RefuseDeleted refuses users whose configured soft-delete column is set.
	RefuseDeleted bool
	// MaxLifetime is the longest time after createdAt for which a session is
	// good; 0: no cap.
	MaxLifetime time.Duration
	// MaxIdle is the longest time after updatedAt for which a session is good;
	// 0: no cap. Only the issuer's refresh moves updatedAt, at most once in
	// RefreshAfter, so a cap below that refuses sessions in use.
	MaxIdle time.Duration
	// ExpiresIn and UpdateAge are the issuer's session.expiresIn and
	// session.updateAge: a refresh is due when expiresAt - ExpiresIn + UpdateAge <= now.
	ExpiresIn, UpdateAge time.Duration
	// NoRefresh is the issuer's session.disableSessionRefresh.
	NoRefresh bool
}

// Verdict is the outcome of a decision.
type Verdict struct {
	// Reason is why the session is refused; ReasonNone: it is good.
	Reason Reason
	// Remaining is how long the session stays good if nobody touches it, the
	// least over all rules of time. Set only for a good session.
	Remaining time.Duration
	// NeedsRefresh reports whether the issuer's refresh is due. Set only for a good session.
	NeedsRefresh bool
}

// Good reports whether the session is good.
func (v Verdict) Good() bool { return v.Reason == ReasonNone }

// Decide says whether a stored session is good at an instant. It is pure, and it
// is the only place where that is decided: Validate, BatchValidate and Explain
// call it, so they cannot disagree.
//
// Instants are compared in whole milliseconds, as the issuer's Date.now() does,
// and a session whose expiresAt equals now is good (Better Auth,
// packages/better-auth/src/api/routes/session.ts: refused when expiresAt < now).
// The stricter rules have the same boundary: good at the cap, refused after it.
func Decide(r *store.Record, now time.Time, p Policy) Verdict {
	nowMs := now.UnixMilli()
	s := &r.Session
	switch {
	case !r.Found:
		return Verdict{Reason: ReasonNotFound}
	case r.Unreadable != "":
		return Verdict{Reason: ReasonStoredValueUnreadable}
	case r.Revoked:
		return Verdict{Reason: ReasonRevoked}
	case r.User == nil:
		return Verdict{Reason: ReasonUserNotFound}
	case s.ExpiresAt.UnixMilli() < nowMs:
		return Verdict{Reason: ReasonExpired}
	case p.RefuseDeleted && r.User.Deleted:
		return Verdict{Reason: ReasonUserDeleted}
	case p.RefuseBanned && bannedAt(r.User, nowMs):
		return Verdict{Reason: ReasonUserBanned}
	case p.MaxLifetime > 0 && nowMs-s.CreatedAt.UnixMilli() > p.MaxLifetime.Milliseconds():
		return Verdict{Reason: ReasonLifetimeCap}
	case p.MaxIdle > 0 && nowMs-s.UpdatedAt.UnixMilli() > p.MaxIdle.Milliseconds():
		return Verdict{Reason: ReasonIdleCap}
	}

	remaining := s.ExpiresAt.UnixMilli() - nowMs
	if p.MaxLifetime > 0 {
		remaining = min(remaining, s.CreatedAt.UnixMilli()+p.MaxLifetime.Milliseconds()-nowMs)
	}
	if p.MaxIdle > 0 {
		remaining = min(remaining, s.UpdatedAt.UnixMilli()+p.MaxIdle.Milliseconds()-nowMs)
	}
	due := s.ExpiresAt.UnixMilli() - p.ExpiresIn.Milliseconds() + p.UpdateAge.Milliseconds()
	return Verdict{
		Remaining:    milliseconds(remaining),
		NeedsRefresh: !p.NoRefresh && p.ExpiresIn > 0 && due <= nowMs,
	}
}

// bannedAt reports whether the ban holds: the admin plugin lifts a ban at
// sign-in once banExpires < now, and so do we.
func bannedAt(u *store.User, nowMs int64) bool {
	return u.Banned && (u.BanExpires == nil || u.BanExpires.UnixMilli() >= nowMs)
}

// milliseconds converts without overflowing: a session good for more than 292
// years is good for 292 years.
func milliseconds(ms int64) time.Duration {
	const limit = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(max(-limit, min(limit, ms))) * time.Millisecond
}
