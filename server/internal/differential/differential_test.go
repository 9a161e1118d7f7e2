package differential_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/config"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/store"
)

// envCount is how many headers each version and configuration decides; envSeed repeats
// a run, and envHeader asks for one header, as a disagreement prints it.
const (
	envCount     = "SESSIOND_TEST_DIFFERENTIAL"
	envSeed      = "SESSIOND_TEST_DIFFERENTIAL_SEED"
	envHeader    = "SESSIOND_TEST_DIFFERENTIAL_HEADER"
	defaultCount = 120
	batchSize    = 250
	// overSocket: one in so many is also sent as bytes over a socket.
	overSocket = 5
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestDifferential: for every generated header, Better Auth and the authority give the
// same verdict, session and user; where there are two stores, the strict rule accepts
// what Better Auth accepts and the row does too.
func TestDifferential(t *testing.T) {
	count, seed := int(number(t, envCount, defaultCount)), number(t, envSeed, rand.Uint64())
	t.Logf("%d headers each, seed %d", count, seed)
	var all table
	t.Cleanup(func() { t.Log(all.String()) })
	for _, version := range []string{"1.4", "1.7"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			cs := of(version)
			issuers := startIssuers(t, version, seed, cs)
			for i, c := range cs {
				t.Run(c.name, func(t *testing.T) {
					r := newRun(t, version, c, issuers[i], seed)
					if text := os.Getenv(envHeader); text != "" {
						r.one(text)
						return
					}
					r.all(count)
					all.add(r)
					if c.twoStores() {
						r.disagreements()
					}
				})
			}
		})
	}
}

// run is one version in one configuration.
type run struct {
	t       *testing.T
	name    string
	issuer  *issuer
	symbols symbols
	*generator
	ours *authority.Authority
	// strict is what decides by the strict rule; nil where there is one store.
	strict *authority.Authority
	store  store.Store
	want   []string // outcomes
	seed   uint64

	asked, sent, undecided int
	outcomes               map[string]int
}

func newRun(t *testing.T, version string, c configuration, i *issuer, seed uint64) *run {
	r := &run{
		t: t, name: "Better Auth " + version + ", " + c.name, issuer: i, symbols: newSymbols(i), generator: newGenerator(seed, i, version, c),
		want: c.outcomes(version), seed: seed, outcomes: make(map[string]int),
	}
	r.ours, r.store = open(t, i.flags, i.env)
	if c.twoStores() {
		strict := map[string]string{"policy.disagreement": "strict", "policy.refuse_banned": "true"}
		for k, v := range i.flags {
			strict[k] = v
		}
		r.strict, _ = open(t, strict, i.env)
	}
	return r
}

func open(t *testing.T, flags map[string]string, env []string) (*authority.Authority, store.Store) {
	t.Helper()
	cfg, err := config.Load(config.Sources{Flags: flags, Env: env}, false)
	if err != nil {
		t.Fatal(err)
	}
	st, err := server.OpenStore(t.Context(), cfg.Server.Store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := authority.New(cfg.Server.Authority, authority.Direct(st))
	if err != nil {
		t.Fatal(err)
	}
	return a, st
}

// all compares so many headers, and ends at the first disagreement.
func (r *run) all(count int) {
	plain := r.plain()
	for r.asked < count && !r.t.Failed() {
		batch := plain
		if r.asked > 0 {
			batch = make([]header, min(batchSize, count-r.asked))
			for i := range batch {
				batch[i] = r.next()
			}
		}
		first := r.asked == 0
		answers := r.issuer.ask(r.t, batch...)
		for i, h := range batch {
			outcome := r.compare(h, answers[i], i%overSocket == 0)
			if first && i < len(r.Made) {
				r.learn(strings.TrimSuffix(outcome, " by cookie"), r.Made[i])
			}
		}
	}
	for _, outcome := range r.want {
		if least := max(1, r.asked/100); r.outcomes[outcome] < least {
			r.t.Errorf("%s: %d of %d headers, fewer than %d: too few to say much", outcome, r.outcomes[outcome], r.asked, least)
		}
	}
}

// one says what both make of a header.
func (r *run) one(text string) {
	h, err := r.symbols.parse(text)
	if err != nil {
		r.t.Fatalf("%s: %v", envHeader, err)
	}
	want := r.issuer.ask(r.t, h)[0]
	e, _ := r.ours.Explain(r.t.Context(), time.Now(), r.store, credential(h))
	r.t.Logf("the issuer: %s; here: %s %s\n%+v", want, e.Verdict, e.Reason, e.Steps)
	if says := r.disagreement(h, want); says != "" {
		r.t.Error(says)
	}
}

func credential(h header) authority.Credential {
	c := authority.Credential{}
	if h.cookie != nil {
		c.Cookie = *h.cookie
	}
	if h.authorization != nil {
		c.Authorization = *h.authorization
	}
	return c
}

func (r *run) decide(a *authority.Authority, h header) authority.Answer {
	r.t.Helper()
	got, err := a.Validate(r.t.Context(), authority.Call{Now: time.Now(), Arrived: clock.Now()}, credential(h))
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// disagreement says in what we differ from the issuer; empty: in nothing.
func (r *run) disagreement(h header, want verdict) string {
	return r.differs(h, want, r.decide(r.ours, h))
}

func (r *run) differs(h header, want verdict, got authority.Answer) string {
	switch {
	case want.good != got.Verdict.Good():
		return fmt.Sprintf("the issuer: %s; here: %s", want, reasonOf(got))
	case want.good && (want.session != got.Record.Session.ID || want.user != got.Record.User.ID || want.name != got.Record.User.Name):
		return "both: good; the issuer: another session or user"
	case r.strict == nil:
		return ""
	}
	row := slices.ContainsFunc(r.Made, func(m made) bool { return m.User == want.user && m.Row })
	if strict := r.decide(r.strict, h); strict.Verdict.Good() != (want.good && row) {
		return fmt.Sprintf("the issuer: %s; its row: good %t; strict: %s", want, row, reasonOf(strict))
	}
	return ""
}

func reasonOf(a authority.Answer) string {
	if a.Verdict.Good() {
		return "good"
	}
	return a.Verdict.Reason.String()
}

// compare counts a header and returns what came of it.
func (r *run) compare(h header, want verdict, socket bool) (outcome string) {
	r.t.Helper()
	r.asked++
	if socket {
		r.sent++
		if over := r.issuer.send(r.t, h); over != want {
			r.t.Errorf("the issuer itself differs: in process %s, over a socket %s: %s", want, over, r.symbols.text(h))
		}
	}
	if want.status != 0 {
		r.undecided++ // it crashed, or its HTTP parser refused: we refuse
	}
	got := r.decide(r.ours, h)
	switch {
	case !got.Verdict.Good():
		outcome = got.Verdict.Reason.String()
	case got.Secret < 0:
		outcome = "good by bare token"
	case h.cookie == nil:
		outcome = "good by bearer"
	default:
		outcome = "good by cookie"
	}
	r.outcomes[outcome]++
	if says := r.differs(h, want, got); says != "" {
		r.report(h, says)
	}
	return outcome
}

// report shows the smallest header that makes the same difference, and ends the run.
func (r *run) report(h header, says string) {
	r.t.Helper()
	h = r.symbols.minimise(h, func(h header) bool { return r.disagreement(h, r.issuer.ask(r.t, h)[0]) == says })
	e, _ := r.ours.Explain(r.t.Context(), time.Now(), r.store, credential(h))
	name := strings.ReplaceAll("^"+strings.ReplaceAll(r.t.Name(), "/", "$/^")+"$", " ", "_")
	r.t.Fatalf("after %d headers of %s: %s\n%s\n%+v\nagain: %s=%d %s=%s go test -count=1 -v -run '%s' ./server/internal/differential",
		r.asked, r.name, says, r.symbols.text(h), e.Steps, envSeed, r.seed, envHeader, r.symbols.text(h), name)
}

// table is what came of all runs.
type table struct {
	mu   sync.Mutex
	runs []*run
}

func (a *table) add(r *run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs = append(a.runs, r)
}

// String is a table for docs/agreement.md.
func (a *table) String() string {
	columns := []string{
		"good by cookie", "good by bearer", "good by bare token", "NO_CREDENTIAL", "MALFORMED", "BAD_SIGNATURE", "UNSIGNED_NOT_ALLOWED", "RETIRED_SECRET",
		"NOT_FOUND", "EXPIRED", "USER_NOT_FOUND", "REVOKED", "STORED_VALUE_UNREADABLE", "SESSION_DATA_REJECTED",
	}
	slices.SortFunc(a.runs, func(x, y *run) int { return strings.Compare(x.name, y.name) })
	var b strings.Builder
	asked := 0
	fmt.Fprintf(&b, "what came of the headers\n\n| | %s | all | over a socket | undecided by the issuer |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)+3))
	for _, r := range a.runs {
		fmt.Fprintf(&b, "| %s", r.name)
		for _, c := range columns {
			fmt.Fprintf(&b, " | %d", r.outcomes[c])
		}
		fmt.Fprintf(&b, " | %d | %d | %d |\n", r.asked, r.sent, r.undecided)
		asked += r.asked
	}
	fmt.Fprintf(&b, "\n%d headers in all", asked)
	return b.String()
}
