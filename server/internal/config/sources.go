package config

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/sessiond/sessiond/server/internal/spelling"
)

// Sources are the places settings come from.
type Sources struct {
	// Flags holds the flags that were given, by setting key.
	Flags map[string]string
	// Env is the environment, as os.Environ returns it.
	Env []string
	// File is the configuration file's path; empty: SESSIOND_CONFIG, else none.
	File string
}

// RegisterFlags adds a flag for every setting that may have one. The returned
// map is filled as the flag set parses.
func RegisterFlags(fs *flag.FlagSet) map[string]string {
	given := make(map[string]string)
	for _, s := range settings {
		if s.EnvOnly {
			continue
		}
		set := func(value string) error { given[s.Key] = value; return nil }
		if s.Type == "bool" {
			fs.BoolFunc(s.Flag(), s.Help, set)
		} else {
			fs.Func(s.Flag(), s.Help, set)
		}
	}
	return given
}

// value is a setting's value and where it came from, for error texts.
type value struct {
	text, source string
}

// sourceDefault is the source of what nobody set.
const sourceDefault = "default"

// resolve applies the precedence. All problems are reported at once.
func resolve(src Sources) (map[string]value, error) {
	var errs []error
	values := make(map[string]value, len(settings))
	byKey := make(map[string]Setting, len(settings))
	for _, s := range settings {
		values[s.Key] = value{s.Default, sourceDefault}
		byKey[s.Key] = s
	}

	env := make(map[string]string)
	for _, pair := range src.Env {
		if name, text, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, envPrefix) {
			env[name] = text
		}
	}
	file := src.File
	if file == "" {
		file = env[envConfig]
	}
	delete(env, envConfig)

	if file != "" {
		fromFile, err := readFile(file)
		if err != nil {
			errs = append(errs, err)
		}
		for _, key := range slices.Sorted(maps.Keys(fromFile)) {
			s, known := byKey[key]
			switch {
			case !known:
				errs = append(errs, fmt.Errorf("%s: unknown key %s%s", file, key, suggest(key)))
			case s.EnvOnly:
				errs = append(errs, fmt.Errorf("%s: %s is a secret and does not belong in this file: set %s_file, or the variable %s", file, key, key, s.Env()))
			default:
				values[key] = value{fromFile[key], file}
			}
		}
	}
	for _, s := range settings {
		if text, ok := env[s.Env()]; ok {
			values[s.Key] = value{text, s.Env()}
			delete(env, s.Env())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, envPrefix+"TEST_") {
			continue // the test suite's own
		}
		key := strings.ToLower(strings.TrimPrefix(name, envPrefix))
		errs = append(errs, fmt.Errorf("environment: unknown variable %s%s", name, suggest(key)))
	}
	for key, text := range src.Flags {
		values[key] = value{text, "--" + byKey[key].Flag()}
	}
	return values, errors.Join(errs...)
}

const envConfig = envPrefix + "CONFIG"

// readFile reads a TOML file into dotted keys. Lists become comma-separated
// text, and a table below a setting (field = "column") becomes field=column text,
// so that every source has the same values.
func readFile(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	var tree map[string]any
	if _, err := toml.Decode(string(text), &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	flat := make(map[string]string)
	return flat, flatten(path, "", tree, flat)
}

func flatten(path, prefix string, tree map[string]any, into map[string]string) error {
	var errs []error
	for key, node := range tree {
		full := prefix + key
		if table, ok := node.(map[string]any); ok {
			if !isSetting(full) {
				errs = append(errs, flatten(path, full+".", table, into))
				continue
			}
			var pairs []string
			for _, field := range slices.Sorted(maps.Keys(table)) {
				column, ok := table[field].(string)
				if !ok {
					errs = append(errs, fmt.Errorf("%s: %s.%s is not text", path, full, field))
				}
				pairs = append(pairs, field+"="+column)
			}
			into[full] = strings.Join(pairs, ",")
			continue
		}
		if list, ok := node.([]any); ok {
			items := make([]string, len(list))
			for i, item := range list {
				items[i] = fmt.Sprint(item)
			}
			into[full] = strings.Join(items, ",")
			continue
		}
		into[full] = fmt.Sprint(node)
	}
	return errors.Join(errs...)
}

func isSetting(key string) bool {
	return slices.ContainsFunc(settings, func(s Setting) bool { return s.Key == key })
}

// suggest names the setting that was likely meant.
func suggest(key string) string {
	flat := strings.NewReplacer(".", "", "_", "", "-", "")
	best, distance := "", 3
	for _, s := range settings {
		if d := spelling.Distance(flat.Replace(key), flat.Replace(s.Key)); d < distance {
			best, distance = s.Key, d
		}
	}
	if best == "" {
		return " (sessiond help serve lists all settings)"
	}
	return " (did you mean " + best + "?)"
}
