// Package doctor checks a deployment from outside in: what arrives, what verifies
// it, where sessions are kept, who else answers. It reads, and changes nothing.
//
// It tells names, lengths, ids and digests; never a token, a cookie's value, a
// signature or a secret.
package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Config says what is checked.
type Config struct {
	// Server is what serve runs with.
	Server server.Config
	// SecretFiles are the files that hold secrets, by the setting that names them.
	SecretFiles map[string]string
	// IssuerURL is the issuer's base URL with its base path; empty: not asked.
	IssuerURL string
	// Cookie and Authorization are the headers of a live request; both empty: none
	// was given.
	Cookie, Authorization string
	// Address is a running authority, host:port; empty: none is asked.
	Address string
	// TLS is how it is spoken to; nil: in plaintext.
	TLS *tls.Config
	// Now is the local clock; nil: time.Now.
	Now func() time.Time
	// Resolve returns the addresses of a host; nil: as the system does.
	Resolve func(ctx context.Context, host string) ([]string, error)
}

// Severity is how bad a finding is.
type Severity string

// The severities, the least first.
const (
	Skipped Severity = "skipped" // not looked at, for want of something
	OK      Severity = "ok"
	Note    Severity = "note" // as it may be, and worth knowing
	Warn    Severity = "warn" // works, or may; should be mended
	Fail    Severity = "fail" // does not work, or is not safe
)

var ranks = map[Severity]int{Skipped: 0, OK: 0, Note: 1, Warn: 2, Fail: 3}

// Finding is what one look brought.
type Finding struct {
	Severity Severity `json:"severity"`
	// Check is the check's name.
	Check string `json:"check"`
	// What was found.
	What string `json:"what"`
	// Why it matters; empty where nothing is wrong.
	Why string `json:"why,omitempty"`
	// Fix is the command, the statement or the setting that mends it.
	Fix string `json:"fix,omitempty"`
	// Trace is how we decided, where the verdict is in question.
	Trace []authority.Step `json:"trace,omitempty"`
}

// Check is one thing that is looked at.
type Check struct {
	// Name is what findings and documentation call it.
	Name string
	// Why says why it matters, Fix in general what mends it.
	Why, Fix string
	run      func(context.Context, *examination) []Finding
}

// Checks returns all checks, in the order in which they run.
func Checks() []Check {
	return []Check{
		{"schema", "sessiond reads the issuer's own tables; a table or a column taken for another gives wrong verdicts, and a time zone taken wrongly moves every expiry by hours", "run the issuer's migrations; `store.session_table`, `store.session_columns`, `store.user_table`, `store.user_columns`, `store.time_zone`", checkSchema},
		{"index", "without an index that leads to the token, each lookup reads the whole session table", "the `CREATE INDEX` line that the finding shows", checkIndex},
		{"secondary", "where the issuer has secondary storage, sessions are there: under another prefix or in another database none is found, and a memory that is full drops them", "`secondary.url`, `secondary.key_prefix`; `maxmemory-policy noeviction`", checkSecondary},
		{"cookie_names", "a session cookie of another name is not looked at: every request is refused as NO_CREDENTIAL", "`issuer.base_url`, `issuer.use_secure_cookies`, `issuer.cookie_prefix`, `issuer.cookie_name`", checkCookieNames},
		{"signature", "with another secret than the issuer's, no cookie verifies and everybody is signed out", "`issuer.secret_file`: the issuer's BETTER_AUTH_SECRET, to the byte", checkSignature},
		{"parity", "sessiond has to decide as the issuer does: a session that only one of the two accepts is a user locked out, or let in for nothing", "what the trace shows to be read or decided otherwise; `sessiond explain`", checkParity},
		{"feed", "without a living change feed a sign-out is seen when entries age out and not at once, and sessions cannot be revoked through sessiond", "`sessiond feed install`; one staleness_bound for all", checkFeed},
		{"clock", "expiry is compared with this machine's clock: a clock that is off accepts sessions that are over, or refuses good ones", "NTP on this machine and on the database's", checkClock},
		{"pooler", "a pooler in transaction mode forgets prepared statements between two of them, and lookups fail now and then", "`default_query_exec_mode=exec` in `store.dsn`", checkPooler},
		{"replicas", "replicas that are configured differently give different verdicts, by chance of the connection", "one configuration for all replicas; restart those that differ", checkReplicas},
		{"tls", "session cookies travel between workers, sessiond and the issuer: whoever reads one is that user", "`tls.cert_file` and `tls.key_file`; a renewed certificate needs no restart", checkTLS},
		{"secrets", "whoever reads the issuer's secret or guesses it signs cookies of his own", "`chmod 600 FILE`; `openssl rand -base64 32`", checkSecrets},
		{"tokens", "a token that can be guessed is a session that can be taken", "the issuer's own token generator, which makes 32 characters", checkTokens},
	}
}

// Report is what all checks found, in their order.
type Report struct {
	Worst    Severity  `json:"worst"`
	Findings []Finding `json:"findings"`
}

// Run runs all checks. What cannot be looked at is a finding, never an error.
func Run(ctx context.Context, cfg Config) Report {
	x := begin(ctx, cfg)
	defer x.close()
	r := Report{Worst: OK}
	for _, c := range Checks() {
		for _, f := range c.run(ctx, x) {
			f.Check = c.Name
			if ranks[f.Severity] > ranks[Note] && f.Why == "" {
				f.Why = c.Why
			}
			r.Findings = append(r.Findings, f)
			if ranks[f.Severity] > ranks[r.Worst] {
				r.Worst = f.Severity
			}
		}
	}
	return r
}

// examination is what the checks share.
type examination struct {
	Config
	// database is nil where databaseErr is not.
	database    store.Examiner
	databaseErr error
	// store is nil where storeErr is not.
	store    store.Store
	storeErr error
	// authority reads credentials always, and decides where there is a store.
	authority *authority.Authority
	configErr error
}

func begin(ctx context.Context, cfg Config) *examination {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Resolve == nil {
		cfg.Resolve = net.DefaultResolver.LookupHost
	}
	x := &examination{Config: cfg}
	x.database, x.databaseErr = server.ExamineStore(ctx, cfg.Server.Store)
	x.store, x.storeErr = server.OpenStore(ctx, cfg.Server.Store)
	records := authority.Records(authority.NoStore{Err: x.storeErr})
	if x.storeErr == nil {
		records = authority.Direct(x.store)
	}
	x.authority, x.configErr = authority.New(cfg.Server.Authority, records)
	return x
}

// close ends the connections; the process ends too, and nothing was written.
func (x *examination) close() {
	if x.databaseErr == nil {
		_ = x.database.Close()
	}
	if x.storeErr == nil {
		_ = x.store.Close()
	}
}

// given reports whether there is a credential to look at.
func (x *examination) given() bool { return x.Cookie != "" || x.Authorization != "" }

func (x *examination) credential() authority.Credential {
	return authority.Credential{Form: authority.FormHeaders, Cookie: x.Cookie, Authorization: x.Authorization}
}

func one(s Severity, format string, args ...any) []Finding {
	return []Finding{{Severity: s, What: fmt.Sprintf(format, args...)}}
}

func mend(s Severity, fix, format string, args ...any) Finding {
	return Finding{Severity: s, Fix: fix, What: fmt.Sprintf(format, args...)}
}

const noCookie = "no cookie was given (--cookie-file)"
