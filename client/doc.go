// Package client asks a sessiond authority whether a session is good.
//
// A worker needs five lines:
//
//	sessions, err := client.New("dns:///sessiond:8443", client.WithTLS(tlsConfig))
//	if err != nil {
//		return err
//	}
//	defer sessions.Close()
//	session, err := sessions.Validate(ctx, client.FromHeaders(cookie, authorization))
//
// Most workers do not call Validate themselves: package interceptors guards a
// gRPC server or a net/http handler with a Client, and handlers read the session
// with [FromContext].
//
// # Guarantees
//
//   - A refusal and a failure are different things. A refused credential is a
//     [*RefusedError], matched by [ErrNoCredential] or [ErrInvalid]. Whatever
//     keeps the authority from deciding, the worker's own certificate included,
//     is [ErrUnavailable]. The caller's own cancellation or deadline is ctx.Err().
//     No failure is ever a refusal, and no failure ever yields a session.
//
//   - A worker configures no cookie names and no secrets. The client asks the
//     authority once which cookies can carry a session and sends those, never the
//     rest of the Cookie header. It notices when the authority was restarted with
//     another configuration, and asks again before it believes an answer.
//
//   - No credential is ever part of an error, an [Observation] or a log line, and
//     a printed [Credential] is redacted.
//
//   - Every call has a deadline, [DefaultTimeout] at the latest.
//
//   - A session may be answered from memory, in well under a microsecond, while a
//     Watch on the authority shows that nothing has ended it: a sign-out reaches
//     every client within milliseconds, and whatever is cut, paused or slow, no
//     session is accepted longer than the staleness bound after it ended. Refusals
//     are never remembered. [Strict], [MaxAge] and [AtLeast] ask the authority, and
//     [WithoutCache] has all calls ask. Against an authority that offers no Watch
//     they do too, which [Client.Stats] shows.
//
//   - What stays open ends with its session: see [Client.Follow].
//
// # Without this package
//
// Any gRPC client generated from proto/sessiond/v1 will do. Call GetIntake, and
// call it again when an answer's instance is a new one; send the cookies it
// names, in the order in which they came, duplicates included. Then keep two
// things apart: the verdict on the user's session is in the body of the answer,
// and the gRPC status speaks of the worker's own call only. A status other than OK
// means "unknown", never "signed out"; a body without a verdict is a refusal. An
// answer may be used until it is as old as the staleness bound, counted from the
// sending of the question and with its age added; nothing may be kept without a
// Watch.
package client
