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

// A revision is SYSTEM,ERA,x,XID for a transaction, or SYSTEM,ERA,s,SNAPSHOT for
// all that a snapshot calls finished.

func (f *Feed) revision(era store.Era, kind, what string) feed.Revision {
	return feed.Revision(strings.Join([]string{f.system, string(era), kind, what}, ","))
}

func eraOf(s string) store.Era { return store.Era(s) }

var errRevision = errors.New("not a revision of this store")

type revision struct {
	system   string
	era      store.Era
	xid      uint64 // of a transaction
	snapshot *snapshot
}

func parseRevision(r feed.Revision) (revision, error) {
	parts := strings.SplitN(string(r), ",", 4)
	if len(parts) != 4 {
		return revision{}, errRevision
	}
	out := revision{system: parts[0], era: store.Era(parts[1])}
	switch parts[2] {
	case "x":
		xid, err := strconv.ParseUint(parts[3], 10, 64)
		if err != nil {
			return revision{}, errRevision
		}
		out.xid = xid
	case "s":
		s, err := parseSnapshot(parts[3])
		if err != nil {
			return revision{}, errRevision
		}
		out.snapshot = &s
	default:
		return revision{}, errRevision
	}
	return out, nil
}

// snapshot is a pg_snapshot, xmin:xmax:xip,… (PostgreSQL's manual, 9.27.6).
type snapshot struct {
	xmax uint64
	xip  []uint64
}

func parseSnapshot(text string) (snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return snapshot{}, fmt.Errorf("%q is no snapshot", text)
	}
	xmax, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return snapshot{}, fmt.Errorf("%q is no snapshot", text)
	}
	s := snapshot{xmax: xmax}
	if parts[2] == "" {
		return s, nil
	}
	for item := range strings.SplitSeq(parts[2], ",") {
		xid, err := strconv.ParseUint(item, 10, 64)
		if err != nil {
			return snapshot{}, fmt.Errorf("%q is no snapshot", text)
		}
		s.xip = append(s.xip, xid)
	}
	return s, nil
}

// finished reports whether a transaction had ended for the snapshot.
func (s snapshot) finished(xid uint64) bool { return xid < s.xmax && !slices.Contains(s.xip, xid) }

// Covers implements [feed.Source].
func (f *Feed) Covers(p feed.Position, era store.Era, r feed.Revision) (bool, error) {
	want, err := parseRevision(r)
	if err != nil {
		return false, err
	}
	if p == "" || era == "" || want.era != era {
		return false, nil
	}
	have, err := parseSnapshot(string(p))
	if err != nil {
		return false, err
	}
	if want.snapshot == nil {
		return have.finished(want.xid), nil
	}
	if have.xmax < want.snapshot.xmax {
		return false, nil
	}
	for _, xid := range have.xip {
		if want.snapshot.finished(xid) {
			return false, nil
		}
	}
	return true, nil
}

// Meets implements [feed.Source].
func (f *Feed) Meets(era store.Era, r feed.Revision) (bool, error) {
	want, err := parseRevision(r)
	if err != nil {
		return false, err
	}
	if want.era == era || want.system != "" && f.system != "" && want.system != f.system {
		return true, nil
	}
	have, _, _ := strings.Cut(string(era), "/")
	asked, _, _ := strings.Cut(string(want.era), "/")
	return have >= asked, nil // timelines are hexadecimal numbers of one length
}
