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

// transaction runs a command and reads the era in one transaction.
func transaction(ctx context.Context, do func(context.Context, ...rueidis.Completed) []rueidis.RedisResult, b rueidis.Builder, command rueidis.Completed) (store.Era, rueidis.RedisMessage, error) {
	results := do(ctx, b.Multi().Build(), b.Info().Section("replication").Build(), command, b.Exec().Build())
	parts, err := results[len(results)-1].ToArray()
	if err == nil && len(parts) != 2 {
		err = fmt.Errorf("redis answered %d parts of 2", len(parts))
	}
	if err != nil {
		for _, r := range results { // the first error is the cause
			if cause := r.Error(); cause != nil {
				err = cause
				break
			}
		}
		if _, refused := rueidis.IsRedisErr(err); refused {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		return "", rueidis.RedisMessage{}, err
	}
	info, err := parts[0].ToString()
	if err != nil {
		return "", rueidis.RedisMessage{}, err
	}
	if err := parts[1].Error(); err != nil && !rueidis.IsRedisNil(err) {
		return "", rueidis.RedisMessage{}, fmt.Errorf("%w: %w", errRefused, err)
	}
	return eraOf(info), parts[1], nil
}
