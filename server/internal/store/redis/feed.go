package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// maxEvents is the most events that one read brings.
const maxEvents = 10_000

// feedPrefix is in front of sessiond's own keys: its name, and the brace in which they
// have the issuer's prefix, which may itself be "sessiond:".
const feedPrefix = "sessiond:{"

// Feed is the change feed and the registry of sessions that live in Redis alone. It
// implements [feed.Source]: what the issuer changes comes as invalidations of the
// tracking connection, what sessiond itself ends as events of its own beside them,
// and a position is a place in both.
//
// A beat is as durable as the server makes its writes. What a crash or a failover
// takes back comes with another era.
type Feed struct {
	cfg     Config
	client  rueidis.Client
	tracker tracker
	keys    []string // the hash and the set
	lease   time.Duration
	closed  atomic.Bool
}

var _ feed.Source = (*Feed)(nil)

// OpenFeed connects and sees that the connection is told of changes; the error wraps
// [feed.ErrNotInstalled] where it is not. ExpiresIn is the issuer's session.expiresIn,
// for which the marks of revoked users are kept. The caller closes the feed.
func OpenFeed(ctx context.Context, c Config, expiresIn time.Duration) (*Feed, error) {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	client, location, err := connect(c.URL)
	if err != nil {
		return nil, err
	}
	keys := keysOf(c)
	f := &Feed{
		cfg: c, client: client, lease: max(expiresIn, 24*time.Hour), keys: keys,
		tracker: tracker{client: client, prefix: c.Prefix, marks: c.RevokedMarks, own: keys[0], location: location},
	}
	if err := f.tracker.connect(opening); err != nil {
		client.Close()
		return nil, err
	}
	return f, nil
}

// Close implements [feed.Source]. Nobody registers, beats or polls any more.
func (f *Feed) Close() error {
	if !f.closed.Swap(true) {
		f.tracker.drop()
		f.client.Close()
	}
	return nil
}

// place is a position: what of sessiond's own events and of the invalidations of
// this process has been read.
type place struct{ revision, generation, number int64 }

func (p place) String() string { return fmt.Sprintf("%d.%d.%d", p.revision, p.generation, p.number) }

func parsePlace(text feed.Position) (place, error) {
	parts := strings.Split(string(text), ".")
	if len(parts) != 3 {
		return place{}, fmt.Errorf("%q is no position of a redis feed", text)
	}
	var n [3]int64
	for i, part := range parts {
		var err error
		if n[i], err = strconv.ParseInt(part, 10, 64); err != nil || n[i] < 0 {
			return place{}, fmt.Errorf("%q is no position of a redis feed", text)
		}
	}
	return place{n[0], n[1], n[2]}, nil
}

func eval(b rueidis.Builder, script string, keys []string, args ...string) rueidis.Completed {
	return b.Eval().Script(script).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
}

// Register implements [feed.Source]. Where there is no feed yet, it makes one.
func (f *Feed) Register(ctx context.Context, bound time.Duration) (feed.Registration, error) {
	id, ms := rand.Text(), strconv.FormatInt(bound.Milliseconds(), 10)
	news, installed, err := f.begin(ctx, id, ms)
	if err != nil {
		return feed.Registration{}, err
	}
	if installed != ms {
		return feed.Registration{}, fmt.Errorf("%w: it is %s ms in redis, staleness_bound is %v: set the same for all replicas, or stop all and run sessiond feed remove", feed.ErrBound, installed, bound)
	}
	return feed.Registration{ID: id, News: news}, nil
}

// Begin takes a new position without a place in the registry, for a feed of rows
// beside this one that has the registry.
func (f *Feed) Begin(ctx context.Context) (feed.News, error) {
	news, _, err := f.begin(ctx, "", "0")
	return news, err
}

// begin takes a new position, with a connection of its own (F6).
func (f *Feed) begin(ctx context.Context, id, ms string) (news feed.News, installed string, _ error) {
	if f.closed.Load() {
		return feed.News{}, "", errClosed
	}
	f.tracker.drop()
	if err := f.tracker.connect(ctx); err != nil {
		return feed.News{}, "", f.failed(ctx, err)
	}
	_, at, _ := f.tracker.since(place{})
	replid, answer, err := f.tracker.ask(ctx, func(c rueidis.DedicatedClient) rueidis.Completed {
		return eval(c.B(), registerScript, f.keys, id, ms, rand.Text())
	})
	if err == nil && replid == "" {
		err = errDemoted
	}
	if err != nil {
		return feed.News{}, "", f.failed(ctx, err)
	}
	texts, err := answer.AsStrSlice()
	if err != nil || len(texts) != 3 {
		return feed.News{}, "", f.failed(ctx, errors.Join(errForm, err))
	}
	if at.revision, err = strconv.ParseInt(texts[1], 10, 64); err != nil {
		return feed.News{}, "", f.failed(ctx, err)
	}
	return feed.News{
		Era: eraIn(replid, texts[0]), Position: feed.Position(at.String()),
		Coverage: feed.CoverageFull, Objects: f.objects(),
	}, texts[2], nil
}

// objects names what tells of changes.
func (f *Feed) objects() string { return "CLIENT TRACKING " + f.cfg.Prefix }

// eraIn joins what names a life: of the server, and of the feed's keys.
func eraIn(replid store.Era, life string) store.Era {
	if replid == "" || life == "" {
		return ""
	}
	return replid + "." + store.Era(life)
}

// Poll implements [feed.Source].
func (f *Feed) Poll(ctx context.Context, from feed.Position) (feed.News, error) {
	return f.read(ctx, from, func(b rueidis.Builder, revision string) rueidis.Completed {
		return eval(b, readScript, f.keys, revision, strconv.Itoa(maxEvents+1))
	})
}

// Beat implements [feed.Source].
func (f *Feed) Beat(ctx context.Context, b feed.Beat) (feed.News, error) {
	written, err := parsePlace(b.Written)
	if err != nil {
		return feed.News{}, err
	}
	row := fmt.Sprintf("%d %s %s %s", b.Number, b.Written, b.Done, b.DoneEra)
	news, err := f.read(ctx, b.From, func(builder rueidis.Builder, revision string) rueidis.Completed {
		return eval(builder, beatScript, f.keys, revision, strconv.Itoa(maxEvents+1), b.ID, strconv.FormatInt(b.Acked, 10), row)
	})
	if err != nil {
		return feed.News{}, err
	}
	f.tracker.forget(written)
	news.Coverage, news.Objects = feed.CoverageFull, f.objects()
	return news, nil
}

// Forget drops what only positions before one would read.
func (f *Feed) Forget(before feed.Position) error {
	p, err := parsePlace(before)
	if err == nil {
		f.tracker.forget(p)
	}
	return err
}

// errForm means that the server answered something else than the scripts return.
var errForm = errors.New("an answer of another form")

// errDemoted means that the server is no primary any more.
var errDemoted = errors.New("the server is a replica now")

var errClosed = fmt.Errorf("%w: the feed is closed", store.ErrUnavailable)

// read asks over the tracking connection and adds the invalidations to the answer.
func (f *Feed) read(ctx context.Context, from feed.Position, command func(rueidis.Builder, string) rueidis.Completed) (feed.News, error) {
	if f.closed.Load() {
		return feed.News{}, errClosed
	}
	p, err := parsePlace(from)
	if err != nil {
		return feed.News{}, err
	}
	replid, answer, err := f.tracker.ask(ctx, func(c rueidis.DedicatedClient) rueidis.Completed {
		return command(c.B(), strconv.FormatInt(p.revision, 10))
	})
	if err != nil {
		return feed.News{}, f.failed(ctx, err)
	}
	parts, err := answer.ToArray()
	if err != nil || len(parts) < 2 {
		return feed.News{}, f.failed(ctx, errors.Join(errForm, err))
	}
	life, err := parts[0].ToString()
	if err != nil {
		return feed.News{}, f.failed(ctx, err)
	}
	if life == "" {
		return feed.News{}, feed.ErrLostPlace
	}
	revision, err := parts[1].AsInt64()
	if err != nil {
		return feed.News{}, f.failed(ctx, err)
	}
	rows, err := parts[2].AsStrSlice()
	if err != nil {
		return feed.News{}, f.failed(ctx, err)
	}
	news := feed.News{Era: eraIn(replid, life), Overflow: len(rows) > maxEvents}
	for _, row := range rows {
		news.Events = append(news.Events, parseEvent(row))
	}
	// After the barrier: what was committed before the question is among them.
	invalidated, at, overflow := f.tracker.since(p)
	at.revision = revision
	news.Events, news.Overflow = append(news.Events, invalidated...), news.Overflow || overflow
	news.Position = feed.Position(at.String())
	return news, nil
}

// Events of sessiond's own, as they are kept: "REVISION KEYHEX USER", either may be
// missing ("-").
func formatEvent(key feed.Key, hasKey bool, user string) string {
	text := "-"
	if hasKey {
		text = hex.EncodeToString(key[:])
	}
	return text + " " + user
}

func parseEvent(row string) feed.Event {
	_, rest, _ := strings.Cut(row, " ")
	keyText, user, ok := strings.Cut(rest, " ")
	if !ok {
		return feed.Event{Kind: feed.KindAll, Urgent: true} // not one of ours
	}
	if keyText == "-" {
		return feed.Event{Kind: feed.KindUser, User: user, Urgent: true}
	}
	e := feed.Event{Kind: feed.KindKey, User: user, Urgent: true}
	if n, err := hex.Decode(e.Key[:], []byte(keyText)); err != nil || n != len(e.Key) {
		return feed.Event{Kind: feed.KindAll, Urgent: true}
	}
	return e
}

// Replicas implements [feed.Source].
func (f *Feed) Replicas(ctx context.Context, own string, acked int64) (feed.Registry, error) {
	replid, answer, err := f.do(ctx, f.client.B().Hgetall().Key(f.keys[0]).Build())
	if err != nil {
		return feed.Registry{}, err
	}
	fields, err := answer.AsStrMap()
	if err != nil {
		return feed.Registry{}, f.failed(ctx, err)
	}
	registry := feed.Registry{Era: eraIn(replid, fields["life"])}
	found := false
	for name, text := range fields {
		id, ok := strings.CutPrefix(name, "replica:")
		if !ok {
			continue
		}
		parts := strings.Split(text, " ")
		if len(parts) != 4 {
			return feed.Registry{}, f.failed(ctx, errors.New("a replica's entry is of another form"))
		}
		beat, err := strconv.ParseInt(parts[0], 10, 64)
		if err != nil {
			return feed.Registry{}, f.failed(ctx, err)
		}
		found = found || id == own && beat >= acked
		registry.Replicas = append(registry.Replicas, feed.Replica{ID: id, Beat: beat, Done: feed.Position(parts[2]), DoneEra: store.Era(parts[3])})
	}
	if !found {
		return feed.Registry{}, feed.ErrLostPlace
	}
	return registry, nil
}

// Exclude implements [feed.Source].
func (f *Feed) Exclude(ctx context.Context, id string, beat int64) (bool, error) {
	_, answer, err := f.do(ctx, eval(f.client.B(), excludeScript, f.keys, id, strconv.FormatInt(beat, 10)))
	if err != nil {
		return false, err
	}
	n, err := answer.AsInt64()
	if err != nil {
		return false, f.failed(ctx, err)
	}
	return n == 1, nil
}

// Clean implements [feed.Source].
func (f *Feed) Clean(ctx context.Context) error {
	_, _, err := f.do(ctx, eval(f.client.B(), cleanScript, f.keys))
	return err
}

// do runs a command on a connection that is not the tracking one.
func (f *Feed) do(ctx context.Context, command rueidis.Completed) (store.Era, rueidis.RedisMessage, error) {
	if f.closed.Load() {
		return "", rueidis.RedisMessage{}, errClosed
	}
	replid, answer, err := inEra(ctx, f.client.DoMulti, f.client.B(), command)
	if err == nil && replid == "" {
		err = errDemoted
	}
	if err != nil {
		return "", rueidis.RedisMessage{}, f.failed(ctx, err)
	}
	return replid, answer, nil
}

func (f *Feed) failed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, feed.ErrNotInstalled), errors.Is(err, store.ErrUnavailable):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("change feed: %w", ctx.Err())
	case errors.Is(err, errRefused):
		return fmt.Errorf("%w: redis %s: %s: the change feed needs EVAL, CLIENT TRACKING, INFO and keys %s*", store.ErrUnavailable, f.tracker.location, textOf(err), feedPrefix)
	default:
		return unavailable(f.tracker.location, err)
	}
}

// Era reads which life of which server answers now; none: there is no feed.
func (f *Feed) Era(ctx context.Context) (store.Era, error) {
	replid, answer, err := f.do(ctx, f.client.B().Hget().Key(f.keys[0]).Field("life").Build())
	if err != nil || answer.IsNil() {
		return "", err
	}
	life, err := answer.ToString()
	if err != nil {
		return "", f.failed(ctx, err)
	}
	return eraIn(replid, life), nil
}

// Revision implements [feed.Source].
func (f *Feed) Revision(ctx context.Context) (feed.Revision, error) {
	replid, answer, err := f.do(ctx, eval(f.client.B(), revisionScript, f.keys))
	if err != nil {
		return "", err
	}
	texts, err := answer.AsStrSlice()
	if err != nil || len(texts) != 2 || texts[0] == "" {
		return "", fmt.Errorf("%w: the change feed is not in redis any more", store.ErrUnavailable)
	}
	return revisionOf(eraIn(replid, texts[0]), texts[1]), nil
}

func revisionOf(era store.Era, number string) feed.Revision {
	return feed.Revision(string(era) + "," + number)
}

func parseRevision(r feed.Revision) (store.Era, int64, error) {
	era, text, ok := strings.Cut(string(r), ",")
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || n < 0 || !strings.Contains(era, ".") {
		return "", 0, fmt.Errorf("%q is no revision of a redis feed", r)
	}
	return store.Era(era), n, nil
}

// Covers implements [feed.Source].
func (f *Feed) Covers(p feed.Position, era store.Era, r feed.Revision) (bool, error) {
	wanted, n, err := parseRevision(r)
	if err != nil {
		return false, err
	}
	if p == "" || era != wanted {
		return false, nil
	}
	at, err := parsePlace(p)
	return err == nil && at.revision >= n, err
}

// Meets implements [feed.Source]. Lives of a server have no order that could be read
// of their names: any other than the revision's is later, or lost it.
func (f *Feed) Meets(_ store.Era, r feed.Revision) (bool, error) {
	_, _, err := parseRevision(r)
	return err == nil, err
}
