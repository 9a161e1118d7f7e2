package main

import (
	"context"
	"fmt"
)

// measureStart measures the time from the execution of the binary to its first
// "ready", with a full session table and with a small one.
func measureStart(ctx context.Context, l *lab) ([]Row, error) {
	big, err := l.bigDatabase(ctx)
	if err != nil {
		return nil, err
	}
	small, err := l.warmDatabase(ctx)
	if err != nil {
		return nil, err
	}
	var ready [2][]float64
	sample := func(side int, db *database) func() error {
		return func() error {
			a, err := l.startAuthority(ctx, db, nil)
			if err != nil {
				return err
			}
			ready[side] = append(ready[side], float64(a.ready.Microseconds())/1000)
			return a.stop()
		}
	}
	if err := l.inTurns(ctx, sample(0, big), sample(1, small)); err != nil {
		return nil, err
	}
	row := pairRow(fmt.Sprintf("start to ready, %d sessions / %d sessions", big.sessions, small.sessions), "ms", oursAtMost(1000, "ms"), oursByTheirs, ready[0], ready[1])
	return []Row{row}, nil
}
