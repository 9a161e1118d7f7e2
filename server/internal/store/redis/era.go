package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/store"
)

// errRefused means that the server answered and did not do it.
var errRefused = errors.New("refused")

type doMulti = func(context.Context, ...rueidis.Completed) []rueidis.RedisResult

// inEra runs a command and returns the era in which it ran, empty where that cannot be
// told.
func inEra(ctx context.Context, do doMulti, b rueidis.Builder, command rueidis.Completed) (store.Era, rueidis.RedisMessage, error) {
	results, era, eraErr := allInEra(ctx, do, b, command)
	answer, err := results[0].ToMessage()
	switch _, refused := rueidis.IsRedisErr(err); {
	case rueidis.IsRedisNil(err):
		err = nil
	case refused:
		return "", answer, fmt.Errorf("%w: %w", errRefused, err)
	}
	return era, answer, errors.Join(err, eraErr)
}

// allInEra runs commands and reads the era before and after them, on one connection: a
// replication id never comes back, so between two that are the same there was no
// other. It is empty where they differ. There is no MULTI around it: a server whose
// memory is full refuses to queue even what only reads. The driver would repeat what
// only reads until the context ends; what is arbitrary, it does not.
func allInEra(ctx context.Context, do doMulti, b rueidis.Builder, commands ...rueidis.Completed) ([]rueidis.RedisResult, store.Era, error) {
	info := func() rueidis.Completed { return b.Arbitrary("INFO").Args("replication").Build() }
	results := do(ctx, slices.Concat([]rueidis.Completed{info()}, commands, []rueidis.Completed{info()})...)
	last := len(results) - 1
	before, errBefore := results[0].ToString()
	after, errAfter := results[last].ToString()
	if err := errors.Join(errBefore, errAfter); err != nil || eraOf(before) != eraOf(after) {
		return results[1:last], "", err
	}
	return results[1:last], eraOf(after), nil
}
