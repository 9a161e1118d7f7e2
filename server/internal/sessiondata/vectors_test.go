package sessiondata_test

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/sessioncookie"
)

// recordedAt is when the answers without a time of their own were given.
var recordedAt = time.Date(2026, time.November, 23, 14, 0, 0, 0, time.UTC)

type vector struct {
	Version, Config, Case          string
	Name, Strategy, Secret, Cookie string
	EvaluatedAt                    time.Time
	Rejected                       bool
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	f, err := os.Open("testdata/cookie-cache.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var vectors []vector
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		v := vector{EvaluatedAt: recordedAt}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatalf("line %d: %v", len(vectors)+1, err)
		}
		vectors = append(vectors, v)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return vectors
}

func (v vector) checker(t testing.TB) *sessiondata.Checker {
	t.Helper()
	version, err := sessioncookie.ParseVersion(v.Version)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sessiondata.New(sessiondata.Config{
		Name: v.Name, Strategy: v.Strategy, Version: version, Secrets: []string{v.Secret},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVectors(t *testing.T) {
	rejected := 0
	for _, v := range readVectors(t) {
		t.Run(v.Version+"/"+v.Config+"/"+v.Case, func(t *testing.T) {
			if got := v.checker(t).Rejects(request(v.Cookie), v.EvaluatedAt); got != v.Rejected {
				t.Errorf("rejects: got %t, the issuer %t", got, v.Rejected)
			}
		})
		if v.Rejected {
			rejected++
		}
	}
	if rejected < 30 {
		t.Errorf("%d rejected: the vectors are not what they were", rejected)
	}
}
