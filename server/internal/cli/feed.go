package cli

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/config"
)

// feedTimeout bounds a whole feed command, the operator's answer excluded.
const feedTimeout = time.Minute

const feedSynopsis = `sessiond feed install [--without-triggers] [--role ROLE] [--print | --yes] [FLAGS]
sessiond feed status [FLAGS]
sessiond feed remove [--print | --yes] [FLAGS]

The change feed tells the authority what others change: triggers on the session and user tables write what
ended into an outbox in the schema sessiond. install and remove show what they will run, ask, and run it in
one transaction; both may be repeated. status exits with 1 where something is wrong.`

func feedCommand(ctx context.Context, args []string, s Streams, env []string) int {
	action := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		action, args = args[0], args[1:]
	}
	fs := flag.NewFlagSet("feed", flag.ContinueOnError)
	given := config.RegisterFlags(fs)
	file := fs.String("config", "", "FILE: configuration file, TOML (SESSIOND_CONFIG)")
	yes := fs.Bool("yes", false, "run it without asking")
	only := fs.Bool("print", false, "print what would be run, as a script, and run nothing")
	without := fs.Bool("without-triggers", false, "install the outbox alone, where the rights for triggers are missing: sessions can be revoked, other changes are seen within the staleness bound")
	role := fs.String("role", "", "ROLE: database role that the authority connects as, which is given the rights it needs and no more (Postgres)")
	if code, goOn := parse(fs, args, s, feedSynopsis); !goOn {
		return code
	}
	cfg, bound, err := config.LoadStore(config.Sources{Flags: given, Env: env, File: *file})
	if err != nil {
		fail(s, "%v", err)
		return exitUsage
	}
	f := feedRun{streams: s, store: cfg, yes: *yes, only: *only}
	switch action {
	case "install":
		return f.install(ctx, server.FeedInstall{Bound: bound, WithoutTriggers: *without, Role: *role})
	case "remove":
		return f.remove(ctx)
	case "status":
		return f.status(ctx)
	default:
		fail(s, "feed: say what to do: sessiond feed install, status or remove")
		return exitUsage
	}
}

type feedRun struct {
	streams   Streams
	store     server.StoreConfig
	yes, only bool
}

func (f *feedRun) install(ctx context.Context, o server.FeedInstall) int {
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	plan, err := server.PlanFeedInstall(bounded, f.store, o)
	cancel()
	if err != nil {
		fail(f.streams, "feed install: %v", err)
		return exitFailed
	}
	code := f.apply(ctx, "install", plan.Statements)
	out := &printer{w: f.streams.Out}
	for _, note := range plan.Notes {
		out.line("%s", note)
	}
	return code
}

func (f *feedRun) remove(ctx context.Context) int {
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	plan, err := server.PlanFeedRemove(bounded, f.store)
	cancel()
	if err != nil {
		fail(f.streams, "feed remove: %v", err)
		return exitFailed
	}
	return f.apply(ctx, "remove", plan.Statements)
}

// apply shows the statements, asks, and runs them.
func (f *feedRun) apply(ctx context.Context, action string, statements []string) int {
	out := &printer{w: f.streams.Out}
	if len(statements) == 0 {
		out.line("nothing to do")
		return exitGood
	}
	for _, s := range statements {
		out.line("%s;", s)
	}
	if f.only {
		return exitGood
	}
	if !f.yes {
		agreed, err := f.ask(out)
		if err != nil {
			fail(f.streams, "feed %s: nothing was run: %v (--yes runs it without asking)", action, err)
			return exitUsage
		}
		if !agreed {
			out.line("nothing was run")
			return exitUsage
		}
	}
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	if err := server.ApplyFeedPlan(bounded, f.store, statements); err != nil {
		fail(f.streams, "feed %s: nothing was changed: %v", action, err)
		return exitFailed
	}
	out.line("done")
	return exitGood
}

func (f *feedRun) ask(out *printer) (bool, error) {
	if file, ok := f.streams.In.(*os.File); ok {
		if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
			return false, fmt.Errorf("standard input is no terminal to ask on")
		}
	}
	out.line("run this? Type yes:")
	line, err := bufio.NewReader(f.streams.In).ReadString('\n')
	return strings.TrimSpace(line) == "yes", err
}

func (f *feedRun) status(ctx context.Context) int {
	bounded, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	report, err := server.InspectFeed(bounded, f.store)
	if err != nil {
		fail(f.streams, "feed status: %v", err)
		return exitUndecided
	}
	out := &printer{w: f.streams.Out}
	out.line("store             %s", report.Location)
	if report.Installed {
		out.line("outbox            version %d", report.Version)
		out.line("staleness bound   %v", report.Bound)
		out.line("coverage          %s", coverageText(report.Coverage))
		out.line("replicas          %d registered", report.Replicas)
		out.line("events            %d waiting to be cleaned", report.Events)
	}
	for _, p := range report.Problems {
		out.line("problem           %s", p)
	}
	if len(report.Problems) > 0 {
		return exitRefused
	}
	return exitGood
}

func coverageText(coverage string) string {
	if coverage == "own" {
		return "own (no triggers: revocations through sessiond only; other changes are seen within the bound)"
	}
	return "full (every change)"
}
