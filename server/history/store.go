package history

import (
	"context"
	"fmt"
)

// storage is where sessions are, with the issuer's hands on it.
type storage interface {
	// start starts the servers and installs what the authorities need.
	start(ctx context.Context, r *run) error
	// remove ends the servers and deletes what they kept.
	remove() error
	// addresses are the primaries', one of each server that an authority connects to.
	addresses() []string
	// settings are what an authority that reaches those through links is given.
	settings(links []string, name string) (flags, env []string)

	// signIn makes a user and sessions. Doing it again changes nothing.
	signIn(ctx context.Context, user string, ids, tokens []string) error
	// updateUser and updateSessions write a field of the user and of each session.
	updateUser(ctx context.Context, g *group, version string) error
	updateSessions(ctx context.Context, g *group, version string) error
	// good returns those of the sessions that are held as good, by id.
	good(ctx context.Context, ids, tokens []string) (map[string]row, error)

	// endings are all the ways to end sessions; the first is also the way to end again
	// what was brought back. crowd is rare, and more than are told of one by one.
	endings() []ending
	crowd() ending
	// faults are the store's own.
	faults() []fault
}

func newStorage(name string) (storage, error) {
	switch name {
	case "", "postgres":
		return &postgresStore{issuer: &issuer{}}, nil
	case "redis":
		return &redisStore{}, nil
	case "both", "both-strict":
		return newBothStores(name == "both-strict"), nil
	default:
		return nil, fmt.Errorf("no such store: %q; there are postgres, redis, both and both-strict", name)
	}
}
