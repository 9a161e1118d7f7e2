package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

const (
	// timelineSQL is the timeline as eight hexadecimal digits. It comes from the
	// log position, for the control file is late by a checkpoint (F4). On a standby
	// it is an error, which is meant.
	timelineSQL = `left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)`

	// lifeSQL is the life of the server, NULL where nobody has begun one since the
	// last crash or promotion. A restored dump brings id along, but never xmin and
	// tableoid.
	lifeSQL = `(SELECT concat_ws(':', id, tableoid, xmin) FROM sessiond.life)`

	// beginLifeSQL begins a life where there is none.
	beginLifeSQL = `INSERT INTO sessiond.life DEFAULT VALUES ON CONFLICT DO NOTHING`

	// systemSQL and noSystemSQL are the system identifier where the role may read
	// it, and where it may not.
	systemSQL   = `(SELECT system_identifier::text FROM pg_control_system())`
	noSystemSQL = `''::text`
)

// eraOf names the era of a server's timeline and life.
func eraOf(timeline, life string) store.Era {
	return store.Era(timeline + ":" + life)
}

// timelineOf returns the timeline of an era, and whether it has one.
func timelineOf(era store.Era) (uint64, bool) {
	text, life, _ := strings.Cut(string(era), ":")
	if len(text) != 8 || life == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 16, 32)
	return n, err == nil
}

// snapshot is a Postgres snapshot: which transactions are finished in it.
type snapshot struct {
	xmax uint64
	xip  []uint64 // in progress, ascending, all below xmax
}

var errSnapshot = errors.New("not a snapshot")

// parseSnapshot reads the text form of pg_snapshot, xmin:xmax:xip,xip.
func parseSnapshot(text string) (snapshot, error) {
	low, rest, ok1 := strings.Cut(text, ":")
	high, list, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 {
		return snapshot{}, errSnapshot
	}
	xmin, err := parseXID(low)
	if err != nil {
		return snapshot{}, errSnapshot
	}
	s := snapshot{}
	if s.xmax, err = parseXID(high); err != nil || s.xmax < xmin {
		return snapshot{}, errSnapshot
	}
	if list == "" {
		return s, nil
	}
	last := uint64(0)
	for part := range strings.SplitSeq(list, ",") {
		xid, err := parseXID(part)
		if err != nil || xid < xmin || xid >= s.xmax || xid <= last {
			return snapshot{}, errSnapshot
		}
		s.xip = append(s.xip, xid)
		last = xid
	}
	return s, nil
}

// parseXID reads an xid8 as Postgres prints it: decimal, no sign, never 0.
func parseXID(text string) (uint64, error) {
	xid, err := strconv.ParseUint(text, 10, 64)
	if err != nil || xid == 0 || text[0] == '0' || text[0] == '+' {
		return 0, errSnapshot
	}
	return xid, nil
}

// finished reports whether a transaction is finished in the snapshot.
func (s snapshot) finished(xid uint64) bool {
	if xid >= s.xmax {
		return false
	}
	_, running := slices.BinarySearch(s.xip, xid)
	return !running
}

// covers reports whether all that is finished in t is finished in s.
func (s snapshot) covers(t snapshot) bool {
	if s.xmax < t.xmax {
		return false
	}
	return !slices.ContainsFunc(s.xip, t.finished)
}

// revision is what a [feed.Revision] of Postgres says: a transaction, or all that
// is finished in a snapshot, of an era. Its text is
//
//	pg1/SYSTEM/ERA/x/XID    or    pg1/SYSTEM/ERA/s/SNAPSHOT
//
// where SYSTEM is empty if the role may not read it.
type revision struct {
	system string
	era    store.Era
	xid    uint64   // 0: the snapshot
	at     snapshot // without xid
}

const revisionForm = "pg1"

var errRevision = errors.New("the text is no revision of this store: hand back what was given, unchanged")

// revisionAt is the revision that covers all that is finished in a snapshot.
func revisionAt(system string, era store.Era, snapshot string) feed.Revision {
	return formatRevision(system, era, "s", snapshot)
}

// revisionOf is the revision that covers a transaction.
func revisionOf(system string, era store.Era, xid string) feed.Revision {
	return formatRevision(system, era, "x", xid)
}

func formatRevision(system string, era store.Era, kind, value string) feed.Revision {
	return feed.Revision(strings.Join([]string{revisionForm, system, string(era), kind, value}, "/"))
}

// parseRevision reads a revision that comes from a caller. The error does not
// repeat the text.
func parseRevision(r feed.Revision) (revision, error) {
	parts := strings.Split(string(r), "/")
	if len(parts) != 5 || parts[0] != revisionForm {
		return revision{}, errRevision
	}
	v := revision{system: parts[1], era: store.Era(parts[2])}
	if _, ok := timelineOf(v.era); !ok {
		return revision{}, errRevision
	}
	if v.system != "" {
		if _, err := strconv.ParseInt(v.system, 10, 64); err != nil {
			return revision{}, errRevision
		}
	}
	var err error
	switch parts[3] {
	case "x":
		v.xid, err = parseXID(parts[4])
	case "s":
		v.at, err = parseSnapshot(parts[4])
	default:
		err = errRevision
	}
	if err != nil {
		return revision{}, errRevision
	}
	return v, nil
}

// Covers implements [feed.Source].
func (f *Feed) Covers(p feed.Position, era store.Era, r feed.Revision) (bool, error) {
	v, err := parseRevision(r)
	if err != nil {
		return false, err
	}
	if p == "" || era != v.era {
		return false, nil
	}
	at, err := parseSnapshot(string(p))
	switch {
	case err != nil:
		return false, fmt.Errorf("position: %w", err)
	case v.xid != 0:
		return at.finished(v.xid), nil
	}
	return at.covers(v.at), nil
}

// Meets implements [feed.Source]. Where it is not known that the servers are two
// different ones, they count as one.
func (f *Feed) Meets(era store.Era, r feed.Revision) (bool, error) {
	v, err := parseRevision(r)
	if err != nil {
		return false, err
	}
	if era == v.era {
		return true, nil
	}
	if system := f.systemOf(era); system != "" && v.system != "" && system != v.system {
		return true, nil
	}
	wanted, _ := timelineOf(v.era)
	got, ok := timelineOf(era)
	return ok && got >= wanted, nil
}
