package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"

	"github.com/redis/rueidis"
)

// startRedis runs a throw-away Redis that keeps nothing on disk. The caller stops it.
func (l *lab) startRedis(ctx context.Context) (*process, string, error) {
	path, err := find("redis-server", "redis-server")
	if err != nil {
		return nil, "", err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", l.dir)
	cmd.Env = environment()
	p, err := launch("redis-server", cmd)
	if err != nil {
		return nil, "", err
	}
	err = p.await(ctx, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return nil, "", errors.Join(err, p.end(syscall.SIGTERM))
	}
	return p, address, nil
}

// redisCache connects a rueidis client with client-side caching to a Redis that
// holds n sessions of the size that Better Auth stores as secondary storage.
func redisCache(ctx context.Context, address string, n int) (rueidis.Client, error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}})
	if err != nil {
		return nil, fmt.Errorf("rueidis: %w", err)
	}
	for i := range n {
		set := c.B().Set().Key(token(i)).Value(storedSession(i)).Build()
		if err := c.Do(ctx, set).Error(); err != nil {
			c.Close()
			return nil, fmt.Errorf("rueidis: %w", err)
		}
	}
	return c, nil
}

// storedSession is a session and its user as Better Auth writes them to Redis.
func storedSession(i int) string {
	const text = `{"session":{"id":"sID","expiresAt":"2099-01-08T00:00:00.000Z","token":"TOKEN","createdAt":"2026-01-01T00:00:00.000Z",` +
		`"updatedAt":"2026-01-01T00:00:00.000Z","ipAddress":"203.0.113.7","userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","userId":"uID"},` +
		`"user":{"id":"uID","name":"User ID","email":"uID@example.com","emailVerified":true,"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z"}}`
	return strings.NewReplacer("TOKEN", token(i), "ID", fmt.Sprint(i)).Replace(text)
}
