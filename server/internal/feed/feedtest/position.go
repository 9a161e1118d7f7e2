package feedtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// position says which transactions of a Memory are finished: those up to last,
// without those that are open. Its text is LAST or LAST:OPEN,OPEN.
type position struct {
	last int64
	open []int64 // ascending
}

// now is the position of the present moment. The caller holds mu.
func (m *Memory) now() position {
	return position{last: m.last, open: slices.Sorted(maps.Keys(m.open))}
}

func (p position) String() string {
	text := strconv.FormatInt(p.last, 10)
	separator := ":"
	for _, n := range p.open {
		text += separator + strconv.FormatInt(n, 10)
		separator = ","
	}
	return text
}

func (p position) finished(n int64) bool {
	return n <= p.last && !slices.Contains(p.open, n)
}

// covers reports whether all that is finished in q is finished in p.
func (p position) covers(q position) bool {
	return p.last >= q.last && !slices.ContainsFunc(p.open, q.finished)
}

var errPosition = errors.New("not a position of this store")

func parsePosition(text string) (position, error) {
	last, open, listed := strings.Cut(text, ":")
	n, err := strconv.ParseInt(last, 10, 64)
	if err != nil {
		return position{}, fmt.Errorf("%w: %q", errPosition, text)
	}
	p := position{last: n}
	if !listed {
		return p, nil
	}
	for part := range strings.SplitSeq(open, ",") {
		if n, err = strconv.ParseInt(part, 10, 64); err != nil {
			return position{}, fmt.Errorf("%w: %q", errPosition, text)
		}
		p.open = append(p.open, n)
	}
	return p, nil
}

// wanted is what a revision says: a transaction, or all that is finished at a
// position, of an era. Its text is ERA/t/NUMBER or ERA/p/POSITION.
type wanted struct {
	era         store.Era
	transaction int64 // 0: the position
	at          position
}

func (w wanted) revision() feed.Revision {
	if w.transaction != 0 {
		return feed.Revision(fmt.Sprintf("%s/t/%d", w.era, w.transaction))
	}
	return feed.Revision(fmt.Sprintf("%s/p/%s", w.era, w.at))
}

func (w wanted) coveredBy(p position, era store.Era) bool {
	if w.transaction != 0 {
		return era == w.era && p.finished(w.transaction)
	}
	return era == w.era && p.covers(w.at)
}

var errRevision = errors.New("not a revision of this store")

func parseRevision(r feed.Revision) (wanted, error) {
	parts := strings.Split(string(r), "/")
	if len(parts) != 3 {
		return wanted{}, errRevision
	}
	w := wanted{era: store.Era(parts[0])}
	var err error
	switch parts[1] {
	case "t":
		w.transaction, err = strconv.ParseInt(parts[2], 10, 64)
	case "p":
		w.at, err = parsePosition(parts[2])
	default:
		err = errRevision
	}
	if err != nil {
		return wanted{}, errRevision
	}
	return w, nil
}
