package cli

import (
	"context"
	"encoding/json"
	"flag"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/config"
)

const explainTimeout = 10 * time.Second

func explain(ctx context.Context, args []string, s Streams, env []string) int {
	fs := flag.NewFlagSet("explain", flag.ContinueOnError)
	given := config.RegisterFlags(fs)
	file := fs.String("config", "", "FILE: configuration file, TOML (SESSIOND_CONFIG)")
	asJSON := fs.Bool("json", false, "print JSON")
	var from inputFlags
	from.register(fs)
	if code, goOn := parse(fs, args, s, "sessiond explain [--file FILE] [--json] [FLAGS] < COOKIE_HEADER\n\nDecides a credential as serve with the same settings would, and prints each step. Prints names, lengths and\ndigests; never a token, a cookie's value, a signature or a secret."); !goOn {
		return code
	}
	cfg, err := config.Load(config.Sources{Flags: given, Env: env, File: *file}, false)
	if err != nil {
		fail(s, "%v", err)
		return exitUsage
	}
	in, err := from.read(s.In)
	if err != nil {
		fail(s, "explain: %v", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	st, err := server.OpenStore(ctx, cfg.Server.Store)
	if err != nil {
		fail(s, "%v", err)
		return exitUndecided
	}
	defer st.Close() //nolint:errcheck // read only, and the process ends
	a, err := authority.New(cfg.Server.Authority, authority.Direct(st))
	if err != nil {
		fail(s, "%v", err)
		return exitUsage
	}
	e, storeErr := a.Explain(ctx, time.Now(), st.Describe(), in.authority())
	if *asJSON {
		enc := json.NewEncoder(s.Out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(e); err != nil {
			fail(s, "%v", err)
			return exitFailed
		}
	} else {
		printExplanation(&printer{w: s.Out}, e)
	}
	switch {
	case storeErr != nil:
		return exitUndecided
	case e.Verdict == authority.VerdictGood:
		return exitGood
	default:
		return exitRefused
	}
}

func (in input) authority() authority.Credential {
	switch in.form {
	case formValue:
		return authority.Credential{Form: authority.FormCookieValue, Value: in.value}
	case formToken:
		return authority.Credential{Form: authority.FormToken, Value: in.value}
	default:
		return authority.Credential{Form: authority.FormHeaders, Cookie: in.cookie, Authorization: in.authorization}
	}
}

func printExplanation(out *printer, e authority.Explanation) {
	for _, step := range e.Steps {
		mark := "ok "
		if !step.OK {
			mark = "NO "
		}
		out.line("%s %-12s %s", mark, step.Name, step.Detail)
	}
	out.line("")
	if e.Reason != "" {
		out.line("verdict: %s, %s", e.Verdict, e.Reason)
	} else {
		out.line("verdict: %s", e.Verdict)
	}
	if e.NeedsRefresh {
		out.line("the issuer's refresh is due: ask its get-session to have it done")
	}
	for i, advice := range e.Advice {
		if i == 0 {
			out.line("")
			out.line("likely causes:")
		}
		out.line("  %d. %s", i+1, advice.Cause)
		if advice.Setting != "" {
			out.line("     setting: %s", advice.Setting)
		}
	}
}
