package cli

import (
	"context"
	"encoding/json"
	"flag"
	"slices"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/config"
)

const explainTimeout = 10 * time.Second

const explainSynopsis = `sessiond explain [--file FILE] [--json] [FLAGS] < COOKIE_HEADER
sessiond explain --server HOST:PORT [--file FILE] [--json] [--operator-secret-file FILE] < COOKIE_HEADER
sessiond explain --id ID [--server HOST:PORT] [--json] [--operator-secret-file FILE]

Says step by step how a credential is decided: here, with serve's settings and store, or with --server by a
running authority. --id prints how one was decided that the authority refused lately; workers' observers are
given the id. Prints names, lengths and digests; never a token, a cookie's value, a signature or a secret.`

func explain(ctx context.Context, args []string, s Streams, env []string) int {
	if slices.ContainsFunc(args, asksServer) {
		return explainThere(ctx, args, s, env)
	}
	fs := flag.NewFlagSet("explain", flag.ContinueOnError)
	given := config.RegisterFlags(fs)
	file := fs.String("config", "", "FILE: configuration file, TOML (SESSIOND_CONFIG)")
	asJSON := fs.Bool("json", false, "print JSON")
	var from inputFlags
	from.register(fs)
	if code, goOn := parse(fs, args, s, explainSynopsis); !goOn {
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
	// Most that can be wrong with a credential shows without a store.
	var records authority.Records
	var source authority.Source
	if st, err := server.OpenStore(ctx, cfg.Server.Store); err != nil {
		none := authority.NoStore{Err: err}
		records, source = none, none
	} else {
		defer st.Close() //nolint:errcheck // read only, and the process ends
		records, source = authority.Direct(st), st
	}
	a, err := authority.New(cfg.Server.Authority, records)
	if err != nil {
		fail(s, "%v", err)
		return exitUsage
	}
	e, storeErr := a.Explain(ctx, time.Now(), source, in.authority())
	return reportExplanation(s, e, storeErr != nil, *asJSON)
}

func reportExplanation(s Streams, e authority.Explanation, undecided, asJSON bool) int {
	if asJSON {
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
	case undecided:
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
		out.line("  %d. %s: %s", i+1, advice.Fault, advice.Cause)
		if advice.Setting != "" {
			out.line("     setting: %s", advice.Setting)
		}
	}
}
