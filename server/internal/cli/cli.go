// Package cli is the program's command line: one file a subcommand.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/sessiond/sessiond/server/internal/config"
)

// The exit codes, as documented in help.
const (
	exitGood      = 0 // done; for validate and explain: the session is good
	exitRefused   = 1 // the session is refused; for doctor and feed status: something is to be mended
	exitUsage     = 2 // the command line, the configuration or the input is wrong
	exitUndecided = 3 // nothing was found out about the session
	exitFailed    = 4 // the server could not start or stopped with an error; for doctor: something does not work
)

// Streams are the program's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// command is one subcommand.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, s Streams, env []string) int
}

func commands() []command {
	return []command{
		{"serve", "run the authority", serve},
		{"validate", "ask a running authority about a credential", validate},
		{"explain", "decide a credential here, step by step, with the same configuration as serve", explain},
		{"sessions", "make, list, refresh and end sessions through a running authority", sessionsCommand},
		{"feed", "install, inspect or remove the change feed in the issuer's database", feedCommand},
		{"doctor", "check a deployment from outside in, and say what to mend", doctorCommand},
		{"version", "print the version", version},
	}
}

// Main runs the program and returns its exit code.
func Main(ctx context.Context, args []string, s Streams, env []string) int {
	out := &printer{w: s.Err}
	if len(args) == 0 {
		usage(out)
		return exitUsage
	}
	switch name := args[0]; name {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 {
			return Main(ctx, []string{args[1], "--help"}, s, env)
		}
		usage(&printer{w: s.Out})
		return exitGood
	default:
		for _, c := range commands() {
			if c.name == name {
				return c.run(ctx, args[1:], s, env)
			}
		}
		out.line("sessiond: %q is not a command", name)
		usage(out)
		return exitUsage
	}
}

func usage(out *printer) {
	out.line("sessiond decides whether a session credential is good.")
	out.line("")
	out.line("  sessiond COMMAND [FLAGS]")
	out.line("")
	for _, c := range commands() {
		out.line("  %-10s %s", c.name, c.summary)
	}
	out.line("")
	out.line("sessiond COMMAND --help lists a command's flags.")
	out.line("Exit codes: 0 done, or the session is good; 1 refused (doctor: something is to be mended);")
	out.line("2 wrong usage, configuration or input; 3 undecided (nothing was found out about the session);")
	out.line("4 the server failed (doctor: something does not work).")
}

// printer writes lines and keeps the first error: a closed pipe ends the output,
// not the program.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// parse parses a command's flags. A false result means that the command is over,
// with that exit code. Arguments beside flags are refused: a credential on the
// command line would stay in the shell's history and show in process lists.
func parse(fs *flag.FlagSet, args []string, s Streams, synopsis string) (code int, goOn bool) {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		help(&printer{w: s.Out}, fs, synopsis)
		return exitGood, false
	case err != nil:
		fail(s, "%s: %v (sessiond %s --help lists the flags)", fs.Name(), err, fs.Name())
		return exitUsage, false
	case fs.NArg() > 0:
		fail(s, "%s: takes flags only; a credential is read from standard input or --file, so that it stays out of the shell's history", fs.Name())
		return exitUsage, false
	}
	return exitGood, true
}

func help(out *printer, fs *flag.FlagSet, synopsis string) {
	out.line("%s", synopsis)
	out.line("")
	defaults := make(map[string]config.Setting)
	for _, setting := range config.Settings() {
		if !setting.EnvOnly {
			defaults[setting.Flag()] = setting
		}
	}
	var own, settings []*flag.Flag
	fs.VisitAll(func(f *flag.Flag) {
		if _, ok := defaults[f.Name]; ok {
			settings = append(settings, f)
		} else {
			own = append(own, f)
		}
	})
	for _, f := range own {
		out.line("  --%s\n        %s", f.Name, f.Usage)
	}
	if len(settings) == 0 {
		return
	}
	out.line("")
	out.line("Settings. Each is also an environment variable and a key of the file given with --config")
	out.line("(--store-driver is SESSIOND_STORE_DRIVER and driver in [store]); flag beats environment beats file.")
	for _, setting := range config.Settings() {
		text := setting.Help
		if setting.Default != "" {
			text += " Default: " + setting.Default + "."
		}
		if setting.EnvOnly {
			out.line("  %s (environment only)\n        %s", setting.Env(), text)
		} else {
			out.line("  --%s  %s\n        %s", setting.Flag(), setting.Type, text)
		}
	}
}

func fail(s Streams, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	(&printer{w: s.Err}).line("sessiond: %s", strings.ReplaceAll(text, "\n", "\n          "))
}
