package doctor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server"
)

func checkSchema(_ context.Context, x *examination) []Finding {
	if errors.Is(x.databaseErr, server.ErrNoStore) {
		return one(Skipped, "%v", x.databaseErr)
	}
	if x.databaseErr != nil {
		return []Finding{mend(Fail, "see what was found", "%v", x.databaseErr)}
	}
	t := x.database.Tables()
	found := one(OK, "%s: sessions in %s, users in %s", t.Location, t.Session.Name, t.User.Name)
	for _, columns := range t.Columns {
		found = append(found, one(OK, "%s", columns)...)
	}
	if len(t.Zoneless) == 0 {
		return found
	}
	columns := strings.Join(t.Zoneless, ", ")
	if zone := x.Server.Store.Zone; zone != nil {
		return append(found, mend(Note, "", "%s hold instants without a time zone, read as %s", columns, zone))
	}
	return append(found, mend(Warn, "store.time_zone: the zone of the process that writes them (Better Auth 1.2: its local time; Drizzle's timestamp(): UTC)",
		"%s hold instants without a time zone, and store.time_zone is not set: they are read as %s", columns, time.UTC))
}

func checkIndex(ctx context.Context, x *examination) []Finding {
	if x.databaseErr != nil {
		return one(Skipped, "the tables were not found")
	}
	p, err := x.database.Plan(ctx)
	switch {
	case err != nil:
		return one(Warn, "the plan of the lookup could not be had: %v", err)
	case !p.Indexed:
		return []Finding{mend(Fail, p.CreateIndex, "no index leads to a token: %s of the whole session table", p.Detail)}
	}
	if x.storeErr != nil {
		return []Finding{mend(Fail, "see what was found", "serve would not open the store: %v", x.storeErr)}
	}
	return one(OK, "%s", p.Detail)
}

func checkSecondary(ctx context.Context, x *examination) []Finding {
	state, ok, err := server.ExamineSecondary(ctx, x.Server.Store)
	switch {
	case !ok:
		return one(OK, "there is none (secondary.url is not set)")
	case err != nil:
		return []Finding{mend(Fail, "secondary.url", "%v", err)}
	}
	found := one(OK, "redis %s, version %s: %s", state.Location, state.Version, state.Keys)
	if state.Empty {
		found = append(found, mend(Warn, "secondary.key_prefix as the issuer writes keys, and the number of its database at the end of secondary.url",
			"no session was found under %s", state.Keys))
	}
	if state.Evicts != "" {
		found = append(found, mend(Warn, "maxmemory-policy noeviction", "when its memory is full it drops keys (%s): users are signed out", state.Evicts))
	}
	return found
}

// The difference between two clocks that is worth a word, and the one that is not
// to be lived with.
const (
	skewWarn = time.Second
	skewFail = 30 * time.Second
)

func checkClock(ctx context.Context, x *examination) []Finding {
	if x.databaseErr != nil {
		return one(Skipped, "the database was not reached")
	}
	start, before := time.Now(), x.Now()
	theirs, ok, err := x.database.Clock(ctx)
	took := time.Since(start)
	switch {
	case err != nil:
		return one(Warn, "the database's clock could not be had: %v", err)
	case !ok:
		return one(Skipped, "the store has no clock of its own")
	}
	// Their clock was read at some moment of the question; what that leaves open is
	// not held against anybody.
	skew := theirs.Sub(before.Add(took / 2))
	sure := max(skew.Abs()-took/2, 0)
	what := "the database's clock is %v ahead of this machine's"
	if skew < 0 {
		what = "the database's clock is %v behind this machine's"
	}
	fix := "chronyc tracking, or timedatectl, on both machines"
	switch {
	case sure > skewFail:
		return []Finding{mend(Fail, fix, what, skew.Abs().Round(time.Millisecond))}
	case sure > skewWarn:
		return []Finding{mend(Warn, fix, what, skew.Abs().Round(time.Millisecond))}
	}
	return one(OK, what, skew.Abs().Round(time.Millisecond))
}

func checkPooler(ctx context.Context, x *examination) []Finding {
	if x.databaseErr != nil {
		return one(Skipped, "the database was not reached")
	}
	p, err := x.database.Pooler(ctx)
	switch {
	case err != nil:
		return one(Warn, "whether there is a pooler could not be told: %v", err)
	case !p.Present:
		return one(OK, "nothing is between sessiond and the database")
	case !p.Transaction:
		return one(Note, "a pooler is between sessiond and the database; it was not seen to change connections")
	case p.Prepares && !p.KeepsPrepared:
		return []Finding{mend(Fail, "default_query_exec_mode=exec in store.dsn", "a pooler in transaction mode forgets prepared statements, and default_query_exec_mode=%s relies on them", p.Mode)}
	case p.Prepares:
		return one(Note, "a pooler in transaction mode keeps prepared statements for its clients, which default_query_exec_mode=%s relies on", p.Mode)
	}
	return one(Note, "a pooler in transaction mode is between sessiond and the database; default_query_exec_mode=%s fits it", p.Mode)
}

// Lengths of a token in characters. The issuer's have 32.
const (
	shortToken  = 32
	brokenToken = 16
)

func checkTokens(ctx context.Context, x *examination) []Finding {
	if x.databaseErr != nil {
		return one(Skipped, "the database was not reached")
	}
	length, n, err := x.database.ShortestToken(ctx)
	fix := "leave the making of tokens to the issuer, and end the sessions that have others"
	switch {
	case err != nil:
		return one(Warn, "the tokens could not be measured: %v", err)
	case n == 0:
		return one(Skipped, "no session is stored")
	case length < brokenToken:
		return []Finding{mend(Fail, fix, "the shortest of %d stored tokens has %d characters", n, length)}
	case length < shortToken:
		return []Finding{mend(Warn, fix, "the shortest of %d stored tokens has %d characters; the issuer makes %d", n, length, shortToken)}
	}
	return one(OK, "the shortest of %d stored tokens has %d characters", n, length)
}
