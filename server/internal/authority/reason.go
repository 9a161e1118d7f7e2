package authority

// Reason says why a credential was refused. The zero Reason is none: the session
// is good. The values equal those of sessiond.v1.Reason, which a test compares.
type Reason uint8

// The reasons, in the contract's order.
const (
	ReasonNone Reason = iota
	ReasonNoCredential
	ReasonMalformed
	ReasonBadSignature
	ReasonRetiredSecret
	ReasonUnsignedNotAllowed
	ReasonNotFound
	ReasonExpired
	ReasonUserNotFound
	ReasonUserBanned
	ReasonUserDeleted
	ReasonLifetimeCap
	ReasonIdleCap
	ReasonRevoked
	ReasonStoredValueUnreadable
	ReasonSessionDataRejected
	reasonCount
)

var reasonNames = [reasonCount]string{
	"NONE", "NO_CREDENTIAL", "MALFORMED", "BAD_SIGNATURE", "RETIRED_SECRET", "UNSIGNED_NOT_ALLOWED", "NOT_FOUND", "EXPIRED",
	"USER_NOT_FOUND", "USER_BANNED", "USER_DELETED", "LIFETIME_CAP", "IDLE_CAP", "REVOKED", "STORED_VALUE_UNREADABLE",
	"SESSION_DATA_REJECTED",
}

// String returns the reason's name in the contract, without its prefix.
func (r Reason) String() string {
	if r >= reasonCount {
		return "UNKNOWN"
	}
	return reasonNames[r]
}

// Reasons returns every reason there is, ReasonNone excepted.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := ReasonNone + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}
