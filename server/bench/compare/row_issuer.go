package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"
)

// measureIssuer compares warm calls with what a worker would otherwise call: the
// issuer's own get-session over HTTP. Both servers have the same one processor;
// whoever calls them has the others.
func measureIssuer(ctx context.Context, l *lab) (rows []Row, err error) {
	const inFlight = 64
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	db, err := l.warmDatabase(ctx)
	if err != nil {
		return nil, err
	}
	wrap, note, err := pin(ctx, &ending)
	if err != nil {
		return nil, err
	}
	a, err := l.startAuthority(ctx, db, append([]string{"env", "GOMAXPROCS=1"}, wrap...))
	if err != nil {
		return nil, err
	}
	ending.push(a.stop)
	p := &pair{db: db, authority: a, requests: db.requests(0, min(warmSessions, db.sessions))}
	if p.ours, err = dial(a.address); err != nil {
		return nil, err
	}
	ending.push(p.ours.Close)
	if err := p.warm(ctx); err != nil {
		return nil, err
	}
	i, err := l.startIssuer(ctx, db, wrap)
	if err != nil {
		return nil, err
	}
	ending.push(i.stop)
	cookies := make([]string, len(p.requests))
	for n := range cookies {
		cookies[n] = db.cookie(n)
	}
	var rates [2][]float64
	d := l.span(3*time.Second, 300*time.Millisecond)
	sample := func(side int, call func(context.Context, int) error) func() error {
		return func() error {
			got, err := drive(ctx, inFlight, 0, d, call)
			if err == nil {
				rates[side] = append(rates[side], got.perSecond)
			}
			return err
		}
	}
	before, _, err := a.lookups(ctx)
	if err != nil {
		return nil, err
	}
	err = l.inTurns(ctx,
		sample(0, func(ctx context.Context, n int) error { return p.ours.validate(ctx, p.requests[n%len(p.requests)]) }),
		sample(1, func(ctx context.Context, n int) error { return i.session(ctx, cookies[n%len(cookies)]) }))
	if err != nil {
		return nil, err
	}
	row := pairRow("warm unary / Better Auth's get-session over HTTP, one server processor", "calls/s", ratioAtLeast(30), oursByTheirs, rates[0], rates[1])
	row.Note = note
	after, _, err := a.lookups(ctx)
	if err != nil {
		return nil, err
	}
	if after != before {
		row = row.invalid(fmt.Sprintf("%.0f lookups in the store: not warm", after-before))
	}
	return []Row{row}, nil
}

// pin gives this process all processors but the first until ending, and returns
// the command that runs a server on the first. Where that cannot be done the note
// says so.
func pin(ctx context.Context, ending *stack) (wrap []string, note string, err error) {
	taskset, err := exec.LookPath("taskset")
	if n := runtime.NumCPU(); err != nil || n < 2 {
		return nil, "servers not pinned: taskset or a second processor is missing", nil
	}
	set := func(ctx context.Context, cpus string) error {
		cmd := exec.CommandContext(ctx, taskset, "--all-tasks", "--cpu-list", "--pid", cpus, strconv.Itoa(os.Getpid()))
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("taskset: %w\n%s", err, text)
		}
		return nil
	}
	last := strconv.Itoa(runtime.NumCPU() - 1)
	if err := set(ctx, "1-"+last); err != nil {
		return nil, "", err
	}
	ending.push(func() error { return set(context.WithoutCancel(ctx), "0-"+last) })
	return []string{taskset, "--cpu-list", "0"}, "servers on processor 0, the caller on the others, PostgreSQL on all", nil
}
