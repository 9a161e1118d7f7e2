package issuer

import "context"

// Outcome is the outcome of a comparison.
type Outcome uint8

// The outcomes.
const (
	// Unknown: one side gave no verdict, or an answer changed meanwhile.
	Unknown Outcome = iota
	// Agree: both said the same.
	Agree
	// Disagree: they said different things, twice and unchanged.
	Disagree
)

// String returns agree, disagree or unknown.
func (o Outcome) String() string { return [...]string{"unknown", "agree", "disagree"}[o] }

// Comparison is what both sides said last.
type Comparison struct {
	Outcome      Outcome
	Ours, Theirs Verdict
	// Err says why the outcome is unknown, where a side gave no verdict.
	Err error
}

// agree reports whether two verdicts are the same. A session id that the issuer
// does not tell is not compared.
func agree(ours, theirs Verdict) bool {
	if !ours.Good || !theirs.Good {
		return ours.Good == theirs.Good
	}
	return ours.UserID == theirs.UserID && (ours.SessionID == theirs.SessionID || theirs.SessionID == "")
}

// Compare holds our verdict, first, against the issuer's. Where they differ, both
// are asked once more, ours afresh from the store: a sign-out between two
// questions, or an answer from memory, is no disagreement.
func Compare(ctx context.Context, first Verdict, ours, theirs func(context.Context) (Verdict, error)) Comparison {
	c := Comparison{Ours: first}
	before, err := theirs(ctx)
	if err != nil {
		c.Err = err
		return c
	}
	if c.Theirs = before; agree(c.Ours, c.Theirs) {
		c.Outcome = Agree
		return c
	}
	if c.Ours, c.Err = ours(ctx); c.Err != nil {
		return c
	}
	if c.Theirs, c.Err = theirs(ctx); c.Err != nil {
		return c
	}
	switch {
	case agree(c.Ours, c.Theirs):
		c.Outcome = Agree
	case c.Ours == first && c.Theirs == before:
		c.Outcome = Disagree
	}
	return c
}
