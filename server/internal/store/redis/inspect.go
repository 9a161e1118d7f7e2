package redis

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
)

// keysOf are the feed's own keys.
func keysOf(c Config) []string {
	base := feedPrefix + c.Prefix + "}"
	return []string{base, base + ":events"}
}

// RemoveCommands are what Remove runs.
func RemoveCommands(c Config) []string {
	return []string{"DEL \"" + strings.Join(keysOf(c), "\" \"") + "\""}
}

// Remove removes the feed. Replicas that run make a new one, with their own bound.
func Remove(ctx context.Context, c Config) error {
	client, location, err := connect(c.URL)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Do(ctx, client.B().Del().Key(keysOf(c)...).Build()).Error(); err != nil {
		return unavailable(location, err)
	}
	return nil
}

// Inspect says what is there and what is wrong with it.
func Inspect(ctx context.Context, c Config) (*feed.Report, error) {
	client, location, err := connect(c.URL)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	keys := keysOf(c)
	fields, err := client.Do(ctx, client.B().Hgetall().Key(keys[0]).Build()).AsStrMap()
	if err != nil {
		return nil, unavailable(location, err)
	}
	report := &feed.Report{Location: "redis " + location, Coverage: "full", Version: 1}
	if report.Events, err = client.Do(ctx, client.B().Zcard().Key(keys[1]).Build()).AsInt64(); err != nil {
		return nil, unavailable(location, err)
	}
	ms, err := strconv.ParseInt(fields["bound"], 10, 64)
	if len(fields) == 0 || err != nil {
		report.Problems = []string{errNoFeed.Error()}
		return report, nil
	}
	report.Installed, report.Bound = true, time.Duration(ms)*time.Millisecond
	for name := range fields {
		if strings.HasPrefix(name, "replica:") {
			report.Replicas++
		}
	}
	return report, nil
}

var errNoFeed = errors.New("there is no feed yet: the first authority that starts makes it")
