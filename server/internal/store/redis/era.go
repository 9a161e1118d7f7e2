package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/store"
)

// errRefused means that the server answered and did not do it.
var errRefused = errors.New("refused")

// inEra runs a command and reads the era before and after it, on one connection: a
// replication id never comes back, so between two that are the same there was no
// other. It is empty where they differ. There is no MULTI around it: a server whose
// memory is full refuses to queue even what only reads. The driver would repeat what
// only reads until the context ends; what is arbitrary, it does not.
func inEra(ctx context.Context, do func(context.Context, ...rueidis.Completed) []rueidis.RedisResult, b rueidis.Builder, command rueidis.Completed) (store.Era, rueidis.RedisMessage, error) {
	info := func() rueidis.Completed { return b.Arbitrary("INFO").Args("replication").Build() }
	results := do(ctx, info(), command, info())
	answer, err := results[1].ToMessage()
	if _, refused := rueidis.IsRedisErr(err); refused && !rueidis.IsRedisNil(err) {
		return "", answer, fmt.Errorf("%w: %w", errRefused, err)
	}
	before, errBefore := results[0].ToString()
	after, errAfter := results[2].ToString()
	if rueidis.IsRedisNil(err) {
		err = nil
	}
	if err := errors.Join(err, errBefore, errAfter); err != nil {
		return "", answer, err
	}
	if eraOf(before) != eraOf(after) {
		return "", answer, nil
	}
	return eraOf(after), answer, nil
}
