package catalogue_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/config"
)

var update = flag.Bool("update", false, "write docs/faults.md instead of comparing it")

// least is how many faults the catalogue has to hold.
const least = 60

// TestCatalogue seeds each fault and has it explained here, by a running authority, and
// by one that refused it before. The top cause has to be the fault.
func TestCatalogue(t *testing.T) {
	rows := map[string]authority.Explanation{}
	n := 0
	for _, group := range seeds {
		for _, s := range group.seeds {
			n++
			if _, twice := rows[s.name]; twice {
				t.Fatalf("two seeds are called %s", s.name)
			}
			rows[s.name] = authority.Explanation{}
			t.Run(s.name, func(t *testing.T) { rows[s.name] = try(t, s) })
		}
	}
	if n < least {
		t.Errorf("%d faults, want %d", n, least)
	}
	for _, e := range rows {
		if e.Verdict == "" {
			return // it failed, or -run left it out
		}
	}
	if t.Failed() {
		return
	}
	path := filepath.Join("..", "..", "..", "docs", "faults.md")
	want := page(rows, startPage(t))
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("docs/faults.md differs from what explain says: run make faults\n%s", diff)
	}
}

func try(t *testing.T, s seed) authority.Explanation {
	h := newHouse(t)
	s.set(h)
	there := h.serve()
	h.before()

	local, text := h.explained(h.environment(), "--as="+h.as)
	remote, remoteText := h.explained(nil, "--as="+h.as, "--server="+there)
	printed, _, _ := h.run(h.environment(), "explain", "--as="+h.as)
	for how, e := range map[string]authority.Explanation{"here": local, "over gRPC": remote} {
		switch {
		case outcome(e) != s.reason:
			t.Errorf("%s: %s, want %s\n%+v", how, outcome(e), s.reason, e.Steps)
		case len(e.Advice) == 0 || e.Advice[0].Fault != s.fault:
			t.Errorf("%s: %+v, want %s first", how, e.Advice, s.fault)
		case !strings.HasPrefix(e.Advice[0].Setting, s.setting):
			t.Errorf("%s: setting %q, want %q", how, e.Advice[0].Setting, s.setting)
		}
	}
	if t.Failed() {
		return local
	}
	if !strings.Contains(steady(printed), steady(local.Advice[0].Cause)) || !strings.Contains(steady(printed), steady(local.Advice[0].Setting)) || !strings.Contains(printed, string(s.fault)) {
		t.Errorf("what is printed lacks the first cause:\n%s", printed)
	}
	checkSettings(t, local)
	h.checkTrace(there, local)
	for _, secret := range h.secrets() {
		for i := 0; i+6 <= len(secret); i++ {
			if piece := secret[i : i+6]; strings.Contains(text+remoteText+printed, piece) && !strings.Contains(cookieName, piece) {
				t.Fatal("six bytes of a secret, a token or a cookie's value are told")
			}
		}
	}
	return local
}

// clued are the faults that explain finds by asking the store for more than a verdict
// takes, which a trace does not do, or in a cookie that workers do not send.
var clued = map[authority.Fault]bool{
	authority.FaultTokenForm: true, authority.FaultSessionID: true, authority.FaultStoreEmpty: true, authority.FaultSecondaryEmpty: true,
	authority.FaultSecondaryPrefix: true, authority.FaultShadowed: true, authority.FaultBearerOverCookie: true,
	authority.FaultCacheOutlives: true, authority.FaultStoresDisagree: true, authority.FaultRowsHidden: true,
}

// checkTrace has a worker's call refused, and holds what is kept of it against what
// explain says of the same credential. Refusals of nothing are not kept, and what is
// wrong with a header as a whole never comes here: clients send the cookies that count.
func (h *house) checkTrace(server string, want authority.Explanation) {
	h.t.Helper()
	fault := want.Advice[0].Fault
	if want.Verdict != authority.VerdictRefused || want.Reason == authority.ReasonNoCredential.String() || fault == authority.FaultHeaderTooLarge || fault == authority.FaultHeaderControl {
		return
	}
	out, errs, code := h.run(nil, "validate", "--json", "--as="+h.as, "--server="+server)
	var v struct {
		Reason    string `json:"reason"`
		ExplainID string `json:"explain_id"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 || v.Reason != want.Reason {
		h.t.Fatalf("validate: exit code %d, %s, %s, %v", code, v.Reason, errs, err)
	}
	if v.ExplainID == "" {
		h.t.Fatal("the refusal has no id")
	}
	traced, _ := h.explained(nil, "--id="+v.ExplainID, "--server="+server)
	switch {
	case traced.Reason != want.Reason || len(traced.Advice) == 0:
		h.t.Errorf("the trace says %s with %d causes, explain %s", traced.Reason, len(traced.Advice), want.Reason)
	case clued[fault] != (traced.Advice[0].Fault != fault):
		// Where cookies shadow each other by their signatures alone, the trace sees it too.
		if want.Reason != authority.ReasonBadSignature.String() || traced.Advice[0].Fault != fault {
			h.t.Errorf("the trace names %s first, explain %s", traced.Advice[0].Fault, fault)
		}
	}
}

// outcome is the reason of a refusal, or the verdict.
func outcome(e authority.Explanation) string {
	if e.Verdict == authority.VerdictRefused {
		return e.Reason
	}
	return e.Verdict
}

var setting = regexp.MustCompile(`\b[a-z]+\.[a-z]+(_[a-z]+)*\b`)

// checkSettings holds the settings that are named against those there are.
func checkSettings(t *testing.T, e authority.Explanation) {
	t.Helper()
	for _, a := range e.Advice {
		for _, name := range setting.FindAllString(a.Setting, -1) {
			known := slices.ContainsFunc(config.Settings(), func(s config.Setting) bool { return s.Key == name })
			if table, _, _ := strings.Cut(name, "."); !known && slices.Contains([]string{"issuer", "store", "secondary", "policy", "limits", "feed", "cache"}, table) {
				t.Errorf("advice names %s, which is no setting", name)
			}
		}
	}
}

// TestEveryFaultIsSeeded: what explain can say, the catalogue has it say.
func TestEveryFaultIsSeeded(t *testing.T) {
	seeded := map[string]bool{}
	for _, group := range seeds {
		for _, s := range group.seeds {
			seeded[string(s.fault)] = true
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "authority", "fault.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	faults := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, v := range spec.Values {
			name, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			faults++
			if !seeded[name] && !secondary[name] {
				t.Errorf("fault %s has no seed", name)
			}
		}
		return true
	})
	if faults < least/2 {
		t.Errorf("found %d faults in fault.go", faults)
	}
}

// secondary are faults that only ever come after another.
var secondary = map[string]bool{
	string(authority.FaultStoreOther):    true,
	string(authority.FaultIssuerVersion): true,
}

// page is docs/faults.md.
func page(rows map[string]authority.Explanation, start string) string {
	var b strings.Builder
	n := 0
	for _, group := range seeds {
		n += len(group.seeds)
	}
	fmt.Fprintf(&b, `# Faults

Generated by `+"`make faults`"+` from `+"`server/internal/catalogue`"+`, which seeds each of these %d faults and has sessiond explain it on the command line, over gRPC and in
JSON (`+"`go test ./server/internal/catalogue`"+`). "Says" and "change" are its first cause and setting, word for word; "none:" means that no setting of
sessiond mends it. The fault's name is stable: `+"`Advice.fault`"+` in the contract, `+"`fault`"+` in JSON.
`, n)
	for _, group := range seeds {
		fmt.Fprintf(&b, "\n## %s\n\n| what is wrong | verdict | fault | explain says | change | seen in |\n|---|---|---|---|---|---|\n", group.title)
		for _, s := range group.seeds {
			e := rows[s.name]
			fmt.Fprintf(&b, "| %s | %s | `%s` | %s | %s | %s |\n", cell(s.what), outcome(e), e.Advice[0].Fault, cell(steady(e.Advice[0].Cause)), cell(steady(e.Advice[0].Setting)), cell(s.seen))
		}
	}
	return b.String() + start
}

// startPage tries what keeps explain and serve from deciding at all, and tells what is
// said of it.
func startPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("\n## Refused before anything is decided\n\nThese keep `serve` from starting; `explain` says them too.\n\n| what is wrong | sessiond says | seen in |\n|---|---|---|\n")
	for _, s := range starts {
		t.Run(s.what, func(t *testing.T) {
			h := newHouse(t)
			s.set(h)
			out, errs, code := h.run(h.environment(), "explain")
			if code != s.code || !strings.Contains(out+errs, s.says) {
				t.Fatalf("exit code %d, want %d, and %q:\n%s%s", code, s.code, s.says, out, errs)
			}
			for line := range strings.Lines(out + errs) {
				if strings.Contains(line, s.says) {
					line = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "NO  lookup"), "sessiond:"))
					fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(s.what), cell(steady(line)), cell(s.seen))
					return
				}
			}
		})
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

var (
	addresses = regexp.MustCompile(`(127\.0\.0\.1|\[::1\]):\d+`)
	files     = regexp.MustCompile(`/[^ ,;]+/issuer\.sqlite`)
	instants  = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	seconds   = regexp.MustCompile(`\b((\d+h)?(\d+)m)\d+s`)
)

// steady takes out of a text what another run would print otherwise.
func steady(s string) string {
	s = addresses.ReplaceAllString(s, "HOST:PORT")
	s = files.ReplaceAllString(s, "/…/issuer.sqlite")
	s = instants.ReplaceAllString(s, "…")
	return seconds.ReplaceAllString(s, "${1}0s")
}

var lengths = regexp.MustCompile(`\b\d+ bytes`)

// TestMotivating holds what docs/motivating.md prints of each spelling against what
// explain and doctor print.
func TestMotivating(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "motivating.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := lengths.ReplaceAllString(string(text), "N bytes")
	for _, s := range append(slices.Clone(seeds[0].seeds), seeds[1].seeds[0]) {
		t.Run(s.name, func(t *testing.T) {
			h := newHouse(t)
			s.set(h)
			explained, _, _ := h.run(h.environment(), "explain")
			_, causes, _ := strings.Cut(explained, "verdict: ")
			cookie := filepath.Join(t.TempDir(), "cookie")
			if err := os.WriteFile(cookie, []byte(h.input), 0o600); err != nil {
				t.Fatal(err)
			}
			examined, _, _ := h.run(h.environment(), "doctor", "--cookie-file", cookie)
			_, finding, _ := strings.Cut(examined, "cookie_names  ")
			finding, _, _ = strings.Cut(finding, " signature     ")
			finding = finding[:max(strings.LastIndexByte(finding, '\n'), 0)]
			want := "verdict: " + causes
			if s.reason == authority.ReasonNoCredential.String() {
				want += "cookie_names  " + finding
			}
			for line := range strings.Lines(want) {
				line = lengths.ReplaceAllString(strings.TrimSpace(line), "N bytes")
				if !strings.Contains(page, line) {
					t.Errorf("docs/motivating.md lacks: %s", line)
				}
			}
		})
	}
}
