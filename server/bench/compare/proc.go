package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of processor time in /proc, which Linux fixes for its users.
const tick = 10 * time.Millisecond

// stat is the part of /proc/PID/stat that is used.
type stat struct {
	parent int
	cpu    time.Duration // used by the process, its ended children not counted
}

// parseStat reads a line of /proc/PID/stat.
func parseStat(line []byte) (stat, error) {
	// The name, in parentheses, may hold anything.
	i := bytes.LastIndexByte(line, ')')
	fields := strings.Fields(string(line[i+1:]))
	if i < 0 || len(fields) < 13 {
		return stat{}, errors.New("stat: too short")
	}
	parent, err := strconv.Atoi(fields[1])
	user, userErr := strconv.ParseInt(fields[11], 10, 64)
	system, systemErr := strconv.ParseInt(fields[12], 10, 64)
	return stat{parent, time.Duration(user+system) * tick}, errors.Join(err, userErr, systemErr)
}

// cpuOfTree returns the processor time of a process and its children, by process.
func cpuOfTree(pid int) (map[int]time.Duration, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	out := make(map[int]time.Duration)
	for _, dir := range dirs {
		id, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		line, err := os.ReadFile(filepath.Join(dir, "stat"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		s, err := parseStat(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		if id == pid || s.parent == pid {
			out[id] = s.cpu
		}
	}
	return out, nil
}

// cpuUsed returns the processor time that a process and its children use while
// work runs. What ends meanwhile is not counted.
func cpuUsed(pid int, work func() error) (time.Duration, error) {
	before, err := cpuOfTree(pid)
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := cpuOfTree(pid)
	if err != nil {
		return 0, err
	}
	var used time.Duration
	for id, cpu := range after {
		used += cpu - before[id]
	}
	return used, nil
}

// residentBytes returns the memory that a process has resident.
func residentBytes(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}
