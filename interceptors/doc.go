// Package interceptors guards gRPC servers and net/http handlers: a call needs a
// good session unless the policy says otherwise.
//
//	guard, err := interceptors.New(sessions, interceptors.Public("/grpc.health.v1.Health/*"))
//	if err != nil {
//		return err
//	}
//	server := grpc.NewServer(guard.ServerOptions()...) // unary and stream together
//	http.ListenAndServe(address, guard.Handler(mux))   // the same policy for net/http
//
// A handler reads the session with client.FromContext. A stream is authenticated
// when it starts, and ends when its session does: see [Guard.Stream].
//
// # Policy
//
// A pattern is the full name of a gRPC method ("/pkg.Service/Method") or the path
// of a URL ("/healthz"), or either with a last segment "*" ("/pkg.Service/*",
// "/assets/*"), which stands for everything below. What no pattern names needs a
// session. Of several patterns the longest counts, and an exact one before all;
// [RequireFresh], [RequireRole] and [Strict] of wider patterns stay in force below
// them, except under a narrower [Public] or [Optional].
//
// The path of a URL that is not in its canonical form (double slashes, dots,
// encoded slashes) needs a session whatever the policy relaxes, and is held to
// what the policy demands of its canonical form. Patterns are case-sensitive and
// know no HTTP methods: answer CORS preflights, which carry no cookies, outside
// of the guard.
//
// # Answers
//
// A call is refused with the codes and reasons of this table. A reason travels as
// google.rpc.ErrorInfo (domain [ErrorDomain]) in gRPC and as JSON over HTTP. The
// precise reason of a refusal goes to the observer alone, never to the caller.
//
//	no credential                            Unauthenticated   NO_CREDENTIAL           401
//	shape or signature wrong                 Unauthenticated   MALFORMED               401
//	session expired                          Unauthenticated   EXPIRED                 401
//	session revoked                          Unauthenticated   REVOKED                 401
//	refused otherwise                        Unauthenticated   INVALID                 401
//	signed in too long ago for RequireFresh  PermissionDenied  NOT_FRESH               403
//	none of the roles of RequireRole         PermissionDenied  ROLE_REQUIRED           403
//	the authority did not decide             Unavailable       AUTHORITY_UNAVAILABLE   503
//	the caller's deadline passed             DeadlineExceeded                          504
//	the caller went away                     Canceled                                  499
//	anything else                            Internal                                  500
//
// An authority that cannot be reached refuses the calls of [Optional] methods too:
// "anonymous" is also a verdict, and nobody gave it.
//
// # In a chain
//
// [Guard.Unary] and [Guard.Stream] are ordinary interceptors, for a chosen place in
// a chain of github.com/grpc-ecosystem/go-grpc-middleware/v2, say. That module's own
// auth interceptors are not used: they let a service replace the authentication
// by a method (AuthFuncOverride), past the policy.
package interceptors
