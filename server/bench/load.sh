#!/usr/bin/env bash
# The load test behind `make load`: see load_test.go for what it checks.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
exec go test -tags=load -count=1 -timeout=30m -run '^TestLoad$' -v ./server/bench
