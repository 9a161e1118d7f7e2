package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// expiryWarn is how long before its end a certificate is worth a word.
const expiryWarn = 14 * 24 * time.Hour

func checkTLS(ctx context.Context, x *examination) []Finding {
	found := slices.Concat(x.listener(), x.remoteTLS(ctx), x.issuerTLS())
	if len(found) == 0 {
		return one(OK, "nothing leaves this machine in plaintext")
	}
	return found
}

// listener looks at serve's own files.
func (x *examination) listener() []Finding {
	files := x.Server.TLS
	if files.Cert == "" {
		switch {
		case Loopback(x.Server.Listen):
			return nil
		case x.Server.Insecure:
			return []Finding{mend(Warn, "tls.cert_file and tls.key_file, unless something else encrypts", "listen: %s is plaintext, which insecure allows", x.Server.Listen)}
		}
		return []Finding{mend(Fail, "tls.cert_file and tls.key_file", "listen: %s is not loopback and would be plaintext: serve does not start", x.Server.Listen)}
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return []Finding{mend(Fail, "tls.cert_file and tls.key_file", "the listener's certificate cannot be used: %v", err)}
	}
	return x.expiry("the listener's certificate", pair.Leaf)
}

// remoteTLS looks at what the running authority shows.
func (x *examination) remoteTLS(ctx context.Context) []Finding {
	switch {
	case x.Address == "":
		return nil
	case x.TLS == nil && Loopback(x.Address):
		return nil
	case x.TLS == nil:
		return []Finding{mend(Warn, "TLS on the authority, and --server-tls here", "%s is asked in plaintext, the cookie included", x.Address)}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	config := x.TLS.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", x.Address)
	if err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return []Finding{mend(Fail, "renew it; the files are read again at the next handshake", "the certificate of %s is over", x.Address)}
		}
		return []Finding{mend(Fail, "the names in the certificate, its authorities (--server-tls-ca), and TLS on the listener", "no TLS with %s: %v", x.Address, err)}
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	secure, ok := conn.(*tls.Conn)
	if !ok || len(secure.ConnectionState().PeerCertificates) == 0 {
		return []Finding{mend(Fail, "the listener's tls.cert_file", "%s showed no certificate", x.Address)}
	}
	return x.expiry("the certificate of "+x.Address, secure.ConnectionState().PeerCertificates[0])
}

// expiry says how long a certificate is good.
func (x *examination) expiry(what string, cert *x509.Certificate) []Finding {
	left := cert.NotAfter.Sub(x.Now())
	const fix = "renew it; the files are read again at the next handshake"
	switch {
	case left <= 0:
		return []Finding{mend(Fail, fix, "%s was good until %s", what, cert.NotAfter.UTC().Format(time.RFC3339))}
	case left < expiryWarn:
		return []Finding{mend(Warn, fix, "%s ends at %s, in %d days", what, cert.NotAfter.UTC().Format(time.RFC3339), int(left.Hours()/24))}
	}
	return one(OK, "%s is good until %s", what, cert.NotAfter.UTC().Format(time.RFC3339))
}

// issuerTLS holds the issuer's scheme against the cookie names that are read.
func (x *examination) issuerTLS() []Finding {
	if x.IssuerURL == "" {
		return nil
	}
	u, err := url.Parse(x.IssuerURL)
	if err != nil {
		return nil // parity says so
	}
	secure := slices.ContainsFunc(x.Server.Authority.Cookies.Names, func(name string) bool {
		return strings.HasPrefix(name, "__Secure-") || strings.HasPrefix(name, "__Host-")
	})
	names := strings.Join(x.Server.Authority.Cookies.Names, ", ")
	switch {
	case u.Scheme == "https" && !secure:
		return []Finding{mend(Warn, "issuer.base_url=https://…, or issuer.use_secure_cookies=true", "the issuer speaks https, so its cookies are named __Secure-…; read are %s", names)}
	case u.Scheme == "http" && !Loopback(u.Host):
		return []Finding{mend(Warn, "an https URL of the issuer", "the issuer at %s is asked in plaintext, the cookie included", u.Host)}
	}
	return nil
}

// Loopback reports whether an address, with or without a port, is this machine's own.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
