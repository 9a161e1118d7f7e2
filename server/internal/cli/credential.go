package cli

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// input is a credential as an operator gives it.
type input struct {
	form  string
	value string // formValue, formToken
	// cookie and authorization are the headers, for formHeaders.
	cookie, authorization string
}

const (
	formHeaders = "headers"
	formValue   = "value"
	formToken   = "token"
)

// maxInput bounds what is read: a little more than any server takes, so that the
// authority's own answer to an oversized header can be seen.
const maxInput = 2 << 20

type inputFlags struct{ file, as string }

func (f *inputFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.file, "file", "", "FILE: read the credential from FILE instead of standard input")
	fs.StringVar(&f.as, "as", formHeaders, "headers|value|token: what the input is. headers (default): a Cookie header, or lines \"Cookie: …\" and \"Authorization: …\"; value: the session cookie's value; token: a bare token")
}

// read reads the credential. One line break at the end is not part of it.
func (f *inputFlags) read(stdin io.Reader) (input, error) {
	source, name := stdin, "standard input"
	if f.file != "" {
		file, err := os.Open(f.file)
		if err != nil {
			return input{}, err
		}
		defer file.Close() //nolint:errcheck // read only
		source, name = file, f.file
	}
	content, err := io.ReadAll(io.LimitReader(source, maxInput+1))
	if err != nil {
		return input{}, fmt.Errorf("%s: %w", name, err)
	}
	if len(content) > maxInput {
		return input{}, fmt.Errorf("%s: more than %d bytes: not a credential", name, maxInput)
	}
	content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if len(content) == 0 {
		return input{}, fmt.Errorf("%s is empty: give the Cookie header there", name)
	}
	switch f.as {
	case formValue, formToken:
		return input{form: f.as, value: string(content)}, nil
	case formHeaders:
		return parseHeaders(string(content))
	default:
		return input{}, fmt.Errorf("--as %q: use headers, value or token", f.as)
	}
}

// parseHeaders takes lines as a browser's developer tools or curl -v print them,
// or the bare value of a Cookie header.
func parseHeaders(text string) (input, error) {
	in := input{form: formHeaders}
	var cookies []string
	seen := false
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimPrefix(strings.TrimSuffix(line, "\r"), "> ")
		name, value, ok := strings.Cut(line, ":")
		switch {
		case ok && strings.EqualFold(strings.TrimSpace(name), "cookie"):
			cookies, seen = append(cookies, strings.TrimSpace(value)), true
		case ok && strings.EqualFold(strings.TrimSpace(name), "authorization"):
			in.authorization, seen = strings.TrimSpace(value), true
		}
	}
	if !seen {
		if strings.Contains(text, "\n") {
			return input{}, errors.New("several lines and none starts with \"Cookie:\" or \"Authorization:\": give one Cookie header")
		}
		in.cookie = text
		return in, nil
	}
	in.cookie = strings.Join(cookies, "; ")
	return in, nil
}
