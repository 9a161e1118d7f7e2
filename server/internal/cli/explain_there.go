package cli

import (
	"context"
	"flag"
	"strings"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/authority"
)

// asksServer reports whether an argument has a running authority explain.
func asksServer(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return strings.HasPrefix(arg, "-") && (name == "id" || name == "server")
}

// explainThere has a running authority explain.
func explainThere(ctx context.Context, args []string, s Streams, env []string) int {
	fs := flag.NewFlagSet("explain", flag.ContinueOnError)
	var operator operatorFlags
	operator.register(fs, "127.0.0.1:8443")
	id := fs.String("id", "", "ID: of a refusal")
	asJSON := fs.Bool("json", false, "print JSON")
	r := sessionsRun{streams: s}
	r.from.register(fs)
	if code, goOn := parse(fs, args, s, explainSynopsis); !goOn {
		return code
	}
	req := &sessiondv1.ExplainRequest{What: &sessiondv1.ExplainRequest_ExplainId{ExplainId: *id}}
	if *id == "" {
		credential, err := r.credential()
		if err != nil {
			fail(s, "explain: %v", err)
			return exitUsage
		}
		req.What = &sessiondv1.ExplainRequest_Credential{Credential: credential}
	}
	var e authority.Explanation
	err := operator.call(ctx, env, func(ctx context.Context, c sessiondv1.SessionAdminServiceClient) error {
		resp, err := c.Explain(ctx, req)
		e = explanationOf(resp.GetExplanation())
		return err
	})
	if err != nil {
		return failed(s, "explain", err)
	}
	return reportExplanation(s, e, e.Verdict == authority.VerdictUndecided, *asJSON)
}

func explanationOf(in *sessiondv1.Explanation) authority.Explanation {
	e := authority.Explanation{Verdict: in.GetVerdict()}
	if in.GetReason() != sessiondv1.Reason_REASON_UNSPECIFIED {
		e.Reason = strings.TrimPrefix(in.GetReason().String(), "REASON_")
	}
	for _, step := range in.GetSteps() {
		e.Steps = append(e.Steps, authority.Step{Name: step.GetName(), OK: step.GetOk(), Detail: step.GetDetail()})
	}
	for _, a := range in.GetAdvice() {
		e.Advice = append(e.Advice, authority.Advice{Fault: authority.Fault(a.GetFault()), Cause: a.GetCause(), Setting: a.GetSetting()})
	}
	return e
}
