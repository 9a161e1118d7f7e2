package interceptors

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sessiond/sessiond/client"
)

type access uint8

const (
	accessRequired access = iota
	accessOptional
	accessPublic
)

// requirement is what a method demands.
type requirement struct {
	access access
	fresh  time.Duration // 0: no limit
	roles  []string      // none: any
	calls  []client.CallOption
}

// rule is what the options say of one pattern.
type rule struct {
	access    access
	hasAccess bool
	fresh     time.Duration
	roles     []string
	strict    bool
}

// policy maps methods to requirements. It does not change once built.
type policy struct {
	exact map[string]requirement
	// below holds the wildcard patterns by prefix ("/svc/"), the longest first.
	below []prefixRequirement
}

type prefixRequirement struct {
	prefix      string
	requirement requirement
}

// newPolicy resolves rules, so that a lookup finds one requirement.
func newPolicy(rules map[string]*rule) policy {
	p := policy{exact: make(map[string]requirement, len(rules))}
	for pattern := range rules {
		requirement := resolve(rules, pattern)
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			p.below = append(p.below, prefixRequirement{prefix, requirement})
			continue
		}
		p.exact[pattern] = requirement
	}
	slices.SortFunc(p.below, func(a, b prefixRequirement) int { return len(b.prefix) - len(a.prefix) })
	return p
}

// resolve adds up the rules whose patterns cover a pattern, from the widest to
// the pattern's own.
func resolve(rules map[string]*rule, pattern string) requirement {
	var covering []string
	for other := range rules {
		prefix, wild := strings.CutSuffix(other, "*")
		if other == pattern || wild && strings.HasPrefix(pattern, prefix) {
			covering = append(covering, other)
		}
	}
	slices.SortFunc(covering, func(a, b string) int { return len(a) - len(b) })
	// A wildcard is as long as the shortest name it covers, or shorter.
	if i := slices.Index(covering, pattern); i >= 0 {
		covering = append(slices.Delete(covering, i, i+1), pattern)
	}
	var total rule
	for _, name := range covering {
		total.add(rules[name])
	}
	result := requirement{access: total.access, fresh: total.fresh, roles: total.roles}
	if total.strict {
		result.calls = []client.CallOption{client.Strict()}
	}
	return result
}

// add puts a narrower rule over a wider one.
func (r *rule) add(narrower *rule) {
	if narrower.hasAccess {
		*r = rule{access: narrower.access}
	}
	if narrower.fresh > 0 {
		r.access, r.fresh = accessRequired, narrower.fresh
	}
	if len(narrower.roles) > 0 {
		r.access, r.roles = accessRequired, narrower.roles
	}
	if narrower.strict {
		r.strict = true
		if r.access == accessPublic {
			r.access = accessRequired
		}
	}
}

// of returns the requirement of a gRPC method.
func (p *policy) of(method string) requirement {
	if !strings.HasPrefix(method, "/") {
		method = "/" + method
	}
	if requirement, ok := p.exact[method]; ok {
		return requirement
	}
	for i := range p.below {
		if strings.HasPrefix(method, p.below[i].prefix) {
			return p.below[i].requirement
		}
	}
	return requirement{}
}

// ofPath returns the requirement of a URL's path, given decoded and as it was
// escaped. A router behind the guard may read a path that is not canonical in
// more than one way.
func (p *policy) ofPath(decoded, escaped string) requirement {
	clean := cleanPath(decoded)
	if clean == decoded && !hidesSlash(escaped) && !strings.Contains(decoded, `\`) {
		return p.of(decoded)
	}
	requirement := p.of(clean)
	requirement.access = accessRequired
	return requirement
}

// cleanPath is path.Clean of a rooted path that keeps a last slash.
func cleanPath(s string) string {
	clean := path.Clean("/" + s)
	if strings.HasSuffix(s, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

func hidesSlash(escaped string) bool {
	lower := strings.ToLower(escaped)
	return strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c")
}

// checkPattern says what is wrong with a pattern.
func checkPattern(pattern string) error {
	prefix, _ := strings.CutSuffix(pattern, "/*")
	switch {
	case !strings.HasPrefix(pattern, "/"):
		return errors.New(`it must begin with "/"`)
	case strings.Contains(prefix, "*"):
		return errors.New(`"*" may only be the whole last segment`)
	case strings.ContainsAny(prefix, "?#%\\ "):
		return errors.New("it must be a method's full name or a URL's decoded path, without a query")
	case prefix != "" && cleanPath(prefix) != prefix, strings.HasSuffix(pattern, "//*"):
		return errors.New("it must be canonical: no empty segments and no dots")
	}
	return nil
}

// change adds an option's part to the rule of a pattern.
func change(rules map[string]*rule, option, pattern string, apply func(*rule) error) error {
	if err := checkPattern(pattern); err != nil {
		return fmt.Errorf("interceptors: %s(%q): %w", option, pattern, err)
	}
	if rules[pattern] == nil {
		rules[pattern] = &rule{}
	}
	if err := apply(rules[pattern]); err != nil {
		return fmt.Errorf("interceptors: %s(%q): %w", option, pattern, err)
	}
	return nil
}

var (
	errTwice         = errors.New("the pattern is given twice: remove one")
	errContradiction = errors.New("another option says the contrary of the same pattern: remove one")
)

// conflict reports whether the rule of one pattern contradicts itself.
func (r *rule) conflict() error {
	demands := r.fresh > 0 || len(r.roles) > 0
	if r.hasAccess && demands || r.hasAccess && r.access == accessPublic && r.strict {
		return errContradiction
	}
	return nil
}
