package config_test

import (
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/config"
)

func TestShadow(t *testing.T) {
	load := func(flags map[string]string) (config.Config, error) {
		return config.Load(config.Sources{Env: []string{"SESSIOND_ISSUER_SECRET=" + secret}, Flags: flags}, false)
	}
	cfg, err := load(nil)
	if got := cfg.Server.Shadow; err != nil || got.IssuerURL != "" || got.PerMinute != 60 || got.Sample != 0.01 {
		t.Errorf("by default %+v, %v", got, err)
	}
	cfg, err = load(map[string]string{"shadow.issuer_url": "https://auth.example.com", "shadow.per_minute": "5", "shadow.sample": "1"})
	if got := cfg.Server.Shadow; err != nil || got.IssuerURL != "https://auth.example.com/api/auth" || got.PerMinute != 5 || got.Sample != 1 {
		t.Errorf("given %+v, %v", got, err)
	}
	for key, bad := range map[string][]string{
		"shadow.issuer_url": {"auth.example.com", "ftp://auth.example.com"},
		"shadow.per_minute": {"0", "-1", "many"},
		"shadow.sample":     {"1.1", "-0.1", "NaN", "half"},
	} {
		for _, value := range bad {
			if _, err := load(map[string]string{key: value}); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s=%s: %v", key, value, err)
			}
		}
	}
}

// TestSecretFiles: doctor looks at every file that holds a secret.
func TestSecretFiles(t *testing.T) {
	path := write(t, "s", secret)
	cfg, err := config.Load(config.Sources{Flags: map[string]string{"issuer.secret_file": path, "store.time_zone": "UTC", "issuer.base_url": "https://a.example"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.SecretFiles["issuer.secret_file"] != path || len(cfg.SecretFiles) != 1 || cfg.Server.Store.Zone == nil || cfg.IssuerURL != "https://a.example" {
		t.Errorf("%+v, zone %v, %s", cfg.SecretFiles, cfg.Server.Store.Zone, cfg.IssuerURL)
	}
}
