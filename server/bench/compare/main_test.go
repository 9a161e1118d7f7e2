package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	all, err := choose(budget(), "")
	if err != nil || len(all) != len(budget()) {
		t.Errorf("an empty list chose %s, %v", names(all), err)
	}
	some, err := choose(budget(), "cold,hit")
	if err != nil || names(some) != "cold, hit" {
		t.Errorf("chose %s, %v", names(some), err)
	}
	if _, err := choose(budget(), "hit,signout"); err == nil || !strings.Contains(err.Error(), `"signout"`) {
		t.Errorf("%v, want an error that names the unknown row", err)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"-rows", "none"}, {"-rounds", "0"}, {"stray"}, {"-unknown"},
		{"-root", t.TempDir()},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), args, &out, &errs); code != exitFailed || errs.Len() == 0 {
			t.Errorf("%v: exit code %d, %q", args, code, errs.String())
		}
	}
}

func TestMissingProgramNamesItsPackage(t *testing.T) {
	t.Setenv("PATH", filepath.Join(t.TempDir(), "nothing"))
	if _, err := find("redis-server", "redis-server"); err == nil || !strings.Contains(err.Error(), "apt-get install redis-server") {
		t.Errorf("%v, want the command that installs it", err)
	}
}
