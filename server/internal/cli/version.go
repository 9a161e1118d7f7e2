package cli

import (
	"context"
	"encoding/json"
	"flag"
	"runtime/debug"
)

// build is what the Go toolchain recorded in the binary.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

func version(_ context.Context, args []string, s Streams, _ []string) int {
	fs := flag.NewFlagSet("version", flag.ContinueOnError)
	asJSON := fs.Bool("json", false, "print JSON")
	if code, goOn := parse(fs, args, s, "sessiond version [--json]"); !goOn {
		return code
	}
	b := readBuild()
	if *asJSON {
		if err := json.NewEncoder(s.Out).Encode(b); err != nil {
			fail(s, "%v", err)
			return exitFailed
		}
		return exitGood
	}
	out := &printer{w: s.Out}
	text := "sessiond " + b.Version
	if b.Revision != "" {
		text += " (" + b.Revision + ")"
	}
	out.line("%s, %s", text, b.Go)
	return exitGood
}

func readBuild() build {
	b := build{Version: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version, b.Go = info.Main.Version, info.GoVersion
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}
