// Package differential is tests only: generated headers, decided by real Better Auth
// and by the authority that serve would run over the same stores. The patches in bugs
// are what it has to notice.
package differential
