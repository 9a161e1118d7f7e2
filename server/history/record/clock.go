package record

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CheckClock reports whether the machine has the clock that [Now] reads.
func CheckClock() error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return fmt.Errorf("read CLOCK_MONOTONIC: %w", err)
	}
	return nil
}

// Now reads CLOCK_MONOTONIC, in nanoseconds. All processes of one machine share
// it, and nobody can set it. It is read afresh and not counted from the start of
// the process, so that readings of two processes can be compared exactly. Where
// [CheckClock] has passed it cannot fail.
func Now() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // see CheckClock
	return ts.Nano()
}
