package rpc

import (
	"time"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/trace"
)

// The bounds of what is kept of late refusals.
const (
	maxTraces        = 4096
	maxTraceBytes    = 8 << 20
	maxTracesASecond = 200
)

// Traces keeps how late refusals came about.
type Traces struct {
	ring     *trace.Ring
	describe store.Description
}

// NewTraces returns an empty Traces. d describes the store.
func NewTraces(d store.Description) *Traces {
	return &Traces{ring: trace.New(trace.Config{Entries: maxTraces, Bytes: maxTraceBytes, PerSecond: maxTracesASecond}), describe: d}
}

// refused keeps a refusal and returns its id. That nothing was presented needs no
// explaining after the fact: it is most of a worker's refusals.
func (t *Traces) refused(a *authority.Authority, c authority.Credential, answer *authority.Answer, now time.Time) string {
	if t == nil || answer.Verdict.Reason == authority.ReasonNoCredential {
		return ""
	}
	return t.ring.Add(func() authority.Explanation { return a.Trace(now, t.describe, c, answer) })
}
