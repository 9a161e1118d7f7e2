package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/sessiond/sessiond/server"
)

// A replica beats every fifth of the bound; what a look adds to that is for a
// machine that is busy.
const (
	beatsInBound = 5
	beatSlack    = 500 * time.Millisecond
)

func checkFeed(ctx context.Context, x *examination) []Finding {
	if errors.Is(x.databaseErr, server.ErrNoStore) {
		return one(Note, "%v: there is nothing to hear of, and sessions cannot be revoked", x.databaseErr)
	}
	bound := x.Server.Authority.StalenessBound
	if x.Server.Feed.Mode == server.FeedOff {
		return one(Note, "feed.mode is off: entries age out within %v, and sessions cannot be revoked here", bound)
	}
	if x.storeErr != nil {
		return one(Skipped, "the store cannot be opened")
	}
	report, err := server.InspectFeed(ctx, x.Server.Store)
	if err != nil {
		return one(Warn, "what is installed could not be told: %v", err)
	}
	keysOnly := x.Server.Store.Secondary != nil && !x.Server.Store.Secondary.InDatabase
	if !report.Installed && keysOnly {
		return one(Note, "there is none yet: the first authority that starts makes it in redis")
	}
	if !report.Installed {
		severity, what := Warn, "it is not installed: entries age out within %v, and sessions cannot be revoked here"
		if x.Server.Feed.Mode == server.FeedRequired {
			severity, what = Fail, "it is not installed, and with feed.mode=required serve does not start (bound %v)"
		}
		return []Finding{mend(severity, "sessiond feed install", what, bound)}
	}
	var found []Finding
	for _, problem := range report.Problems {
		found = append(found, mend(Fail, "sessiond feed install", "%s", problem))
	}
	if report.Bound != bound {
		anew := "sessiond feed install"
		if keysOnly {
			anew = "sessiond feed remove" // the next authority makes it anew
		}
		found = append(found, mend(Fail, "staleness_bound, or with all authorities stopped: "+anew,
			"it is installed for a staleness bound of %v and staleness_bound is %v: serve does not start", report.Bound, bound))
	}
	if report.Coverage == "own" {
		found = append(found, mend(Warn, "sessiond feed install, as the owner of the tables",
			"it has no triggers: what the issuer changes is seen within %v and not at once", report.Bound))
	}
	if len(found) == 0 {
		found = one(OK, "installed for a staleness bound of %v, covers every change", report.Bound)
	}
	return append(found, x.beats(ctx, report.Bound)...)
}

// beats looks at the registry twice, more than a beat apart.
func (x *examination) beats(ctx context.Context, bound time.Duration) []Finding {
	if x.databaseErr != nil {
		return one(Skipped, "the registry was not read")
	}
	before, ok, err := x.database.Beats(ctx)
	switch {
	case err != nil:
		return one(Warn, "the registry of replicas could not be read: %v", err)
	case !ok:
		return one(Skipped, "the store has no registry of replicas")
	case len(before) == 0 && x.Address != "":
		return []Finding{mend(Fail, "look at the log of the authority: it names why it does not register",
			"no replica is registered, though one is said to run at %s: it uses another database, or has given up", x.Address)}
	case len(before) == 0:
		return one(Note, "no replica is registered: none is running on this database")
	}
	wait := time.NewTimer(bound/beatsInBound + beatSlack)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return one(Warn, "interrupted between two looks at the registry")
	}
	after, _, err := x.database.Beats(ctx)
	if err != nil {
		return one(Warn, "the registry of replicas could not be read again: %v", err)
	}
	still, moved := 0, 0
	for id, beat := range after {
		if was, known := before[id]; known && was == beat {
			still++
		} else {
			moved++
		}
	}
	switch {
	case still > 0:
		return []Finding{mend(Warn, "look for a replica that hangs, or is cut off from the database; one that has ended leaves after the bound once another runs",
			"%d of %d registered replicas did not beat for %v: a revocation waits for each up to the bound", still, still+moved, (bound/beatsInBound + beatSlack).Round(time.Millisecond))}
	case moved == 0:
		return one(Note, "the last replica left meanwhile")
	}
	return one(OK, "replicas registered: %d, and all beat", moved)
}
