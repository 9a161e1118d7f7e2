// Package sessioncookie reads and writes the session credentials of Better
// Auth: from a Cookie header, an Authorization header, a cookie value or a bare
// token to a verified session token, and back.
//
// # What it guarantees
//
// A [Reader] accepts what the issuer of the configured [Version] accepts, byte
// for byte: which cookie of a name counts, what is trimmed, how quotes and
// percent escapes are undone, what a signature may look like, and how a bearer
// token and a cookie on the same request get along. The tests hold it to the
// answers recorded from real issuers of every supported version.
//
// It is deliberately stricter in these points only:
//
//   - A header over [Config.MaxBytes] is refused with [ErrTooLarge].
//   - With an issuer up to 1.4, an Authorization value that holds a space or a
//     tab after "Bearer " was taken off is read as another scheme, not as a bare
//     token, and the word "Bearer" alone as no credential. Such an issuer signs
//     "Basic dXNlcjpw" itself and looks it up.
//
// Work is linear in the size of the input. Signatures are compared in constant
// time. No error, and nothing else that this package returns but
// [Reading.Token], holds any part of a token, a signature or a secret.
//
// # What it is not for
//
// A verified token says that the issuer signed it once (or, with
// [Reading.Signed] false, not even that). Whether the session is good, expired
// or signed out is known to the issuer's store alone. This package does not ask.
package sessioncookie
