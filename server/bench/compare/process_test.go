package main

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestProcessEndsAsAsked(t *testing.T) {
	p, err := launch("sleep", exec.CommandContext(t.Context(), "sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.await(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("ended by our own signal: %v", err)
	}
}

func TestProcessThatEndsAtOnce(t *testing.T) {
	p, err := launch("sh", exec.CommandContext(t.Context(), "sh", "-c", "echo no port; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	err = p.await(t.Context(), func(context.Context) error { return errors.New("not ready") })
	if err == nil || !strings.Contains(err.Error(), "no port") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%v, want its output and how it ended", err)
	}
	if err := p.end(syscall.SIGTERM); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%v, want how it ended", err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var kept tail
	for range 3 {
		if n, err := kept.Write([]byte(strings.Repeat("x", tailLimit-1) + "\n")); n != tailLimit || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if _, err := kept.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if got := kept.String(); len(got) != tailLimit || !strings.HasSuffix(got, "\nlast") {
		t.Errorf("%d bytes kept, ending in %q", len(got), got[len(got)-10:])
	}
}
