package differential_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
)

// statelessCase is a way in which an issuer without a store is configured.
type statelessCase struct {
	name, version, cache string // cache is session.cookieCache as JSON; empty: the defaults
	keys                 bool   // its jwt plugin signs the cookie
	flags                map[string]string
}

var statelessCases = []statelessCase{
	{name: "1.4 as it comes", version: "1.4"},
	{name: "1.4 compact", version: "1.4", cache: `{"strategy":"compact","maxAge":3600}`, flags: map[string]string{"issuer.cookie_cache": "compact", "issuer.cookie_cache_max_age": "1h"}},
	{name: "1.4 jwt", version: "1.4", cache: `{"strategy":"jwt","maxAge":3600,"version":"3","refreshCache":false}`, flags: map[string]string{
		"issuer.cookie_cache": "jwt", "issuer.cookie_cache_version": "3", "issuer.cookie_cache_refresh": "off",
	}},
	{name: "1.7 as it comes", version: "1.7"},
	{name: "1.7 compact", version: "1.7", cache: `{"strategy":"compact","maxAge":3600}`, flags: map[string]string{"issuer.cookie_cache": "compact", "issuer.cookie_cache_max_age": "1h"}},
	{name: "1.7 jwt", version: "1.7", cache: `{"strategy":"jwt","maxAge":3600,"refreshCache":{"updateAge":500}}`, flags: map[string]string{
		"issuer.cookie_cache": "jwt", "issuer.cookie_cache_max_age": "1h", "issuer.cookie_cache_refresh": "500s",
	}},
	{name: "1.7 jwt plugin", version: "1.7", keys: true, cache: `{"strategy":"jwt","maxAge":3600}`, flags: map[string]string{"issuer.cookie_cache": "jwt", "issuer.cookie_cache_max_age": "1h"}},
}

// TestStateless: for every generated header, a process of a stateless issuer that knows
// of nobody and the authority give the same verdict, session and user, and say alike
// whether the cookie is due to be written anew.
func TestStateless(t *testing.T) {
	// Opening cookies takes the issuer longer than looking tokens up.
	count, seed := max(int(number(t, envCount, defaultCount))/5, defaultCount), number(t, envSeed, rand.Uint64())
	t.Logf("%d headers each, seed %d", count, seed)
	for _, c := range statelessCases {
		t.Run(c.name, func(t *testing.T) { differStateless(t, c, count, seed) })
	}
}

func differStateless(t *testing.T, c statelessCase, count int, seed uint64) {
	env := []string{"VERSION=" + c.version, "CACHE=" + c.cache, "BETTER_AUTH_SECRET=" + secret}
	keys := "[]"
	var made struct {
		Made       []made
		Keys, JWKS json.RawMessage
	}
	if c.keys {
		env = append(env, "KEYS="+keys)
	}
	if err := json.Unmarshal([]byte(startNode(t, "issuer: made ", append(env, "ROLE=make"), "stateless.mjs")), &made); err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{"store.driver": server.DriverNone, "issuer.version": c.version, "issuer.base_url": "http://127.0.0.1:3000", "issuer.bearer": "true"}
	for key, value := range c.flags {
		flags[key] = value
	}
	if c.keys {
		env[len(env)-1] = "KEYS=" + string(made.Keys)
		flags["issuer.cookie_cache_jwks_file"] = filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(flags["issuer.cookie_cache_jwks_file"], made.JWKS, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	judge := "http://127.0.0.1:" + startNode(t, "issuer: judges ", append(env, "ROLE=judge"), "stateless.mjs")
	a, _ := open(t, flags, []string{"SESSIOND_ISSUER_SECRET=" + secret})

	g := &statelessGenerator{&generator{
		Rand: rand.New(rand.NewPCG(seed, uint64(len(c.name)))), issuer: &issuer{Token: cookieName, Data: dataName, Made: made.Made}, bearer: true,
	}}
	outcomes, asked := map[string]int{}, 0
	start := time.Now()
	for asked < count && !t.Failed() {
		batch := make([]header, min(batchSize, count-asked))
		for i := range batch {
			batch[i] = g.next()
		}
		if asked == 0 {
			copy(batch, g.plain())
		}
		asked += len(batch)
		// Both clocks stand still: at first at the beginning, then often about the end of
		// the cookie that was due, and at times minutes later.
		at := start
		if asked > batchSize {
			at = start.Add(pick(g.generator, 0, 0, 40*time.Second-time.Duration(g.IntN(5000))*time.Millisecond, time.Duration(g.IntN(1200))*time.Second))
		}
		for i, want := range askStateless(t, judge, at, batch) {
			compareStateless(t, a, batch[i], at, want, outcomes, newSymbols(g.issuer))
		}
	}
	t.Logf("%d headers; %v", asked, outcomes)
	if c.version != "1.4" && outcomes["stricter"] > 0 {
		t.Errorf("%d verdicts are stricter than this issuer's", outcomes["stricter"])
	}
	least := []string{"good by cookie", "good by bearer", "due", "NO_CREDENTIAL", "NOT_FOUND", "SESSION_DATA_REJECTED", "MALFORMED", "EXPIRED", "BAD_SIGNATURE"}
	if flags["issuer.cookie_cache_refresh"] == "off" {
		least = slices.DeleteFunc(least, func(outcome string) bool { return outcome == "due" })
	}
	for _, outcome := range least {
		if want := max(1, count/100); outcomes[outcome] < want {
			t.Errorf("%s: %d of %d headers, fewer than %d: too few to say much", outcome, outcomes[outcome], count, want)
		}
	}
}

// statelessVerdict is what the issuer said.
type statelessVerdict struct {
	status              int
	good, due           bool
	session, user, name string
}

func (v statelessVerdict) String() string {
	if v.good {
		return fmt.Sprintf("good, due %t", v.due)
	}
	return fmt.Sprintf("refused, status %d", v.status)
}

func compareStateless(t *testing.T, a *authority.Authority, h header, now time.Time, want statelessVerdict, outcomes map[string]int, names symbols) {
	t.Helper()
	c, by := authority.Credential{}, "cookie"
	if h.cookie != nil {
		c.Cookie = *h.cookie
	}
	if h.authorization != nil {
		c.Authorization, by = *h.authorization, "bearer"
	}
	got, err := a.Validate(t.Context(), authority.Call{Now: now, Arrived: clock.Now()}, c)
	if err != nil {
		t.Fatal(err)
	}
	outcome := got.Verdict.Reason.String()
	if got.Verdict.Good() {
		outcome = "good by " + by
		if got.Verdict.NeedsRefresh {
			outcomes["due"]++
		}
	}
	outcomes[outcome]++
	if want.good && got.Verdict.Reason == authority.ReasonNoCredential && oddBearer(h) {
		outcomes["stricter"]++
		return
	}
	same := want.good == got.Verdict.Good()
	if same && want.good {
		r := got.Record
		same = want.user == r.User.ID && want.session == r.Session.ID && want.name == r.User.Name && want.due == got.Verdict.NeedsRefresh
	}
	e, _ := a.Explain(t.Context(), now, store.None{}, c)
	if !same {
		t.Errorf("the issuer: %s; here: %s, due %t; %s\n%+v", want, got.Verdict.Reason, got.Verdict.NeedsRefresh, names.text(h), e.Steps)
	}
	if (e.Verdict == authority.VerdictGood) != got.Verdict.Good() || e.Reason != "" && e.Reason != got.Verdict.Reason.String() {
		t.Errorf("explain says %s %s, validate %s", e.Verdict, e.Reason, got.Verdict.Reason)
	}
}

// oddBearer reports whether an Authorization value is none to us and a bare token to
// issuers up to 1.4, which sign whatever is left of it themselves. Over a store they
// then find nothing. Without one they take any token beside a good session_data.
func oddBearer(h header) bool {
	if h.authorization == nil {
		return false
	}
	left := strings.Replace(*h.authorization, "Bearer ", "", 1)
	return left == "" || strings.EqualFold(left, "Bearer") || strings.ContainsAny(left, " \t")
}

// askStateless asks the process that knows of nobody, with its clock at an instant.
func askStateless(t *testing.T, judge string, at time.Time, batch []header) []statelessVerdict {
	t.Helper()
	var body bytes.Buffer
	fmt.Fprintln(&body, at.UnixMilli())
	encode := func(text *string) any {
		if text == nil {
			return nil
		}
		return base64.StdEncoding.EncodeToString([]byte(*text))
	}
	for _, h := range batch {
		if err := json.NewEncoder(&body).Encode([]any{encode(h.cookie), encode(h.authorization)}); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, judge, &body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) != len(batch) {
		t.Fatalf("%d answers to %d headers", len(lines), len(batch))
	}
	out := make([]statelessVerdict, len(lines))
	for n, line := range lines {
		var answer []any
		if err := json.Unmarshal(line, &answer); err == nil {
			if answer != nil {
				out[n] = statelessVerdict{good: true, session: answer[0].(string), user: answer[1].(string), name: answer[2].(string), due: answer[3].(bool)}
			}
			continue
		}
		if out[n].status, err = strconv.Atoi(string(line)); err != nil {
			t.Fatalf("the issuer answered %q", line)
		}
	}
	return out
}

// statelessGenerator bends session_data too.
type statelessGenerator struct{ *generator }

const (
	cookieName = "better-auth.session_token"
	dataName   = "better-auth.session_data"
)

// plain are the headers that begin every run: each browser's own jar, by cookie and by
// bearer token, and one of each refusal that no jar is.
func (g *statelessGenerator) plain() []header {
	all := []header{{}}
	for _, m := range g.Made {
		data := slices.DeleteFunc(slices.Clone(m.Cookies), func(pair string) bool { return !strings.HasPrefix(pair, dataName) })
		all = append(all, header{cookie: ptr(strings.Join(m.Cookies, "; "))}, header{cookie: ptr(strings.Join(data, "; ")), authorization: ptr("Bearer " + m.Bearer)})
	}
	token := cookieName + "=" + encode(g.Made[0].Token)
	return append(all, header{cookie: &token}, header{cookie: ptr(token + "; " + dataName + "=x")})
}

func (g *statelessGenerator) next() header {
	var h header
	if g.IntN(20) == 0 {
		return h
	}
	session := g.some()
	data := session
	if g.IntN(6) == 0 {
		data = g.some()
	}
	var pairs []string
	bearer := g.IntN(4) == 0
	if !bearer || g.IntN(6) == 0 {
		pairs = append(pairs, g.sessionToken(session))
	}
	pairs = append(pairs, g.sessionData(data)...)
	for range g.IntN(3) {
		pairs = append(pairs, pick(g.generator, "theme=dark", "a=b=c", "flag", "=", dataName+"x=y", dataName+".x=y", dataName+"=", "better-auth.dont_remember=true", "better-auth.account_data=x", strings.ToUpper(dataName)+"=x"))
	}
	switch g.IntN(12) {
	case 0:
		pairs = append(pairs, g.sessionData(g.some())...)
	case 1:
		pairs = slices.Insert(pairs, 0, g.sessionData(g.some())...)
	case 2:
		pairs = append(pairs, g.sessionToken(g.some()))
	case 3, 4:
		g.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	}
	text := strings.Join(pairs, pick(g.generator, "; ", "; ", "; ", "; ", "; ", ";", " ;  ", ", ", ";;", ";\t", "; \xa0"))
	if g.IntN(12) == 0 {
		text = g.bytes(text)
	}
	h.cookie = &text
	if bearer {
		value := pick(g.generator, "Bearer "+session.Bearer, "Bearer "+session.Bearer, "Bearer "+session.Bearer, "bearer "+session.Bearer, g.authorization())
		h.authorization = &value
	}
	return h
}

func (g *statelessGenerator) sessionToken(m made) string {
	if g.IntN(10) == 0 {
		return cookieName + "=" + g.value()
	}
	for _, pair := range m.Cookies {
		if strings.HasPrefix(pair, cookieName+"=") {
			return pair
		}
	}
	return ""
}

// sessionData are the cookies of a browser, mostly as they are.
func (g *statelessGenerator) sessionData(m made) []string {
	var own []string
	var value strings.Builder
	for _, pair := range m.Cookies {
		if strings.HasPrefix(pair, dataName) {
			own = append(own, pair)
			_, piece, _ := strings.Cut(pair, "=")
			value.WriteString(piece)
		}
	}
	whole := value.String()
	at := g.IntN(len(whole))
	switch g.IntN(16) {
	case 0:
		return nil
	case 1: // cut into pieces of our own
		other := g.IntN(len(whole))
		first, second := min(at, other), max(at, other)
		numbers := pick(g.generator, [3]string{"0", "1", "2"}, [3]string{"0", "1", "2"}, [3]string{"0", "1", "10"}, [3]string{"1", "2", "3"}, [3]string{"0", "01", "2"}, [3]string{"0", "1x", "2"}, [3]string{"0.0", "1", "2"}, [3]string{"", "1", "2"}, [3]string{"-1", "0", "1"}, [3]string{"0", "1", "9007199254740993"}, [3]string{"0", "0", "1"})
		out := []string{dataName + "." + numbers[0] + "=" + whole[:first], dataName + "." + numbers[1] + "=" + whole[first:second], dataName + "." + numbers[2] + "=" + whole[second:]}
		if g.IntN(2) == 0 {
			g.Shuffle(3, func(i, j int) { out[i], out[j] = out[j], out[i] })
		}
		if g.IntN(4) == 0 {
			out = append(out, pick(g.generator, dataName+"=", dataName+"=x", dataName+".7=", dataName+".0=again"))
		}
		return out
	case 2: // a piece is lost
		if len(own) > 1 {
			return slices.Delete(own, at%len(own), at%len(own)+1)
		}
		return []string{dataName + "=" + whole[:at]}
	case 3:
		return []string{dataName + "=" + pick(g.generator, `"`+whole+`"`, `"`+whole, `"`+whole+"x", whole+`"`, " "+whole+" ", whole+"=", whole+"==", everyByte(whole), strings.ReplaceAll(whole, ".", "%2E"), whole+"%", "\xa0"+whole, whole[:at]+" "+whole[at:], whole[:at]+"%0A"+whole[at:])}
	case 4:
		bent := []byte(whole)
		bent[at] = pick(g.generator, 'A', '-', '_', '.', '+', '/', '=', '0', ' ', ',', bent[at]^1)
		return []string{dataName + "=" + string(bent)}
	case 5:
		return []string{dataName + "=" + pick(g.generator, "", "x", "*", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "bnVsbA", "e30", strings.Repeat(".", 4), strings.NewReplacer("-", "+", "_", "/").Replace(whole))}
	}
	return own
}
