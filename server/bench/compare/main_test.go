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
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-rows", "none"}, `no row "none"`},
		{[]string{"-rounds", "0"}, "-rounds"},
		{[]string{"stray"}, `unexpected argument "stray"`},
		{[]string{"-unknown"}, "-unknown"},
		{[]string{"-root", t.TempDir()}, "give its folder with -root"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), tt.args, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%v: exit code %d, %q; want %d and %q", tt.args, code, errs.String(), exitFailed, tt.want)
		}
	}
}

func TestMissingProgramNamesItsPackage(t *testing.T) {
	t.Setenv("PATH", filepath.Join(t.TempDir(), "nothing"))
	if _, err := find("redis-server", "redis-server"); err == nil || !strings.Contains(err.Error(), "apt-get install redis-server") {
		t.Errorf("%v, want the command that installs it", err)
	}
}
