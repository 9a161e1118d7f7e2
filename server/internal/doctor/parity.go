package doctor

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/issuer"
)

// stricter are the reasons that only our own policy gives.
var stricter = map[authority.Reason]string{
	authority.ReasonUserBanned:  "policy.refuse_banned",
	authority.ReasonUserDeleted: "policy.soft_delete_column",
	authority.ReasonLifetimeCap: "policy.max_lifetime",
	authority.ReasonIdleCap:     "policy.max_idle",
}

func checkParity(ctx context.Context, x *examination) []Finding {
	switch {
	case x.configErr != nil:
		return one(Skipped, "the configuration cannot be used")
	case !x.given():
		return one(Skipped, "%s", noCookie)
	}
	here := party{name: "sessiond, by this configuration,", decide: x.decide}
	var found []Finding
	if errors.Is(x.databaseErr, server.ErrNoStore) {
		found = one(Skipped, "a stateless issuer cannot be asked: the process that made a session accepts it without its cookie")
	} else if x.IssuerURL == "" {
		found = one(Skipped, "the issuer's URL is not known (--issuer, or issuer.base_url)")
	} else {
		c, err := issuer.New(x.IssuerURL)
		if err != nil {
			return one(Fail, "%v", err)
		}
		defer c.Close()
		theirs := party{name: "the issuer", decide: func(ctx context.Context) (issuer.Verdict, authority.Reason, error) {
			v, err := c.Ask(ctx, x.Cookie, x.Authorization)
			return v, authority.ReasonNone, err
		}}
		found = x.compare(ctx, here, theirs)
		here = theirs // what the running authority has to agree with
	}
	if x.Address == "" {
		return found
	}
	conn, err := x.dial(x.Address)
	if err != nil {
		return append(found, one(Fail, "%s: %v", x.Address, err)...)
	}
	defer conn.Close() //nolint:errcheck // nothing was sent that needs an answer
	running := party{name: "the authority at " + x.Address, decide: func(ctx context.Context) (issuer.Verdict, authority.Reason, error) {
		return ask(ctx, sessiondv1.NewSessionServiceClient(conn), x.Cookie, x.Authorization)
	}}
	return append(found, x.compare(ctx, running, here)...)
}

// party is somebody who decides.
type party struct {
	name   string
	decide func(context.Context) (issuer.Verdict, authority.Reason, error)
}

// compare holds one party's verdict against another's.
func (x *examination) compare(ctx context.Context, us, them party) []Finding {
	first, ourReason, err := us.decide(ctx)
	if err != nil {
		return one(Warn, "%s gave no verdict: %v", us.name, err)
	}
	var theirReason authority.Reason
	c := issuer.Compare(ctx, first, remember(us, &ourReason), remember(them, &theirReason))
	switch {
	case errors.Is(c.Err, issuer.ErrNoVerdict):
		return []Finding{mend(Warn, "--issuer URL, with the basePath", "nothing to compare with: %v", c.Err)}
	case c.Err != nil:
		return []Finding{mend(Warn, "try again", "nothing to compare with: %v", c.Err)}
	case c.Outcome == issuer.Agree && c.Ours.Good:
		return one(OK, "%s and %s agree: session %s of user %s", us.name, them.name, c.Ours.SessionID, c.Ours.UserID)
	case c.Outcome == issuer.Agree:
		return []Finding{mend(Warn, "give the Cookie header of somebody who is signed in",
			"%s and %s both refuse it (%s): that shows little", us.name, them.name, ourReason)}
	case c.Outcome == issuer.Unknown:
		return []Finding{mend(Warn, "try again", "the answers changed while they were compared")}
	}
	if setting, ok := stricter[ourReason]; ok && c.Theirs.Good {
		return one(Note, "%s refuses it and %s does not, as %s has it (%s)", us.name, them.name, setting, ourReason)
	}
	return []Finding{x.disagreement(ctx,
		fmt.Sprintf("%s says %s, %s says %s", us.name, say(c.Ours, ourReason), them.name, say(c.Theirs, theirReason)))}
}

// remember asks a party and keeps the reason.
func remember(p party, reason *authority.Reason) func(context.Context) (issuer.Verdict, error) {
	return func(ctx context.Context) (v issuer.Verdict, err error) {
		v, *reason, err = p.decide(ctx)
		return v, err
	}
}

// disagreement adds how we decided, with what explain advises.
func (x *examination) disagreement(ctx context.Context, what string) Finding {
	// Where the store could not be asked, the last step says so.
	e, _ := x.authority.Explain(ctx, x.Now(), x.source(), x.credential())
	f := mend(Fail, "sessiond explain shows the same trace with advice", "%s", what)
	f.Trace = e.Steps
	if advice, ok := e.Remedy(); ok && advice.Setting != "" {
		f.Fix = advice.Setting + ": " + advice.Cause
	}
	return f
}

// say puts a verdict into words.
func say(v issuer.Verdict, reason authority.Reason) string {
	switch {
	case v.Good:
		return fmt.Sprintf("good (session %s of user %s)", v.SessionID, v.UserID)
	case reason != authority.ReasonNone:
		return "refused (" + reason.String() + ")"
	}
	return "refused"
}

// source is where explain looks.
func (x *examination) source() authority.Source {
	if x.storeErr != nil {
		return authority.NoStore{Err: x.storeErr}
	}
	return x.store
}

// decide is our own verdict, by the code that serves.
func (x *examination) decide(ctx context.Context) (issuer.Verdict, authority.Reason, error) {
	answer, err := x.authority.Validate(ctx, authority.Call{Now: x.Now(), Arrived: clock.Now()}, x.credential())
	if err != nil {
		return issuer.Verdict{}, 0, err
	}
	v := issuer.Verdict{Good: answer.Verdict.Good()}
	if v.Good {
		v.SessionID, v.UserID = answer.Record.Session.ID, answer.Record.Session.UserID
	}
	return v, answer.Verdict.Reason, nil
}

// ask is the verdict of a running authority, read from its store.
func ask(ctx context.Context, c sessiondv1.SessionServiceClient, cookie, authorization string) (issuer.Verdict, authority.Reason, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	headers := &sessiondv1.Headers{Cookie: []byte(cookie), Authorization: []byte(authorization)}
	resp, err := c.Validate(ctx, &sessiondv1.ValidateRequest{
		Credential: &sessiondv1.Credential{Kind: &sessiondv1.Credential_Headers{Headers: headers}},
		MaxAge:     durationpb.New(0),
	})
	if err != nil {
		return issuer.Verdict{}, 0, err
	}
	if s := resp.GetSession(); s != nil {
		return issuer.Verdict{Good: true, SessionID: s.GetId(), UserID: s.GetUserId()}, 0, nil
	}
	return issuer.Verdict{}, authority.Reason(resp.GetRefusal().GetReason()), nil //nolint:gosec // the values are equal, which a test of rpc compares
}
