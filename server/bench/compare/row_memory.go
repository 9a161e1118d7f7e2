package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	kibibyte = 1 << 10
	// memoryCacheBytes is the cache's bound while its memory is measured: more than
	// the bar, so that the bar is what fails.
	memoryCacheBytes = 2 << 30
)

// measureMemory measures what a cached session costs the authority, all in: the
// growth of its resident memory.
func measureMemory(ctx context.Context, l *lab) (rows []Row, err error) {
	var ending stack
	defer func() { err = errors.Join(err, ending.close()) }()
	db, err := l.bigDatabase(ctx)
	if err != nil {
		return nil, err
	}
	n := l.size(1_000_000, 20_000)
	a, err := l.startAuthority(ctx, db, nil, "--cache-max-bytes", strconv.Itoa(memoryCacheBytes))
	if err != nil {
		return nil, err
	}
	ending.push(a.stop)
	p := &pair{db: db, authority: a, requests: db.requests(0, n)}
	if p.ours, err = dial(a.address); err != nil {
		return nil, err
	}
	ending.push(p.ours.Close)

	empty, err := p.memory(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.warm(ctx); err != nil {
		return nil, err
	}
	full, err := p.memory(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := a.metric(ctx, "sessiond_cache_entries")
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("authority, %d cached sessions: ", n)
	rows = []Row{
		soloRow(name+"resident memory a session", "B", oursAtMost(kibibyte, "B"), []float64{(full.resident - empty.resident) / float64(n)}),
		soloRow(name+"live heap a session", "B", noBar, []float64{(full.heap - empty.heap) / float64(n)}),
		soloRow(name+"resident memory in all", "MiB", noBar, []float64{full.resident / (1 << 20)}),
	}
	if n == 1_000_000 {
		rows[2] = soloRow(name+"resident memory in all", "MiB", oursAtMost(1024, "MiB"), []float64{full.resident / (1 << 20)})
	}
	if int(entries) < n {
		for i := range rows {
			rows[i] = rows[i].invalid(fmt.Sprintf("only %.0f sessions were cached", entries))
		}
	}
	return rows, nil
}

// usage is a process's memory in bytes, with little garbage in it.
type usage struct{ resident, heap float64 }

// memory has the authority's garbage collected by giving it work, since nothing
// outside can ask for it, and returns the least that was seen meanwhile.
func (p *pair) memory(ctx context.Context) (usage, error) {
	const cycles = 3
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	first, err := p.authority.metric(ctx, "go_gc_duration_seconds_count")
	if err != nil {
		return usage{}, err
	}
	var least usage
	for {
		// One session over and over: the cache does not grow by it.
		_, err := drive(ctx, 16, 0, 100*time.Millisecond, func(ctx context.Context, _ int) error { return p.ours.validate(ctx, p.requests[0]) })
		if err != nil {
			return usage{}, fmt.Errorf("waiting for the authority's garbage collector: %w", err)
		}
		heap, err := p.authority.metric(ctx, "go_memstats_heap_alloc_bytes")
		if err != nil {
			return usage{}, err
		}
		if least.heap == 0 || heap < least.heap {
			least.heap = heap
		}
		now, err := p.authority.metric(ctx, "go_gc_duration_seconds_count")
		if err != nil {
			return usage{}, err
		}
		if now >= first+cycles {
			break
		}
	}
	least.resident, err = residentBytes(p.authority.pid())
	return least, err
}
