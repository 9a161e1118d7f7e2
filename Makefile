# Every target works in a fresh clone. CI runs these and nothing else (.ci/run).
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

# Tools are pinned in tools/<tool>.mod, away from go.mod. Each variable may name
# an installed binary instead, which saves the first build of that tool.
BUF ?= go tool -modfile=$(CURDIR)/tools/buf.mod buf
GOLANGCI_LINT ?= go tool -modfile=$(CURDIR)/tools/golangci-lint.mod golangci-lint
GOVULNCHECK ?= go tool -modfile=tools/govulncheck.mod govulncheck
BENCHSTAT ?= go tool -modfile=tools/benchstat.mod benchstat

# The race detector needs cgo, which Go turns off where there is no C compiler.
RACE ?= $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
VECTORS ?= server/internal/vectors/testdata/better-auth
FUZZTIME ?= 30s
MUTANTS ?=
BUGS ?=
COUNT ?= 8
ROWS ?=
BASELINE := proto/baseline.binpb
GENERATED := gen examples/workers/workersv1 docs/config.md

# Modules of their own, whose weight no user of ours carries.
MODULES := server/history server/bench/compare
# make history runs the history itself.
MODULE_TESTS := -skip '^TestHistory$$'

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Run the authority on an embedded database with a demo session (Ctrl-C ends it)
	@exec bin/sessiond serve --dev # not "go run", which reports a clean end on Ctrl-C as an error

.PHONY: build
build: ## Build bin/sessiond
	go build -trimpath -o bin/sessiond ./server/cmd/sessiond

.PHONY: prepare
prepare: ## Find or install what the tests need; says what it installs, never sudo unasked
	@tools/prepare

.PHONY: test
test: prepare ## Run every test, the end-to-end story and the vectors included
	@$(if $(RACE),,echo "test: no C compiler found, so the race detector is off")
	go vet ./...
	@for module in $(MODULES); do (cd $$module && go vet ./... && go test $(MODULE_TESTS) ./...) || exit 1; done
	@start=$$SECONDS; go test $(RACE) ./... && echo "test: all packages passed in $$((SECONDS - start)) s" || \
		{ echo "test: FAILED; see the lines that begin with FAIL or ---" >&2; exit 1; }

.PHONY: e2e
e2e: prepare ## Run the end-to-end story: real Better Auth, authority and workers
	go test -count=1 -v ./server/internal/e2e

HISTORY = cd server/history && go test -count=1 -timeout=60m -v -run '^TestHistory$$' .

.PHONY: history
history: prepare ## Check histories of real processes under faults, over Postgres, over Redis and over both
	$(HISTORY) -bound=500ms -for=50s
	$(HISTORY) -bound=5s -for=40s
	$(HISTORY) -store=redis -bound=500ms -for=40s
	$(HISTORY) -store=both -bound=500ms -for=20s

.PHONY: history-long
history-long: prepare ## The same with 100,000 revocations
	$(HISTORY) -bound=500ms -rate=130 -revocations=101000 -authorities=3 -report=$(CURDIR)/build/history-long.json

.PHONY: mutants
mutants: prepare ## Leave rules of the protocol out, one at a time, and see each caught (MUTANTS=names)
	cd server/history && go run ./mutants $(MUTANTS)

# One each of feed, hub and client or authority.
CI_MUTANTS := proof-from-receipt-enumerated broken-stream-forgotten refused-from-memory

.PHONY: mutants-ci
mutants-ci: prepare ## Three of the mutants; the patches of all have to apply
	cd server/history && go run ./mutants -list > /dev/null
	cd server/history && go run ./mutants -list -dir=../internal/differential/bugs > /dev/null
	cd server/history && go run ./mutants $(CI_MUTANTS)

.PHONY: vectors
vectors: prepare ## Compare our verdicts with Better Auth's own (VECTORS=folder)
	SESSIOND_VECTORS="$(abspath $(VECTORS))" go test -count=1 -run '^TestVectors$$' -v ./server/internal/vectors

.PHONY: faults
faults: prepare ## Write docs/faults.md: what explain says of every fault in the catalogue
	go test -count=1 -run '^TestCatalogue$$' ./server/internal/catalogue -update

OUTPUTS ?= 1000000

.PHONY: secrecy
secrecy: ## Look for six bytes of a token or a secret in what explain says, a million times (OUTPUTS=n)
	SESSIOND_TEST_OUTPUTS=$(OUTPUTS) go test -count=1 -timeout=60m -v -run '^TestNoPieceIsTold$$' ./server/internal/catalogue

HEADERS ?= 4600

.PHONY: differential
differential: prepare ## Compare verdicts with real Better Auth: two versions, 23 configurations (HEADERS=4600 each), 7 without a store (a fifth)
	SESSIOND_TEST_DIFFERENTIAL=$(HEADERS) go test -count=1 -timeout=60m -v ./server/internal/differential

.PHONY: differential-bugs
differential-bugs: prepare ## Put bugs into the reader and the stores, one at a time, and see each found (BUGS=names)
	cd server/history && SESSIOND_TEST_DIFFERENTIAL=1000 go run ./mutants -dir=../internal/differential/bugs $(BUGS)

.PHONY: fuzz
fuzz: ## Run every fuzz target in turn (FUZZTIME=30s each)
	@tools/fuzz $(FUZZTIME)

.PHONY: lint
lint: ## Run golangci-lint and buf lint
	$(GOLANGCI_LINT) run ./...
	@for module in $(MODULES); do (cd $$module && $(GOLANGCI_LINT) run ./...) || exit 1; done
	$(BUF) lint
	$(BUF) lint examples/workers

.PHONY: vuln
vuln: ## Look for known vulnerabilities (needs the network: vuln.go.dev)
	$(GOVULNCHECK) ./...

.PHONY: generate
generate: ## Generate gen/, the example workers' protocol and docs/config.md
	$(BUF) generate
	cd examples/workers && $(BUF) generate
	go test -run '^TestDocs$$' ./server/internal/config -update

.PHONY: check
check: ## Check go.mod, formatting, generated code, the contract and the imports
	go mod tidy -diff
	@for module in $(MODULES); do (cd $$module && go mod tidy -diff) || exit 1; done
	@files=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
		[[ -z $$files ]] || { printf 'not formatted (run gofmt -w):\n%s\n' "$$files" >&2; exit 1; }
	@$(MAKE) generate
	@git diff --exit-code -- $(GENERATED) || { echo "check: out of date; commit the result of make generate" >&2; exit 1; }
	@new=$$(git ls-files --others --exclude-standard -- $(GENERATED)); \
		[[ -z $$new ]] || { printf 'check: generated but not committed:\n%s\n' "$$new" >&2; exit 1; }
	$(BUF) lint
	$(BUF) breaking --against $(BASELINE)
	go test ./internal/archtest

.PHONY: baseline
baseline: ## At a release only: make today's contract the one not to break
	$(BUF) build -o $(BASELINE)

.PHONY: bench
bench: ## Run the benchmarks in COUNT rounds and summarise build/bench.txt
	@mkdir -p build
	@packages=$$(tools/targets Benchmark | cut -d' ' -f1 | uniq); \
		[[ -n $$packages ]] || { echo "bench: no benchmarks found" >&2; exit 1; }; \
		: > build/bench.txt; \
		for round in $$(seq $(COUNT)); do \
			echo "bench: round $$round of $(COUNT)"; \
			go test -run '^$$' -bench . -benchmem -p 1 $$packages | tee -a build/bench.txt; \
		done # rounds, so that what is compared is interleaved
	$(BENCHSTAT) build/bench.txt

.PHONY: bench-compare
bench-compare: prepare ## Compare with what a user would otherwise run; prints a table, writes server/bench/compare.json (ROWS=some: only prints)
	cd server/bench/compare && go run . -rounds $(COUNT) $(if $(ROWS),-rows $(ROWS),-out ../compare.json)

.PHONY: bench-signout
bench-signout: prepare ## Better Auth's own sign-outs until refused everywhere, and what the feed costs it
	cd server/bench/compare && go run . -signout -rounds $(COUNT)

.PHONY: load
load: ## Drive the real server on Postgres with ghz, 100,000 sessions; writes build/load/report.md
	server/bench/load.sh
