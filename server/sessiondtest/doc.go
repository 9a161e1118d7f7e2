// Package sessiondtest runs a real authority inside a worker's own tests: over an
// embedded SQLite file with Better Auth's schema, on a loopback port, in a few
// milliseconds. The test makes users, signs them in, ends and expires their sessions,
// moves time and breaks the store; the worker's guard and client are the real ones.
//
//	func TestDelete(t *testing.T) {
//		a := sessiondtest.Start(t)
//		guard, _ := interceptors.New(a.Client(t))
//		ann := a.User(t, sessiondtest.User{Role: "admin"})
//		session := a.SignIn(t, ann)
//		ctx := session.Outgoing(t.Context()) // calls carry the session's cookie
//		…
//		a.SignOut(t, session) // every client knows when it returns
//	}
//
// Each method that changes something returns when every connected client knows of it,
// so that no test sleeps. What a test changes by itself, below the issuer, it waits for
// with [Authority.Await].
//
// Time moves by [Authority.Advance]: an offset of the clock that sessions' times are
// held against. Caches, leases and deadlines of calls go by the real one.
//
// For tests of a client's own errors and retries, without an authority that decides,
// there is client/clienttest.
package sessiondtest
