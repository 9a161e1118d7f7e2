// Package clienttest provides an authority for tests: the real client talks gRPC
// to it, in memory.
//
//	authority := clienttest.New(t)
//	cookie := authority.Add(client.Session{User: client.User{ID: "alice"}})
//	guard, err := interceptors.New(authority.Client())
//
// Clients keep sessions in memory as they do with the real authority; when Revoke,
// Fail or Break returns, they have all heard of it, so that a test need not wait.
//
// The fake decides as the real authority does on what it knows; [RunContract]
// holds both to that. It is not for production: its secret is public.
package clienttest
