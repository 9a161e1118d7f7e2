package redis

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Release is a line of Better Auth's releases that write alike.
type Release uint8

// The releases.
const (
	Release12 Release = iota + 1
	Release13
	Release14
	Release16 // and 1.7
)

// WriterConfig says how the issuer writes.
type WriterConfig struct {
	Config
	Release Release
	// ExpiresIn is the issuer's session.expiresIn.
	ExpiresIn time.Duration
	// Rows reads the users that a value holds, and where InDatabase is set the rows of
	// sessions. It is closed with the Writer.
	Rows store.Rows
	// InDatabase says that each session has a row, which is there before its key.
	InDatabase bool
}

// Writer writes sessions as the issuer does: the key, and the user's list. It
// implements [store.Writer].
type Writer struct {
	cfg      WriterConfig
	client   rueidis.Client
	location string

	closing context.Context
	close   context.CancelFunc
	looking sync.WaitGroup
}

var _ store.Writer = (*Writer)(nil)

// OpenWriter connects. The caller must Close the Writer.
func OpenWriter(c WriterConfig) (*Writer, error) {
	client, location, err := connect(c.URL)
	if err != nil {
		return nil, err
	}
	w := &Writer{cfg: c, client: client, location: location}
	w.closing, w.close = context.WithCancel(context.Background())
	return w, nil
}

func (w *Writer) key(name string) string { return w.cfg.Prefix + name }

// Create implements [store.Writer]. Where there are rows, that of the session is there.
func (w *Writer) Create(ctx context.Context, s store.NewSession) (id string, err error) {
	user, err := w.cfg.Rows.UserRow(ctx, s.UserID)
	switch {
	case err != nil:
		return "", err
	case user == nil:
		return "", store.ErrNoUser
	}
	session := w.newSession(s)
	if w.cfg.InDatabase && w.cfg.Release != Release14 {
		row, err := w.cfg.Rows.SessionRow(ctx, s.Token)
		switch {
		case err != nil:
			return "", err
		case row == nil:
			return "", errUnwritable("its row is gone again")
		}
		session = objectOf(row)
	}
	seconds := s.ExpiresAt.Sub(s.CreatedAt) / time.Second
	if seconds <= 0 {
		return "", errUnwritable("it would be over at once")
	}
	value := w.value(session, marshal(objectOf(user)))
	err = w.repeat(func() (bool, error) {
		lists, err := w.get(ctx, w.key(activePrefix+s.UserID))
		if err != nil {
			return false, err
		}
		list, listSeconds := w.listed(parseActive(lists[0]), s)
		return w.change(ctx, createScript, []string{w.key(activePrefix + s.UserID), w.key(s.Token)},
			lists[0], list, strconv.FormatInt(listSeconds, 10), value, strconv.FormatInt(int64(seconds), 10))
	})
	if err != nil {
		return "", err
	}
	w.keepListed(s.UserID, active{s.Token, s.ExpiresAt.UnixMilli()}, value)
	return s.ID, nil
}

// listed adds a new session to a user's list, as its issuer's release does.
func (w *Writer) listed(list []active, s store.NewSession) (text string, seconds int64) {
	now, entry := s.CreatedAt.UnixMilli(), active{s.Token, s.ExpiresAt.UnixMilli()}
	if w.cfg.Release >= Release14 {
		return formatActive(append(list, entry), now)
	}
	list = slices.DeleteFunc(list, func(a active) bool { return a.ExpiresAt <= now })
	if w.cfg.Release == Release12 { // not ordered, and as if all sessions lasted as long
		entry.ExpiresAt = now + w.cfg.ExpiresIn.Milliseconds()
		return string(marshal(append(list, entry))), int64(w.cfg.ExpiresIn / time.Second)
	}
	slices.SortStableFunc(list, byExpiry) // before the new one is added
	list = append(list, entry)
	return string(marshal(list)), (slices.MaxFunc(list, byExpiry).ExpiresAt - now) / 1000
}

func byExpiry(a, b active) int { return cmp.Compare(a.ExpiresAt, b.ExpiresAt) }

// Extend implements [store.Writer]. Up to 1.3 the issuer does not move the entry in
// the user's list, and where there are rows it writes the row, which is extended
// before. A key that is gone stays gone, though those releases would write it again:
// it may have been ended in this moment.
func (w *Writer) Extend(ctx context.Context, token string, expires, updated time.Time) (bool, error) {
	seconds := int64(expires.Sub(updated) / time.Second)
	if seconds <= 0 {
		return false, nil
	}
	var row store.Row
	if w.cfg.InDatabase && w.cfg.Release < Release14 {
		var err error
		if row, err = w.cfg.Rows.SessionRow(ctx, token); err != nil || row == nil {
			return false, err
		}
	}
	done, owner, value := false, "", ""
	err := w.repeat(func() (bool, error) {
		values, err := w.get(ctx, w.key(token))
		if err != nil {
			return false, err
		}
		var was time.Time
		if value, owner, was, done = w.extended(values[0], row, expires, updated); !done || was.Before(updated) {
			done = false
			return true, nil // it has ended
		}
		list, listed, listSeconds := "", "", int64(0)
		if w.cfg.Release >= Release14 {
			lists, err := w.get(ctx, w.key(activePrefix+owner))
			if err != nil {
				return false, err
			}
			list = lists[0]
			listed, listSeconds = relisted(list, active{token, expires.UnixMilli()}, updated.UnixMilli())
		}
		return w.change(ctx, extendScript, []string{w.key(activePrefix + owner), w.key(token)},
			list, listed, strconv.FormatInt(listSeconds, 10), value, strconv.FormatInt(seconds, 10), values[0])
	})
	if err != nil || !done {
		return false, err
	}
	if w.cfg.Release >= Release14 {
		w.keepListed(owner, active{token, expires.UnixMilli()}, value)
	}
	return true, nil
}

// relisted is a list with an entry moved.
func relisted(text string, entry active, nowMs int64) (string, int64) {
	list := slices.DeleteFunc(parseActive(text), func(a active) bool { return a.Token == entry.Token })
	return formatActive(append(list, entry), nowMs)
}

// Sessions implements [store.Writer]. It names the sessions of the user's list whose
// keys can be read; others the issuer does not find either. A session need not have an
// id there, so that a cursor holds the digest of its token.
func (w *Writer) Sessions(ctx context.Context, user string, limit int, after store.Cursor) ([]store.NamedSession, error) {
	tokens, records, err := w.read(ctx, user)
	if err != nil {
		return nil, err
	}
	var out []store.NamedSession
	for i, r := range records {
		key := feed.KeyOf(tokens[i])
		out = append(out, store.NamedSession{Token: tokens[i], Cursor: store.Cursor{CreatedAt: r.Session.CreatedAt, ID: hex.EncodeToString(key[:])}})
	}
	newestFirst := func(a, b store.Cursor) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	}
	slices.SortFunc(out, func(a, b store.NamedSession) int { return newestFirst(a.Cursor, b.Cursor) })
	if !after.CreatedAt.IsZero() {
		out = slices.DeleteFunc(out, func(n store.NamedSession) bool { return newestFirst(n.Cursor, after) <= 0 })
	}
	return out[:min(limit, len(out))], nil
}

// Token implements [store.Writer].
func (w *Writer) Token(ctx context.Context, user, session string) (token string, found bool, err error) {
	tokens, records, err := w.read(ctx, user)
	for i, r := range records {
		if r.Session.ID == session && session != "" {
			return tokens[i], true, nil
		}
	}
	return "", false, err
}

// read reads the sessions of a user's list.
func (w *Writer) read(ctx context.Context, user string) (tokens []string, records []store.Record, err error) {
	lists, err := w.get(ctx, w.key(activePrefix+user))
	if err != nil {
		return nil, nil, err
	}
	var listed, keys []string
	seen := make(map[string]bool)
	for _, a := range parseActive(lists[0]) {
		if !seen[a.Token] {
			seen[a.Token] = true
			listed, keys = append(listed, a.Token), append(keys, w.key(a.Token))
		}
	}
	if len(keys) == 0 {
		return nil, nil, nil
	}
	values, err := w.get(ctx, keys...)
	if err != nil {
		return nil, nil, err
	}
	for i, text := range values {
		if r := (decoder{}).record(text); r.Unreadable == "" && r.Session.UserID == user {
			tokens, records = append(tokens, listed[i]), append(records, r)
		}
	}
	return tokens, records, nil
}

// The issuer reads a user's list and writes it back; what is written in between is
// lost from it. It takes one round trip for that, so that a look some time after a
// write finds out.
var looks = []time.Duration{20 * time.Millisecond, 200 * time.Millisecond, 2 * time.Second}

// keepListed sees to it that a session stays in its user's list while its key is as it
// was written.
func (w *Writer) keepListed(user string, entry active, value string) {
	w.looking.Go(func() {
		for _, pause := range looks {
			timer := time.NewTimer(pause)
			select {
			case <-w.closing.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			// Nothing is worse for a failure: the session is good, and the issuer's own
			// may be missing from the list too.
			_ = w.repeat(func() (bool, error) { return w.relist(w.closing, user, entry, value) })
		}
	})
}

func (w *Writer) relist(ctx context.Context, user string, entry active, value string) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	texts, err := w.get(ctx, w.key(activePrefix+user))
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(parseActive(texts[0]), func(a active) bool { return a.Token == entry.Token && a.ExpiresAt >= entry.ExpiresAt }) {
		return true, nil
	}
	list, seconds := relisted(texts[0], entry, time.Now().UnixMilli())
	return w.change(ctx, relistScript, []string{w.key(activePrefix + user), w.key(entry.Token)}, texts[0], list, strconv.FormatInt(seconds, 10), value)
}

// maxTries bounds how often a write gives way to others'. Each time one of theirs was
// done.
const maxTries = 100

// repeat tries again what another writer was in the way of.
func (w *Writer) repeat(try func() (done bool, err error)) error {
	for range maxTries {
		if done, err := try(); err != nil || done {
			return err
		}
	}
	return fmt.Errorf("%w: redis %s: %w", store.ErrUnavailable, w.location, errBusy)
}

// change runs a script that changes nothing and returns 0 where something is not as it
// was read.
func (w *Writer) change(ctx context.Context, script string, keys []string, args ...string) (bool, error) {
	n, err := w.client.Do(ctx, eval(w.client.B(), script, keys, args...)).AsInt64()
	if err != nil {
		return false, w.failed(ctx, err)
	}
	return n == 1, nil
}

// get reads keys; what is not there is empty.
func (w *Writer) get(ctx context.Context, keys ...string) ([]string, error) {
	// Arbitrary: see [inEra].
	messages, err := w.client.Do(ctx, w.client.B().Arbitrary("MGET").Keys(keys...).Build()).ToArray()
	if err != nil {
		return nil, w.failed(ctx, err)
	}
	texts := make([]string, len(messages))
	for i := range messages {
		if texts[i], err = messages[i].ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, w.failed(ctx, err)
		}
	}
	return texts, nil
}

func (w *Writer) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("write a session: %w", ctx.Err())
	}
	if _, refused := rueidis.IsRedisErr(err); refused {
		return fmt.Errorf("%w: redis %s: %s: sessions are written with EVAL, GET, MGET, SET and DEL on keys %s*", store.ErrUnavailable, w.location, textOf(err), w.cfg.Prefix)
	}
	return unavailable(w.location, err)
}

// Close implements [store.Writer].
func (w *Writer) Close() error {
	w.close()
	w.looking.Wait()
	w.client.Close()
	return w.cfg.Rows.Close()
}
