package client

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// Session is a good session, as the store held it when the authority looked. It
// holds no token. Sessions are shared between callers: nobody may change one.
//
// Instants are on the issuer's clock, to the millisecond, and must not be
// compared with this machine's; [Session.Fresh] does without.
type Session struct {
	// ID is the record's id; "" where the issuer stores none.
	ID string
	// UserID is the user the session speaks for: User.ID.
	UserID string
	// CreatedAt is when the user signed in.
	CreatedAt time.Time
	// UpdatedAt is when the issuer last refreshed the session.
	UpdatedAt time.Time
	// ExpiresAt is the last instant at which the session is good.
	ExpiresAt time.Time
	// IPAddress is the address the issuer saw at sign-in; "" if it wrote none.
	IPAddress string
	// UserAgent is the User-Agent the issuer saw at sign-in; "" if it wrote none.
	UserAgent string
	// ActiveOrganizationID is the organisation the user is acting in; "" for none.
	ActiveOrganizationID string
	// ImpersonatedBy is the administrator acting as this user; "" for nobody.
	ImpersonatedBy string
	// User is the user.
	User User
	// Attributes are the additional columns of the session table, by field name.
	Attributes map[string]Attribute
	// NeedsRefresh reports that the issuer would extend the session now. The
	// authority does not: call the issuer's get-session to have it done.
	NeedsRefresh bool

	// age is how long before the call arrived the user signed in, counted by the
	// authority; sentAt is when the call was sent, on this machine's monotonic clock.
	age    time.Duration
	sentAt time.Time
}

// User is the user a session belongs to.
type User struct {
	// ID is the record's id.
	ID string
	// Name is the display name.
	Name string
	// Email is the e-mail address.
	Email string
	// EmailVerified reports whether the issuer has verified the address.
	EmailVerified bool
	// Image is the picture's URL; "" for none.
	Image string
	// CreatedAt is when the user signed up.
	CreatedAt time.Time
	// UpdatedAt is when the user last changed.
	UpdatedAt time.Time
	// Role is the role as stored, several separated by commas; "" for none. See [Session.HasRole].
	Role string
	// Attributes are the additional columns of the user table, by field name.
	Attributes map[string]Attribute
}

// Fresh reports whether the user signed in less than d ago. At d exactly it is
// false, as with the issuer's freshAge (Better Auth, routes/session.ts), and so
// it is for d = 0.
//
// The age is the one the authority counted, plus the time that has passed here
// since the question was sent: no two clocks are compared. A Session made by hand
// counts from CreatedAt.
func (s *Session) Fresh(d time.Duration) bool {
	if s.sentAt.IsZero() {
		return time.Since(s.CreatedAt) < d
	}
	return s.age+time.Since(s.sentAt) < d
}

// HasRole reports whether the user has at least one of the roles. Roles are
// compared exactly, between the commas, as the issuer's admin plugin does.
func (s *Session) HasRole(roles ...string) bool {
	for role := range strings.SplitSeq(s.User.Role, ",") {
		if role != "" && slices.Contains(roles, role) {
			return true
		}
	}
	return false
}

func sessionFromProto(in *sessiondv1.Session, needsRefresh bool, sentAt time.Time) *Session {
	user, userID := in.GetUser(), in.GetUserId()
	if user.GetId() == userID {
		userID = user.GetId() // kept once
	}
	return &Session{
		ID:                   in.GetId(),
		UserID:               userID,
		CreatedAt:            timeFromProto(in.GetCreatedAt()),
		UpdatedAt:            timeFromProto(in.GetUpdatedAt()),
		ExpiresAt:            timeFromProto(in.GetExpiresAt()),
		IPAddress:            in.GetIpAddress(),
		UserAgent:            in.GetUserAgent(),
		ActiveOrganizationID: in.GetActiveOrganizationId(),
		ImpersonatedBy:       in.GetImpersonatedBy(),
		User: User{
			ID:            user.GetId(),
			Name:          user.GetName(),
			Email:         user.GetEmail(),
			EmailVerified: user.GetEmailVerified(),
			Image:         user.GetImage(),
			CreatedAt:     timeFromProto(user.GetCreatedAt()),
			UpdatedAt:     timeFromProto(user.GetUpdatedAt()),
			Role:          user.GetRole(),
			Attributes:    attributesFromProto(user.GetAttributes()),
		},
		Attributes:   attributesFromProto(in.GetAttributes()),
		NeedsRefresh: needsRefresh,
		age:          ageFromProto(in.GetAge()),
		sentAt:       sentAt,
	}
}

// ageFromProto has a session whose age was not sent never be fresh.
func ageFromProto(age *durationpb.Duration) time.Duration {
	if age == nil {
		return unknownAge
	}
	return age.AsDuration()
}

const unknownAge = 200 * 365 * 24 * time.Hour

// timeFromProto returns the zero Time for an instant that was not sent.
func timeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
