package config_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/config"
)

var update = flag.Bool("update", false, "write docs/config.md instead of comparing it")

// TestDocs keeps docs/config.md equal to the table of settings.
func TestDocs(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "config.md")
	want := render()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/config.md differs from the table of settings: run make generate")
	}
}

func render() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Generated from the table in ` + "`server/internal/config/settings.go`" + ` by ` + "`make generate`" + `; a test compares the two.

Without any setting, ` + "`sessiond serve`" + ` runs on an embedded SQLite file and listens on loopback. A setting is given as a
flag, an environment variable or a key in a TOML file (` + "`--config FILE`" + ` or ` + "`SESSIOND_CONFIG`" + `). A flag beats the
environment, the environment beats the file, the file beats the default. Unknown flags, variables that start with
` + "`SESSIOND_`" + ` and unknown keys are errors.

` + "```toml" + `
listen = "127.0.0.1:8443"

[store]
driver = "postgres"
dsn_file = "/run/secrets/dsn"

[store.session_columns]          # only where discovery cannot know
expiresAt = "valid_until"

[issuer]
version = "1.7"
base_url = "https://auth.example.com"
secret_file = "/run/secrets/better-auth"
` + "```" + `

Durations are written like ` + "`30s`, `15m` or `168h`" + `. Lists are TOML arrays, or text with commas.

| setting | flag | variable | value | default |
|---|---|---|---|---|
`)
	for _, s := range config.Settings() {
		name := "--" + s.Flag()
		if s.EnvOnly {
			name = "none: a secret"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | %s | %s |\n", s.Key, name, s.Env(), strings.ReplaceAll(s.Type, "|", ", "), code(s.Default))
	}
	b.WriteString("\n## What they do\n")
	table := "none"
	for _, s := range config.Settings() {
		t, _, dotted := strings.Cut(s.Key, ".")
		if !dotted {
			t = ""
		}
		if t != table {
			table = t
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "- `%s`: %s\n", s.Key, s.Help)
	}
	return b.String()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
