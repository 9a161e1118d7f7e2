package doctor

import (
	"context"
	"maps"
	"math"
	"os"
	"slices"
)

const (
	// wellKnown is what Better Auth uses where nobody configured a secret.
	wellKnown = "better-auth-secret-12345678901234567890"
	// minSecret is what config asks of a secret, in bytes; wantBits the least
	// estimate of its entropy, which the issuer asks for too.
	minSecret = 32
	wantBits  = 120
)

func checkSecrets(_ context.Context, x *examination) []Finding {
	var found []Finding
	for _, setting := range slices.Sorted(maps.Keys(x.SecretFiles)) {
		found = append(found, permissions(setting, x.SecretFiles[setting])...)
	}
	if secrets := x.Server.Authority.Cookies.Secrets; len(secrets) > 0 {
		found = append(found, strength("the issuer's secret", secrets[0])...)
	}
	if x.Server.OperatorSecret != "" {
		found = append(found, strength("the operators' secret", x.Server.OperatorSecret)...)
	}
	if len(found) == 0 {
		return one(OK, "secrets are long enough, and their files are their owner's")
	}
	return found
}

// permissions looks at who may read and write a file. Windows has no such bits,
// and shows none.
func permissions(setting, path string) []Finding {
	info, err := os.Stat(path)
	if err != nil {
		return one(Fail, "%s: %v", setting, err)
	}
	mode, fix := info.Mode().Perm(), "chmod 600 "+path
	switch {
	case mode&0o022 != 0:
		return []Finding{mend(Fail, fix, "%s: others than its owner may write %s (mode %04o)", setting, path, mode)}
	case mode&0o004 != 0:
		return []Finding{mend(Warn, fix, "%s: everybody on this machine may read %s (mode %04o)", setting, path, mode)}
	case mode&0o040 != 0:
		return []Finding{mend(Note, "", "%s: the group of %s may read it (mode %04o)", setting, path, mode)}
	}
	return nil
}

// strength tells a secret that everybody knows, or that was typed, from a random one.
func strength(what, secret string) []Finding {
	const fix = "openssl rand -base64 32, at the issuer too: it signs everybody out"
	switch {
	case secret == wellKnown:
		return []Finding{mend(Fail, fix, "%s is the one that Better Auth falls back to: everybody can sign cookies", what)}
	case len(secret) < minSecret:
		return []Finding{mend(Fail, fix, "%s has %d bytes, at least %d are wanted", what, len(secret), minSecret)}
	case entropy(secret) < wantBits:
		return []Finding{mend(Warn, fix, "%s repeats few characters: it was not drawn at random", what)}
	}
	return nil
}

// entropy estimates the bits in a secret as the issuer does: by its length and how
// many different bytes it has.
func entropy(secret string) float64 {
	different := make(map[byte]bool)
	for i := range len(secret) {
		different[secret[i]] = true
	}
	return float64(len(secret)) * math.Log2(float64(max(len(different), 1)))
}
