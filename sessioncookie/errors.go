package sessioncookie

import (
	"errors"
	"fmt"
)

// The reasons a [Reading] holds no token. They are the very values found in
// [Reading.Err], so == works as well as errors.Is, except that [ErrTooLarge]
// also is an [ErrMalformed] to errors.Is.
var (
	// ErrNoCredential: no cookie of a configured name with a value, and no
	// Authorization that the issuer would read.
	ErrNoCredential = errors.New("sessioncookie: no session credential")

	// ErrMalformed: there is a credential, but it has not the shape of a signed
	// token, or the header could not have passed the issuer's HTTP parser.
	ErrMalformed = errors.New("sessioncookie: session credential is malformed")

	// ErrTooLarge: the headers exceed [Config.MaxBytes]. It wraps ErrMalformed.
	ErrTooLarge = fmt.Errorf("%w: over the configured size limit", ErrMalformed)

	// ErrBadSignature: the shape is right, and no configured secret made the
	// signature.
	ErrBadSignature = errors.New("sessioncookie: session credential is not signed by a configured secret")

	// ErrRetiredSecret: the signature is right, but by one of [Config.Retired].
	ErrRetiredSecret = errors.New("sessioncookie: session credential is signed by a retired secret")

	// ErrUnsigned: a bare token where only signed ones are allowed.
	ErrUnsigned = errors.New("sessioncookie: unsigned session token is not allowed")
)
