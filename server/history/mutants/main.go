// Mutants leaves rules of the coherence protocol out of the code, one at a time,
// and shows that the tests or the history checker notice.
//
// A mutant is a file NAME.patch: a header, an empty line, and a unified diff
// against the repository's root. It is applied to copies of the files it names,
// which the go command is given in their place (go build -overlay), so the tree
// is never touched and production code has no switches.
//
// The header's lines:
//
//	Rule: A2                 the rule of docs/contract.md that is left out
//	Model: 2                 the mutant's number in the protocol's model
//	Why: …                   what follows without it
//	Test: ./PKG -run NAME    arguments of the go test that has to fail, or
//	History: FLAGS           flags of the history run that has to find a violation
//
//	go run ./mutants [-list] [NAME...]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// mutant is one patch.
type mutant struct {
	name, rule, model, why string
	test, history          string
	diff                   []byte
}

// result is what became of one.
type result struct {
	mutant
	caught  bool
	by      string
	detail  string
	elapsed time.Duration
}

var errSurvived = errors.New("a mutant was not caught: either a test is missing or the rule is not needed")

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	list := flags.Bool("list", false, "only list the mutants and check that their patches apply")
	dir := flags.String("dir", "mutants", "folder of the patches")
	root := flags.String("root", "../..", "the repository's root")
	if err := flags.Parse(args); err != nil {
		return err
	}
	mutants, err := load(*dir, flags.Args())
	if err != nil {
		return err
	}
	absolute, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	var results []result
	for _, m := range mutants {
		r, err := try(ctx, absolute, m, *list)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if *list {
			fmt.Fprintf(os.Stderr, "%-40s applies\n", m.name)
			continue
		}
		fmt.Fprintf(os.Stderr, "%-40s %s %s (%.0f s)\n", m.name, verdict(r), r.detail, r.elapsed.Seconds())
		results = append(results, r)
	}
	if err := print(out, results); err != nil {
		return err
	}
	if !*list && slices.ContainsFunc(results, func(r result) bool { return !r.caught }) {
		return errSurvived
	}
	return nil
}

func verdict(r result) string {
	if r.caught {
		return "caught by " + r.by
	}
	return "NOT CAUGHT"
}

func print(out io.Writer, results []result) error {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "mutant\trule\tmodel\tcaught by\tafter") // a Builder takes everything
	for _, r := range results {
		by := r.by
		if !r.caught {
			by = "-"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t#%s\t%s\t%s\n", r.name, r.rule, r.model, by, r.detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(out, table.String())
	return err
}

// load reads the patches of a folder, or those that are named.
func load(dir string, names []string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var out []mutant
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".patch")
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		m, err := parse(name, content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, m)
	}
	if len(out) == 0 || len(names) > 0 && len(out) != len(names) {
		return nil, fmt.Errorf("%s holds %d of the mutants asked for", dir, len(out))
	}
	return out, nil
}

func parse(name string, content []byte) (mutant, error) {
	m := mutant{name: name}
	header, diff, found := bytes.Cut(content, []byte("\n\n"))
	if !found {
		return m, errors.New("no empty line between header and diff")
	}
	m.diff = diff
	for line := range strings.Lines(string(header)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			return m, fmt.Errorf("header line %q is not KEY: VALUE", strings.TrimSpace(line))
		}
		switch key {
		case "Rule":
			m.rule = value
		case "Model":
			m.model = value
		case "Why":
			m.why = value
		case "Test":
			m.test = value
		case "History":
			m.history = value
		default:
			return m, fmt.Errorf("unknown header key %q", key)
		}
	}
	if m.rule == "" || m.why == "" || (m.test == "") == (m.history == "") {
		return m, errors.New("the header needs Rule, Why, and one of Test and History")
	}
	return m, nil
}

// try builds one mutant and sees whether it is caught.
func try(ctx context.Context, root string, m mutant, applyOnly bool) (r result, err error) {
	start := time.Now()
	r.mutant = m
	work, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	overlay, err := makeOverlay(ctx, root, work, m)
	if err != nil || applyOnly {
		return r, err
	}
	if m.test != "" {
		err = r.byTest(ctx, root, overlay)
	} else {
		err = r.byHistory(ctx, root, work, overlay)
	}
	r.elapsed = time.Since(start)
	return r, err
}

var changed = regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)`)

// makeOverlay applies the patch to copies and returns the overlay's file.
func makeOverlay(ctx context.Context, root, work string, m mutant) (string, error) {
	tree := filepath.Join(work, "tree")
	replace := map[string]string{}
	for _, match := range changed.FindAllSubmatch(m.diff, -1) {
		path := string(match[1])
		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return "", err
		}
		target := filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(target, content, 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, path)] = target
	}
	if len(replace) == 0 {
		return "", errors.New("the patch changes no file")
	}
	apply := exec.CommandContext(ctx, "git", "apply", "-p1", "-")
	apply.Dir, apply.Stdin = tree, bytes.NewReader(m.diff)
	// Outside of any repository, so that the paths are those of the copies.
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(work))
	if text, err := apply.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the patch does not apply any more: bring it up to date: %s", text)
	}
	content, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(work, "overlay.json")
	return file, os.WriteFile(file, content, 0o600)
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// byTest runs the tests that have to fail. One that does not compile proves nothing.
func (r *result) byTest(ctx context.Context, root, overlay string) error {
	args := append([]string{"test", "-count=1", "-timeout=5m", "-overlay=" + overlay}, strings.Fields(r.test)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit) || ctx.Err() != nil:
		return err
	}
	names := failed.FindAllSubmatch(out, -1)
	if len(names) == 0 && !bytes.Contains(out, []byte("panic:")) && !bytes.Contains(out, []byte("DATA RACE")) {
		return fmt.Errorf("the mutant could not be tested:\n%s", out)
	}
	r.caught, r.by = true, "enumeration"
	if len(names) > 0 {
		r.detail = string(names[len(names)-1][1])
	}
	if step := steps.FindSubmatch(out); step != nil {
		r.detail += ", " + string(step[1])
	}
	return nil
}

// steps is how a test says how far it came.
var steps = regexp.MustCompile(`(after \d+ (?:operations|orders|steps|headers of [^:]+))`)

// byHistory builds the programs with the mutant and runs the history checker.
func (r *result) byHistory(ctx context.Context, root, work, overlay string) error {
	module := filepath.Join(root, "server", "history")
	for name, b := range map[string][2]string{"sessiond": {root, "./server/cmd/sessiond"}, "worker": {module, "./worker"}} {
		cmd := exec.CommandContext(ctx, "go", "build", "-overlay="+overlay, "-o", filepath.Join(work, name), b[1])
		cmd.Dir = b[0]
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	args := append([]string{"test", "-count=1", "-timeout=20m", "-run=^TestHistory$", ".",
		"-sessiond=" + filepath.Join(work, "sessiond"), "-worker=" + filepath.Join(work, "worker")}, strings.Fields(r.history)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit) || ctx.Err() != nil || !bytes.Contains(out, []byte(" violations after ")):
		return fmt.Errorf("the history run did not finish: %w\n%s", err, out)
	}
	r.caught, r.by = true, "history"
	if step := steps.FindSubmatch(out); step != nil {
		r.detail = string(step[1])
	}
	return nil
}
