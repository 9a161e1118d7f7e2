package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitMet    = 0
	exitMissed = 1
	exitFailed = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// measurement is a group of rows that share their set-up.
type measurement struct {
	name string
	run  func(context.Context, *lab) ([]Row, error)
}

// budget is every measurement, in the order of the budget table.
func budget() []measurement {
	return []measurement{
		{"hit", measureHit},
		{"unary", measureUnary},
		{"misses", measureMisses},
		{"cold", measureCold},
		{"issuer", measureIssuer},
		{"revoke", measureRevoke},
		{"stores", measureStores},
		{"start", measureStart},
		{"memory", measureMemory},
	}
}

// signOut is what -signout measures.
func signOut() []measurement {
	return []measurement{
		{"signout", measureSignOut},
		{"cost", measureCost},
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	// Complaints that cannot be shown leave the exit code to speak.
	fail := func(err error) int {
		_, _ = fmt.Fprintln(stderr, "compare:", err)
		return exitFailed
	}
	if len(args) > 0 && args[0] == echoArgument {
		if err := serveEcho(ctx, args[1:]); err != nil {
			return fail(err)
		}
		return exitMet
	}
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.SetOutput(stderr)
	root := fs.String("root", "../../..", "`DIR` of the repository")
	rows := fs.String("rows", "", "measure only these, by `NAME,…`: "+names(budget())+"; with -signout: "+names(signOut()))
	out := fs.String("out", "", "write the rows to `FILE` as JSON")
	rounds := fs.Int("rounds", 8, "`N` rounds a pair")
	short := fs.Bool("short", false, "short runs over little data: shows that it works, not how fast")
	sign := fs.Bool("signout", false, "measure sign-outs at a real issuer and what the feed costs it, instead of the budget")
	if err := fs.Parse(args); err != nil {
		return exitFailed
	}
	chosen := budget()
	if *sign {
		chosen = signOut()
	}
	chosen, err := choose(chosen, *rows)
	switch {
	case err != nil:
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case *rounds < 1:
		err = errors.New("-rounds must be at least 1")
	}
	if err != nil {
		return fail(err)
	}
	report, err := measure(ctx, chosen, labConfig{root: *root, rounds: *rounds, short: *short, progress: stderr})
	if len(report.Rows) > 0 {
		err = errors.Join(err, report.table(stdout))
	}
	// What was measured before a failure is shown, but never written as a result.
	if err == nil && *out != "" {
		err = report.write(*out)
	}
	if err != nil {
		return fail(err)
	}
	if slices.ContainsFunc(report.Rows, Row.missed) {
		return exitMissed
	}
	return exitMet
}

// measure runs the measurements one after the other. The report holds the rows
// up to the first error.
func measure(ctx context.Context, chosen []measurement, cfg labConfig) (_ Report, err error) {
	report := newReport(cfg)
	l, err := newLab(ctx, cfg)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	for _, m := range chosen {
		l.say("%s: measuring", m.name)
		rows, err := m.run(ctx, l)
		report.Rows = append(report.Rows, rows...)
		if err != nil {
			return report, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return report, nil
}

// choose returns the measurements named in a list; all for an empty one.
func choose(from []measurement, list string) ([]measurement, error) {
	if list == "" {
		return from, nil
	}
	var chosen []measurement
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(from, func(m measurement) bool { return m.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no row %q here: there are %s", name, names(from))
		}
		chosen = append(chosen, from[i])
	}
	return chosen, nil
}

func names(from []measurement) string {
	list := make([]string, len(from))
	for i, m := range from {
		list[i] = m.name
	}
	return strings.Join(list, ", ")
}
