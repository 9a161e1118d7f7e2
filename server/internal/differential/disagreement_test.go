package differential_test

import (
	"fmt"
	"strings"
	"time"
)

// between are the ways in which key and row disagree, or do not: what explain says of
// it, and what the strict rule makes of it where rows are not preserved. Empty: nothing
// is said, the session is good.
var between = map[string]struct{ says, strict string }{
	"good":                     {},
	"expired":                  {strict: "EXPIRED"},
	"user deleted":             {"the user has no row any more", "USER_NOT_FOUND"},
	"key broken":               {"the key cannot be read", "STORED_VALUE_UNREADABLE"},
	"key of another type":      {"the key cannot be read", "STORED_VALUE_UNREADABLE"},
	"key without user":         {"the key holds no user", "USER_NOT_FOUND"},
	"key gone":                 {says: "there is a row and no key"},
	"key gone, row over":       {"there is a row and no key", "EXPIRED"},
	"key gone, user deleted":   {"there is a row and no key", "USER_NOT_FOUND"},
	"row gone":                 {"there is a key and no row", "NOT_FOUND"},
	"row over":                 {"before the key", "EXPIRED"},
	"row ends sooner":          {says: "before the key"},
	"row ends later":           {says: "after the key"},
	"key over":                 {"after the key", "EXPIRED"},
	"key over, row ends later": {"after the key", "EXPIRED"},
	"user banned":              {"the user is banned by the row: true, by the key: false", "USER_BANNED"},
	"user renamed":             {says: "the user in the key is of another time than its row"},
}

// disagreements holds what is said of every browser, by either rule and by explain,
// against the table. That parity is what the issuer says was compared before.
func (r *run) disagreements() {
	preserved := strings.HasSuffix(r.name, "preserved rows")
	var table strings.Builder
	seen := make(map[string]bool)
	for _, m := range r.Made {
		h := header{cookie: ptr(strings.Join(m.Cookies, "; "))}
		want, parity, strict := r.issuer.ask(r.t, h)[0], reasonOf(r.decide(r.ours, h)), reasonOf(r.decide(r.strict, h))
		e, err := r.ours.Explain(r.t.Context(), time.Now(), r.store, credential(h))
		if err != nil {
			r.t.Fatal(err)
		}
		says := ""
		for _, s := range e.Steps {
			if _, after, ok := strings.Cut(s.Detail, " disagree: "); ok {
				says = after
			}
		}
		if expected, ok := between[m.Kind]; ok {
			if !strings.Contains(says, expected.says) || (says == "") != (expected.says == "") {
				r.t.Errorf("%s: explain says %q, want %q", m.Kind, says, expected.says)
			}
			if expected.strict == "" {
				expected.strict = "good"
			}
			if !preserved && strict != expected.strict {
				r.t.Errorf("%s: strict: %s, want %s", m.Kind, strict, expected.strict)
			}
		}
		if !seen[m.Kind] {
			fmt.Fprintf(&table, "| %s | %s | %s | %s | %s |\n", m.Kind, want, parity, strict, says)
		}
		seen[m.Kind] = true
	}
	for kind := range between {
		if !seen[kind] {
			r.t.Errorf("the issuer made no session %q", kind)
		}
	}
	r.t.Logf("key and row\n\n| | the issuer | parity | strict | explain |\n|---|---|---|---|---|\n%s", table.String())
}
