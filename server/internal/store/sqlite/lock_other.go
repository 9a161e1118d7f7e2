//go:build !unix

package sqlite

import (
	"errors"
	"os"
)

func lockFile(string) (*os.File, error) {
	return nil, errors.New("this system has no file locks that end with their process")
}
