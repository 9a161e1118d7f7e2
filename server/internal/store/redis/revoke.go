package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

var errBusy = errors.New("the user's list of sessions changed under every attempt: repeat the call")

// Revoke implements [feed.Source]. It deletes what the issuer would delete: the keys
// of the sessions, their entries in the user's list, and for all of a user's sessions
// it writes the mark that refuses older ones (Better Auth 1.7 on). Sessions that are
// not in the list are not found, as the issuer does not find them.
func (f *Feed) Revoke(ctx context.Context, target feed.Target) (feed.Revoked, error) {
	return f.end(ctx, target, true)
}

// End deletes as Revoke does and tells nobody: for sessions with rows beside them,
// whose feed tells of it when they are gone too (S3).
func (f *Feed) End(ctx context.Context, target feed.Target) (feed.Revoked, error) {
	return f.end(ctx, target, false)
}

func (f *Feed) end(ctx context.Context, target feed.Target, tell bool) (feed.Revoked, error) {
	for range maxTries {
		revoked, done, err := f.revoke(ctx, target, tell)
		if err != nil || done {
			return revoked, err
		}
	}
	return feed.Revoked{}, fmt.Errorf("%w: %w", feed.ErrRepeat, errBusy)
}

// ending is what a Revoke deletes.
type ending struct {
	tokens []string
	user   string
	list   string // the user's list as it was read; empty: none
	key    feed.Key
	hasKey bool
}

func (f *Feed) revoke(ctx context.Context, target feed.Target, tell bool) (_ feed.Revoked, done bool, _ error) {
	e, err := f.find(ctx, target)
	if err != nil {
		return feed.Revoked{}, false, err
	}
	now := time.Now().UnixMilli() // the issuer's own times, not the protocol's
	list, seconds := e.list, int64(0)
	if e.list != "" {
		ended := setOf(e.tokens)
		list, seconds = formatActive(slices.DeleteFunc(parseActive(e.list), func(a active) bool { return ended[a.Token] }), now)
	}
	mark := int64(0)
	if f.cfg.RevokedMarks && target.Token == "" && target.Session == "" && target.Except == "" {
		mark = int64(f.lease.Seconds())
	}
	keys := append(slices.Clone(f.keys), f.cfg.Prefix+activePrefix+e.user, f.cfg.Prefix+revokedPrefix+e.user)
	for _, t := range e.tokens {
		keys = append(keys, f.cfg.Prefix+t)
	}
	event := ""
	if tell {
		event = formatEvent(e.key, e.hasKey, e.user)
	}
	replid, answer, err := f.do(ctx, eval(f.client.B(), revokeScript, keys, event,
		e.list, list, strconv.FormatInt(seconds, 10), strconv.FormatInt(now, 10), strconv.FormatInt(mark, 10)))
	if err != nil { // a script that was refused may have done half
		return feed.Revoked{}, false, fmt.Errorf("%w: %w", feed.ErrRepeat, err)
	}
	texts, err := answer.AsStrSlice()
	if err != nil || len(texts) != 3 {
		return feed.Revoked{}, false, errors.Join(feed.ErrRepeat, errForm, err)
	}
	switch texts[0] {
	case "":
		return feed.Revoked{}, false, nil // the list has changed: read it anew
	case "gone":
		return feed.Revoked{}, false, fmt.Errorf("%w: the change feed is not in redis any more", store.ErrUnavailable)
	}
	ended, err := strconv.Atoi(texts[2])
	if err != nil {
		return feed.Revoked{}, false, fmt.Errorf("%w: %w", feed.ErrRepeat, err)
	}
	era := eraIn(replid, texts[0])
	return feed.Revoked{Revision: revisionOf(era, texts[1]), Era: era, Sessions: ended, Key: e.key}, true, nil
}

// find reads which keys a target names.
func (f *Feed) find(ctx context.Context, target feed.Target) (ending, error) {
	decode := decoder{}
	if target.Token != "" {
		e := ending{key: feed.KeyOf(target.Token), hasKey: true}
		if f.cfg.reserved(target.Token) {
			return e, nil // a key that holds no session
		}
		e.tokens = []string{target.Token}
		values, err := f.get(ctx, f.cfg.Prefix+target.Token)
		if err != nil {
			return ending{}, err
		}
		e.user = decode.record(values[0]).Session.UserID
		if e.user != "" {
			if values, err = f.get(ctx, f.cfg.Prefix+activePrefix+e.user); err != nil {
				return ending{}, err
			}
			e.list = values[0]
		}
		return e, nil
	}
	e := ending{user: target.User}
	values, err := f.get(ctx, f.cfg.Prefix+activePrefix+target.User)
	if err != nil {
		return ending{}, err
	}
	e.list = values[0]
	for _, a := range parseActive(e.list) {
		e.tokens = append(e.tokens, a.Token)
	}
	e.tokens = append(e.tokens, target.Also...)
	if target.Session == "" && target.Except == "" || len(e.tokens) == 0 {
		return e, nil
	}
	keys := make([]string, len(e.tokens))
	for i, t := range e.tokens {
		keys[i] = f.cfg.Prefix + t
	}
	if values, err = f.get(ctx, keys...); err != nil {
		return ending{}, err
	}
	var named []string
	for i, t := range e.tokens {
		id := decode.record(values[i]).Session.ID
		switch {
		case target.Session != "" && id == target.Session:
			named, e.key, e.hasKey = []string{t}, feed.KeyOf(t), true
		case target.Except != "" && id != target.Except && t != target.ExceptToken:
			named = append(named, t)
		}
	}
	e.tokens = named
	return e, nil
}

// get reads keys; what is not there is empty.
func (f *Feed) get(ctx context.Context, keys ...string) ([]string, error) {
	_, answer, err := f.do(ctx, f.client.B().Mget().Key(keys...).Build())
	if err != nil {
		return nil, err
	}
	messages, err := answer.ToArray()
	if err != nil || len(messages) != len(keys) {
		return nil, f.failed(ctx, errors.Join(errForm, err))
	}
	texts := make([]string, len(keys))
	for i := range messages {
		if texts[i], err = messages[i].ToString(); err != nil && !rueidis.IsRedisNil(err) {
			texts[i] = "" // a key of another type holds no session
		}
	}
	return texts, nil
}
