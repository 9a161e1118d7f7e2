package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sessiond/sessiond/server/history/check"
	"github.com/sessiond/sessiond/server/history/record"
)

// Result is what a run found. Its JSON form is for comparison over time.
type Result struct {
	Bound         string         `json:"bound"`
	Seconds       float64        `json:"seconds"`
	Seed          uint64         `json:"seed"`
	Authorities   int            `json:"authorities"`
	Workers       int            `json:"workers"`
	Sessions      int            `json:"sessions"`
	Revocations   int            `json:"revocations"`
	Endings       map[string]int `json:"endings"`
	Updates       int            `json:"updates"`
	Attempts      int            `json:"attempts_without_answer"`
	RevokeMillis  Quantiles      `json:"revoke_ms"`
	Operations    int            `json:"operations"`
	Outcomes      map[string]int `json:"outcomes"`
	Sources       map[string]int `json:"accepted_by_source"`
	Ways          map[string]int `json:"calls_by_way"`
	Authority     map[string]int `json:"authorities_counted"`
	Faults        map[string]int `json:"faults"`
	NotRun        []string       `json:"not_run"`
	LostEndings   int            `json:"endings_lost_by_the_store"`
	LostSessions  int            `json:"sessions_lost_by_the_store"`
	LostUpdates   int            `json:"updates_lost_by_the_store"`
	Judged        int            `json:"histories_judged"`
	Violations    int            `json:"violations"`
	ByRule        map[string]int `json:"violations_by_rule"`
	Findings      []Finding      `json:"findings"`
	ControlCaught []string       `json:"control_caught"`
	// ControlMissed are the falsifications that the checker did not notice: the run
	// proves nothing then. ControlUntried had no history to try with.
	ControlMissed  []string `json:"control_missed"`
	ControlUntried []string `json:"control_untried"`
}

// Quantiles are of durations, in milliseconds.
type Quantiles struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Finding is one violation with its story.
type Finding struct {
	Rule     check.Rule `json:"rule"`
	Session  string     `json:"session"`
	Text     string     `json:"text"`
	Timeline string     `json:"timeline"`
}

// String tells the violation in full.
func (f Finding) String() string {
	return fmt.Sprintf("%s: session %s: %s\n%s", f.Rule, f.Session, f.Text, f.Timeline)
}

// counters are the authorities' that are reported, by the name of their metric.
var counters = map[string]string{
	"sessiond_cache_hits_total":       "answered from memory",
	"sessiond_cache_misses_total":     "asked the store",
	"sessiond_cache_joined_total":     "shared a lookup",
	"sessiond_cache_fenced_total":     "passed by an event",
	"sessiond_feed_events_total":      "events",
	"sessiond_feed_forget_alls_total": "forgot all",
}

func (r *run) result(took time.Duration, notRun []string) *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.count
	slices.Sort(c.waits)
	out := &Result{
		Bound: r.Bound.String(), Seconds: took.Round(100 * time.Millisecond).Seconds(), Seed: r.Seed,
		Authorities: r.Authorities, Workers: r.Workers,
		Sessions: c.sessions, Revocations: c.revocations(), Endings: c.endings, Updates: c.updates, Attempts: c.attempts,
		RevokeMillis: Quantiles{Count: len(c.waits), P50: millis(quantile(c.waits, 0.5)), P99: millis(quantile(c.waits, 0.99)), Max: millis(quantile(c.waits, 1))},
		Operations:   c.operations(), Outcomes: byName(c.calls), Sources: byName(c.sources), Ways: byName(c.ways),
		Authority: map[string]int{}, Faults: map[string]int{}, NotRun: notRun,
		LostEndings: c.lost.endings, LostSessions: c.lost.sessions, LostUpdates: c.lost.updates,
		Judged: c.judged, ByRule: map[string]int{}, Findings: r.violations,
	}
	for _, a := range r.authorities {
		for metric, name := range counters {
			out.Authority[name] += int(a.counted[metric])
		}
	}
	for _, i := range r.incidents {
		out.Faults[i.fault]++
	}
	for rule, n := range c.rules {
		out.ByRule[string(rule)] = n
		out.Violations += n
	}
	out.ControlCaught, out.ControlMissed, out.ControlUntried = control(r.specimens.all())
	return out
}

func byName[K interface {
	comparable
	fmt.Stringer
}](counts map[K]int) map[string]int {
	out := map[string]int{}
	for k, n := range counts {
		out[k.String()] = n
	}
	return out
}

func millis(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

func (r *run) progress() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	violations := 0
	for _, n := range r.count.rules {
		violations += n
	}
	text := fmt.Sprintf("%d revocations, %d operations (%d from clients' memory), %d faults, %d violations",
		r.count.revocations(), r.count.operations(), r.count.sources[record.FromCache], len(r.incidents), violations)
	if r.count.failure != nil {
		text += fmt.Sprintf("; %d attempts without an answer, the last: %v", r.count.attempts, r.count.failure)
	}
	return text
}

// Table is the result for people.
func (r *Result) Table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, name+"\t"+format+"\n", args...) // a strings.Builder takes everything
	}
	row("staleness bound", "%s", r.Bound)
	row("processes", "%d authorities, %d workers, %.0f s, seed %d", r.Authorities, r.Workers, r.Seconds, r.Seed)
	row("sessions", "%d, of which %d were revoked; %d updates of fields", r.Sessions, r.Revocations, r.Updates)
	row("revocations", "%s", listed(r.Endings))
	row("Revoke took", "p50 %.1f ms, p99 %.1f ms, max %.1f ms (%d, repetitions included)", r.RevokeMillis.P50, r.RevokeMillis.P99, r.RevokeMillis.Max, r.RevokeMillis.Count)
	row("operations", "%d: %s", r.Operations, listed(r.Outcomes))
	row("accepted by", "%s", listed(r.Sources))
	row("ways", "%s", listed(r.Ways))
	row("authorities", "%s", listed(r.Authority))
	row("faults", "%s", listed(r.Faults))
	for _, n := range r.NotRun {
		row("", "%s", n)
	}
	row("lost by the store", "%d endings, %d sessions, %d updates; %d attempts without an answer", r.LostEndings, r.LostSessions, r.LostUpdates, r.Attempts)
	row("histories judged", "%d", r.Judged)
	row("violations", "%d %s", r.Violations, listed(r.ByRule))
	row("control", "caught: %s", strings.Join(r.ControlCaught, ", "))
	if len(r.ControlMissed) > 0 {
		row("", "MISSED: %s", strings.Join(r.ControlMissed, ", "))
	}
	if len(r.ControlUntried) > 0 {
		row("", "not tried, no history was like that: %s", strings.Join(r.ControlUntried, ", "))
	}
	_ = w.Flush() // as above
	return b.String()
}

// listed names counts, the greatest first.
func listed(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if d := counts[b] - counts[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(names, ", ")
}

// event is one line of a timeline.
type event struct {
	from, to int64
	text     string
}

// timeline tells what happened to a session, around a violation.
func timeline(h *check.History, v check.Violation, incidents []incident, bound int64) string {
	const margin = int64(time.Second)
	first := v.At - 2*bound - margin
	last := v.At + margin
	var events []event
	for _, c := range h.Changes {
		first = min(first, c.Sent-margin)
		text := c.How
		switch c.Kind {
		case check.Ends:
			text += fmt.Sprintf("; nobody may go by what was before from %s on", moment(c.Until, v.At))
		case check.MayEnd:
			text += "; no answer"
		case check.MayRestore:
		}
		events = append(events, event{c.Sent, c.Acked, text})
	}
	for _, row := range []struct {
		name    string
		updates []check.Update
	}{{"user", h.User}, {"session", h.Session}} {
		for _, u := range row.updates {
			events = append(events, event{u.Sent, u.Acked, fmt.Sprintf("version %d of the %s is written", u.Version, row.name)})
		}
	}
	for _, i := range incidents {
		if i.begun <= last && (i.ended == 0 || i.ended >= first) {
			ended := i.ended
			if ended == 0 {
				ended = check.Forever
			}
			events = append(events, event{i.begun, ended, "fault " + i.fault + " " + i.what})
		}
	}
	events = append(events, callEvents(h, first, last)...)
	slices.SortStableFunc(events, func(a, b event) int {
		if a.from != b.from {
			return int(max(-1, min(1, a.from-b.from)))
		}
		return strings.Compare(a.text, b.text)
	})
	var b strings.Builder
	b.WriteString("  milliseconds before and after the violation\n")
	for _, e := range events {
		_, _ = fmt.Fprintf(&b, "  [%s, %s] %s\n", moment(e.from, v.At), moment(e.to, v.At), e.text)
	}
	return b.String()
}

// callEvents are the calls in the interval. Of calls of one worker that ended alike
// one after the other only the first and the last are told.
func callEvents(h *check.History, first, last int64) []event {
	type key struct {
		worker        int
		outcome       record.Outcome
		source        record.Source
		way           record.Way
		user, session int32
	}
	calls := slices.Clone(h.Calls)
	slices.SortFunc(calls, func(a, b check.Call) int { return int(max(-1, min(1, a.Start-b.Start))) })
	var out []event
	alike := map[int]key{}
	open := map[int]int{} // by worker: the last event told
	repeated := map[int]int{}
	for _, c := range calls {
		if c.Start < first || c.Start > last {
			continue
		}
		k := key{c.Worker, c.Outcome, c.Source, c.Way, c.UserVersion, c.SessionVersion}
		text := fmt.Sprintf("worker %d: %s (%s, %s)", c.Worker, c.Outcome, c.Way, c.Source)
		if c.Outcome == record.Accepted {
			text += fmt.Sprintf(" versions %d and %d", c.UserVersion, c.SessionVersion)
		}
		if n, ok := open[c.Worker]; ok && alike[c.Worker] == k {
			if repeated[c.Worker]++; repeated[c.Worker] > 1 {
				out[n] = event{c.Start, c.End, fmt.Sprintf("%s, after %d more like it", text, repeated[c.Worker]-1)}
				continue
			}
		} else {
			repeated[c.Worker] = 0
		}
		alike[c.Worker], open[c.Worker] = k, len(out)
		out = append(out, event{c.Start, c.End, text})
	}
	return out
}

func moment(t, origin int64) string {
	if t == check.Forever {
		return "..."
	}
	return fmt.Sprintf("%+.3f", float64(t-origin)/float64(time.Millisecond))
}
