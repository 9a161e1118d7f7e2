// Package vectors_test holds the authority against what real Better Auth
// answered: every vector, through the same configuration, store and decision
// that serve runs.
package vectors_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/config"
	"github.com/sessiond/sessiond/server/internal/pgtest"
)

// envVectors names another folder of the format.
const envVectors = "SESSIOND_VECTORS"

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// tally counts vectors of one row of the table.
type tally struct{ agree, stricter, disagree int }

// outcomeOtherReason marks a refusal the issuer shares and the vectors' own hint
// explains otherwise. It is no disagreement: the issuer gives no reason.
const outcomeOtherReason = "another reason than the hint"

func (t *tally) add(o tally) {
	t.agree += o.agree
	t.stricter += o.stricter
	t.disagree += o.disagree
}

func TestVectors(t *testing.T) {
	dir := os.Getenv(envVectors)
	if dir == "" {
		dir = filepath.Join("testdata", "better-auth")
	}
	s, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	byDataset := make(map[string][]vector)
	for _, v := range s.Vectors {
		byDataset[v.Dataset] = append(byDataset[v.Dataset], v)
	}

	rows := make(map[string]*tally) // "version store"
	names := make(map[string]int)   // named rule -> vectors it made stricter
	var disagreements, otherReasons []string
	known := make(map[string]bool)
	discovered := 0
	for _, d := range s.Datasets {
		known[d.ID] = true
		key := d.BetterAuthVersion + "\t" + d.storage()
		if rows[key] == nil {
			rows[key] = &tally{}
		}
		row := rows[key]
		for _, source := range d.sources() {
			a, byDiscovery, err := open(t, s, d, source, nil)
			if err != nil {
				t.Errorf("%s (%s): %v", d.ID, source, err)
				row.disagree += len(byDataset[d.ID])
				continue
			}
			if byDiscovery {
				discovered++
			}
			for _, v := range byDataset[d.ID] {
				outcome, detail := s.check(t.Context(), a, d, v)
				switch {
				case detail == "":
					row.agree++
				case outcome == outcomeOtherReason:
					row.agree++
					otherReasons = append(otherReasons, v.Name+" ("+source+"): "+detail)
				case outcome != "":
					row.stricter++
					names[outcome]++
				default:
					row.disagree++
					disagreements = append(disagreements, v.Name+" ("+source+"): "+detail)
				}
			}
		}
	}
	for id, vs := range byDataset {
		if !known[id] {
			t.Errorf("%d vectors name the dataset %q, which is not there", len(vs), id)
		}
	}

	print(t.Output(), rows, names)
	fmt.Fprintf(t.Output(), "schemas found by discovery alone: %d\n", discovered)
	for _, line := range disagreements {
		t.Error("disagreement: " + line)
	}
	for _, line := range otherReasons {
		if os.Getenv(envVectors) == "" {
			t.Error("reason: " + line)
		} else {
			fmt.Fprintln(t.Output(), "reason:", line)
		}
	}
}

// TestStricterRules runs the vectors again with each stricter rule on: it may
// only turn a good session into a refusal, and only by its own reason.
func TestStricterRules(t *testing.T) {
	s, err := load(filepath.Join("testdata", "better-auth"))
	if err != nil {
		t.Fatal(err)
	}
	byDataset := make(map[string][]vector)
	for _, v := range s.Vectors {
		byDataset[v.Dataset] = append(byDataset[v.Dataset], v)
	}
	stricter := make(map[string]int)
	for _, d := range s.Datasets {
		if d.SecondaryStorage != nil || !strings.Contains(d.ID, "/admin/") {
			continue
		}
		a, _, err := open(t, s, d, d.sources()[0], map[string]string{"policy.refuse_banned": "true"})
		if err != nil {
			t.Fatalf("%s: %v", d.ID, err)
		}
		for _, v := range byDataset[d.ID] {
			outcome, detail := s.check(t.Context(), a, d, v)
			banned := strings.HasSuffix(v.Name, "/banned-row-session-kept")
			switch {
			case banned && outcome == "policy.refuse_banned":
				stricter[outcome]++
			case banned || detail != "":
				t.Errorf("%s: got %q %q", v.Name, outcome, detail)
			}
		}
	}
	if stricter["policy.refuse_banned"] == 0 {
		t.Error("no vector has a banned user: the rule was not tried")
	}
}

// storage says where the issuer kept sessions.
func (d dataset) storage() string {
	switch s := d.SecondaryStorage; {
	case s == nil:
		return d.Backend
	case s.PreserveSessionInDatabase:
		return "redis, rows preserved"
	case s.StoreSessionInDatabase:
		return "redis, then " + d.Backend
	default:
		return "redis"
	}
}

// sources are the dumps of a dataset to run, by file.
func (d dataset) sources() []string {
	var out []string
	for _, f := range []string{d.Files.Postgres, d.Files.SQLite, d.Files.SQLiteFile} {
		if f != "" {
			out = append(out, f)
		}
	}
	return out
}

// open loads a dump into a real store and returns the authority that serve would
// run over it. Where discovery alone does not find the tables, the issuer's own
// model and field names are configured, as its user would.
func open(t *testing.T, s *suite, d dataset, source string, more map[string]string) (_ *authority.Authority, byDiscovery bool, _ error) {
	t.Helper()
	flags := d.flags()
	maps.Copy(flags, more)
	current, former := d.secret()
	env := []string{"SESSIOND_ISSUER_SECRET=" + current}
	if len(former) > 0 {
		file := filepath.Join(t.TempDir(), "retired")
		if err := os.WriteFile(file, []byte(strings.Join(former, "\n")), 0o600); err != nil {
			return nil, false, err
		}
		flags["issuer.retired_secrets_file"] = file
	}
	if d.SecondaryStorage != nil {
		url, err := restoreRedis(t, s, d)
		if err != nil {
			return nil, false, err
		}
		env = append(env, "SESSIOND_SECONDARY_URL="+url)
		maps.Copy(flags, d.SecondaryStorage.settings())
		if !d.SecondaryStorage.StoreSessionInDatabase {
			a, err := build(t, flags, env)
			return a, false, err
		}
	}
	place, err := restore(t, s, d, source)
	if err != nil {
		return nil, false, err
	}
	if d.Backend == "postgres" {
		flags["store.driver"] = server.DriverPostgres
		env = append(env, "SESSIOND_STORE_DSN="+place)
	} else {
		flags["store.path"] = place
	}

	a, err := build(t, flags, env)
	if err == nil {
		return a, true, nil
	}
	flags["store.session_table"], flags["store.session_columns"] = d.mapping("session", flags["store.session_columns"])
	flags["store.user_table"], flags["store.user_columns"] = d.mapping("user", flags["store.user_columns"])
	a, configuredErr := build(t, flags, env)
	if configuredErr != nil {
		return nil, false, fmt.Errorf("by discovery: %w; configured: %w", err, configuredErr)
	}
	return a, false, nil
}

var knownFields = []string{"id", "token", "userId", "expiresAt", "createdAt", "updatedAt", "ipAddress", "userAgent", "activeOrganizationId", "impersonatedBy",
	"name", "email", "emailVerified", "image", "role", "banned", "banReason", "banExpires"}

// mapping is the issuer's table name and the columns of its known fields.
func (d dataset) mapping(model, additional string) (name, columns string) {
	t := d.Tables[model]
	pairs := []string{}
	if additional != "" {
		pairs = append(pairs, additional)
	}
	for _, field := range slices.Sorted(maps.Keys(t.Columns)) {
		if slices.Contains(knownFields, field) && !strings.Contains(","+additional, ","+field+"=") {
			pairs = append(pairs, field+"="+t.Columns[field])
		}
	}
	return t.Table, strings.Join(pairs, ",")
}

func build(t *testing.T, flags map[string]string, env []string) (*authority.Authority, error) {
	t.Helper()
	cfg, err := config.Load(config.Sources{Flags: flags, Env: env}, false)
	if err != nil {
		return nil, err
	}
	st, err := server.OpenStore(t.Context(), cfg.Server.Store)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return authority.New(cfg.Server.Authority, authority.Direct(st))
}

// check validates one vector. With no detail the authority agrees. With a
// detail, the outcome is the name of the stricter rule that made the difference,
// or empty: a disagreement.
func (s *suite) check(ctx context.Context, a *authority.Authority, d dataset, v vector) (outcome, detail string) {
	cookie, err := v.cookie()
	if err != nil {
		return "", err.Error()
	}
	now := s.GeneratedAt
	if v.EvaluatedAt != nil {
		now = v.EvaluatedAt.Time
	}
	got, err := a.Validate(ctx, authority.Call{Now: now, Arrived: clock.Now()}, authority.Credential{Cookie: cookie, Authorization: v.AuthorizationHeader})
	if err != nil {
		return "", "undecided: " + err.Error()
	}
	good := got.Verdict.Good()
	switch {
	case good && !v.Expected.Valid:
		return "", fmt.Sprintf("the issuer refuses (status %d), we accept", v.Expected.Status)
	case !good && v.Expected.Valid:
		return stricterRule(got.Verdict.Reason), fmt.Sprintf("the issuer accepts, we refuse: %s", got.Verdict.Reason)
	case !good:
		if v.ReasonHint != nil && !slices.Contains(reasonsOfHint[*v.ReasonHint], got.Verdict.Reason) {
			return outcomeOtherReason, fmt.Sprintf("refused as %s, the hint is %s", got.Verdict.Reason, *v.ReasonHint)
		}
		return "", ""
	}
	session, user, err := s.printed(v.Expected)
	if err != nil {
		return "", err.Error()
	}
	if v.Expected.UserID != got.Record.User.ID {
		return "", "another user"
	}
	if refreshed := v.Expected.refreshed(); refreshed != got.Verdict.NeedsRefresh {
		return "", fmt.Sprintf("the issuer refreshed: %t, we say needs_refresh: %t", refreshed, got.Verdict.NeedsRefresh)
	} else if refreshed {
		// It printed what it wrote. Validate never writes, and reports the rows as they are.
		session = maps.Clone(session)
		for field, at := range map[string]time.Time{"updatedAt": got.Record.Session.UpdatedAt, "expiresAt": got.Record.Session.ExpiresAt} {
			if session[field] == iso(at) {
				return "", field + " was refreshed and is the same"
			}
			session[field] = iso(at)
		}
	}
	return "", strings.Join(append(compareSession(d, session, *got.Record), compareUser(d, user, got.Record.User)...), "; ")
}

// reasonsOfHint says which reasons an entry of reasonHint may have. A
// hint is the vectors' own; what Better Auth itself says is only "null".
var reasonsOfHint = map[string][]authority.Reason{
	"no_cookie":               {authority.ReasonNoCredential},
	"malformed_cookie":        {authority.ReasonMalformed},
	"bad_signature":           {authority.ReasonBadSignature, authority.ReasonRetiredSecret},
	"session_not_found":       {authority.ReasonNotFound, authority.ReasonRevoked},
	"revoked":                 {authority.ReasonNotFound, authority.ReasonRevoked},
	"stored_value_unreadable": {authority.ReasonStoredValueUnreadable},
	"expired":                 {authority.ReasonExpired},
	"user_not_found":          {authority.ReasonUserNotFound},
	"session_data_rejected":   {authority.ReasonSessionDataRejected},
	"http_rejected":           {authority.ReasonMalformed},
	"other":                   authority.Reasons(),
}

// stricterRule names the setting a stricter refusal comes from.
func stricterRule(r authority.Reason) string {
	return map[authority.Reason]string{
		authority.ReasonUserBanned:  "policy.refuse_banned",
		authority.ReasonUserDeleted: "policy.soft_delete_column",
		authority.ReasonLifetimeCap: "policy.max_lifetime",
		authority.ReasonIdleCap:     "policy.max_idle",
	}[r]
}

func print(w io.Writer, rows map[string]*tally, names map[string]int) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(key string, t tally) {
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t\n", key, t.agree, t.stricter, t.disagree)
	}
	fmt.Fprintln(out, "Better Auth\tstore\tagree\tstricter by design\tdisagree\t")
	var total tally
	for _, key := range slices.SortedFunc(maps.Keys(rows), cmp.Compare[string]) {
		line(key, *rows[key])
		total.add(*rows[key])
	}
	line("all\t", total)
	if err := out.Flush(); err != nil {
		fmt.Fprintln(w, err)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(w, "stricter by %s: %d\n", name, names[name])
	}
}
