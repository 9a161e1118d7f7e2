package client

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/internal/clock"
)

var errTooOld = errors.New("the answers of the authority were older than the staleness bound when they arrived")

// maxAttempts is how often a call asks where answers cannot be used: as it was
// told to, then for newer knowledge, then for that of the store itself (C3, C4).
const maxAttempts = 3

// askOwn asks for verdicts in questions that nobody else shares. The error is the
// caller's. asked is how often the call has asked before, and follow the open
// stream that asks, nil for none.
func (c *Client) askOwn(ctx, bounded context.Context, credentials []Credential, call callSettings, asked int, f *follow) ([]answer, error) {
	r := newRound(c, credentials)
	open := r.all()
	for attempt := asked + 1; ; attempt++ {
		r.call = call
		q := c.cache.ask()
		if err := r.run(bounded, open); err != nil {
			return nil, c.failure(ctx, bounded, err)
		}
		var again []int
		for _, i := range open {
			if !r.answers[i].asked {
				continue
			}
			j := c.cache.judge(c.cache.digester.of(r.narrowed[i]), q, &r.answers[i], f)
			// A strict answer that was passed is used, not kept: the store was read
			// after this call began (C3).
			if j.verdict == usable || j.verdict == passed && r.call.strict() {
				continue
			}
			again, call = append(again, i), call.after(j)
		}
		switch {
		case len(again) == 0:
			return r.answers, nil
		case attempt == maxAttempts:
			return nil, &UnavailableError{Cause: errTooOld}
		case attempt == maxAttempts-1:
			call.limit(0)
		}
		open = again
		c.cache.stats.askedAgain.Add(uint64(len(again)))
	}
}

// after returns how to ask again after an answer that could not be used (C3): for
// knowledge that is surely newer than what passed it, else strictly (C4).
func (s callSettings) after(j judgement) callSettings {
	switch j.verdict {
	case passed:
		s.limit(clock.Within(clock.Now().Sub(j.stamp)))
	case tooOld:
		s.limit(0)
	}
	return s
}

// source says who decided.
func (a *answer) source() Source {
	if a.asked {
		return SourceAuthority
	}
	return SourceLocal
}
