# HashInsight: everything a developer or CI runs. `make help` explains the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

MODULES  := proto pkg agent hub deploy/e2e
PROGRAMS := hub/cmd/hashinsight-hub hub/cmd/hashinsight-verify agent/cmd/hashinsight-agent pkg/cmd/hashinsight-sim deploy/e2e/cmd/hashinsight-run
# A semantic version also where no tag is: /health promises one.
VERSION  ?= $(shell (git describe --tags --match 'v*' --dirty 2>/dev/null || echo v0.0.0-dev+$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)) | sed 's/^v//')
LDFLAGS  := -s -w -X github.com/hashinsight/hashinsight/pkg/diag.version=$(VERSION) -X main.version=$(VERSION)

# Tools of this project, each at one version, built or installed below .tools.
TOOLS         := $(CURDIR)/.tools
GOLANGCI      := v2.15.0
GOVULNCHECK   := v1.9.0
VERSITYGW     := v1.8.0
GEN_GO        := v1.36.12
GEN_GO_GRPC   := v1.6.2
BUF           := 1.75.0

# make run: miners in the fleet, how long (empty: until Ctrl-C), kill -9s of agent and hub each, and whether with a chain.
FLEET    ?= 200
DURATION ?=
KILLS    ?= 0
CHAIN    ?= 1
# make soak: how long heaps and tables are watched.
SOAK     ?= 20m

.PHONY: help run chain build web test test-go contracts-check test-web test-proofs test-page test-kills smoke lint gen gen-check bench soak soak-anchor fuzz-short verify scan clean install-run install-test

help: ## explain the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# The chain that make run anchors in, and the compiler of its contract.
CONTRACTS := hub/contracts/node_modules/.installed

run: install-run build $(if $(filter 0,$(CHAIN)),,$(CONTRACTS)) ## run a simulated fleet, an agent, a hub and a chain; FLEET=200 DURATION=60s KILLS=0 CHAIN=0
	bin/hashinsight-run --fleet $(FLEET) --kills $(KILLS) $(if $(DURATION),--duration $(DURATION)) $(if $(filter 0,$(CHAIN)),--chain=false)

chain: ## only the chain of the last make run, to check proofs while nothing else runs
	bin/hashinsight-run --chain-only

build: web ## build the page and every program into bin/
	@mkdir -p bin
	@echo "build: the programs, version $(VERSION), into bin/"
	@for p in $(PROGRAMS); do (cd $${p%%/cmd/*} && GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(CURDIR)/bin/ ./cmd/$${p##*/}); done

# The page is rebuilt when a source is newer than the last build.
web: hub/internal/webui/dist/app/index.html ## build the page (hub/web) into the hub's embedded files
hub/internal/webui/dist/app/index.html: hub/web/node_modules/.installed $(shell git ls-files hub/web 2>/dev/null)
	@echo "build: the page"
	@cd hub/web && npm run --silent build | sed -E '/^(\.\.\/|vite |transforming|rendering|computing|$$)/d' # not each of its hundred files
	@touch $@
# npm ci empties the directory first: through a link, that of another checkout, which others may be using.
hub/%/node_modules/.installed: hub/%/package-lock.json
	@if [ -L $(@D) ]; then \
		cmp -s $< "$$(readlink -f $(@D))/../package-lock.json" && [ -e $@ ] || \
		{ echo "$(@D) is a link to packages of another lock file, or to none: remove the link, make installs them here"; exit 1; }; \
	else \
		echo "install: npm packages of hub/$* (package-lock.json)"; \
		cd hub/$* && npm ci --no-audit --no-fund --loglevel=error; \
	fi
	@touch $@

# The kill loop mostly waits for what it has killed: beside the Go tests it takes hardly any time of its own.
test: install-test build test-web ## install what tests need, build, and run every test
	$(MAKE) --no-print-directory -o build -j2 test-go test-kills
	$(MAKE) --no-print-directory -o build test-proofs contracts-check test-page

# All modules at once, the longest package first: a processor that waits for the last one is of no use to anybody.
test-go: build $(CONTRACTS) $(TOOLS)/bin/versitygw ## Go tests of every module with the race detector
	CGO_ENABLED=1 HSI_TEST_BIN=$(CURDIR)/bin go test -race -timeout 30m ./deploy/e2e/... $(patsubst %,./%/...,$(filter-out deploy/e2e,$(MODULES)))

# Another 11,000 files with HSI_PROOF_SEED=N.
test-proofs: hub/web/node_modules/.installed ## the two verifiers, Go's and the page's, say the same of 11,000 proof files that hold and that lie
	d=$$(mktemp -d); trap 'rm -rf "$$d"' EXIT; export HSI_PROOF_CORPUS=$$d; \
	(cd pkg && go test -count=1 -run '^TestCorpus$$' ./proof/prooftest) && npm --prefix hub/web run --silent agree

contracts-check: $(CONTRACTS) ## the committed contract is what its source compiles to
	npm --prefix hub/contracts run --silent check

test-web: hub/web/node_modules/.installed ## type check and unit tests of the page
	cd hub/web && npm run --silent typecheck && npm test --silent

# A small fleet polled every second, so that little time lies between the moments that matter.
KILLRUN := bin/hashinsight-run --fleet 30 --interval 1s --batch 1s --timeout 2s --anchor 3s --fresh

test-kills: build $(CONTRACTS) ## agent killed with -9 20 times, hub 20 times, PostgreSQL 5 times, under stream and while the log is anchored
	$(KILLRUN) --kill-agent 20 --kill-hub 20 --kill-postgres 5 --name kills --run-dir .run/kills

test-page: build $(CONTRACTS) ## the page in headless Chromium against a running hub with 200 miners
	bin/hashinsight-run --fleet 200 --name page --fresh --run-dir .run/page -- npm --prefix hub/web run --silent e2e

smoke: build $(CONTRACTS) ## make run for 90 s with the agent and the hub each killed with -9 three times
	bin/hashinsight-run --fleet 200 --duration 90s --kills 3 --name smoke --fresh --run-dir .run/smoke

lint: $(TOOLS)/bin/golangci-lint hub/web/node_modules/.installed ## golangci-lint, import rules, buf lint, eslint
	for m in $(MODULES); do (cd $$m && GOWORK=off $(TOOLS)/bin/golangci-lint run ./...); done
	cd proto && $(TOOLS)/node_modules/.bin/buf lint
	cd hub/web && npm run --silent lint

gen: $(TOOLS)/gen ## regenerate code: proto, OpenAPI document, page client, .env.example
	cd proto && PATH="$(TOOLS)/bin:$$PATH" $(TOOLS)/node_modules/.bin/buf generate
	cd hub && go generate ./...
	cd hub/web && npm run --silent gen

gen-check: gen ## fail when generating again changes a committed file
	@git diff --exit-code --stat -- proto hub || { echo "gen-check: generated files differ: commit what 'make gen' wrote"; exit 1; }

bench: build ## measure the targets of limits.md into .run/bench.json and print them
	@mkdir -p .run && rm -f .run/bench.json
	cd agent && HSI_BENCH=$(CURDIR)/.run/bench.json HSI_TEST_BIN=$(CURDIR)/bin go test -p 1 -count=1 -timeout 30m -run '^TestBench' ./...
	cd pkg && HSI_BENCH=$(CURDIR)/.run/bench.json go test -p 1 -count=1 -timeout 30m -run '^TestBench' ./...
	cd hub && HSI_BENCH=$(CURDIR)/.run/bench.json go test -p 1 -count=1 -timeout 30m -run '^TestBench' ./...
	cd deploy/e2e && HSI_BENCH=$(CURDIR)/.run/bench.json HSI_TEST_BIN=$(CURDIR)/bin go test -p 1 -count=1 -timeout 30m -run '^TestBench' ./...
	HSI_BENCH=$(CURDIR)/.run/bench.json bin/hashinsight-run --fleet 200 --name bench --fresh --run-dir .run/bench --chain=false -- npm --prefix hub/web run --silent staleness
	cd deploy/e2e && go run ./cmd/hashinsight-bench $(CURDIR)/.run/bench.json | tee $(CURDIR)/deploy/BENCHMARKS.md

soak: build $(CONTRACTS) ## 100 kills of agent and hub each, 20 of PostgreSQL; soak-anchor; the end of an hour under contract; then 20 minutes in which heaps and tables stay within bounds
	$(KILLRUN) --kill-agent 100 --kill-hub 100 --kill-postgres 20 --name soak-kills --run-dir .run/soak-kills
	$(MAKE) --no-print-directory soak-anchor
	cd deploy/e2e && HSI_TEST_HOUR=1 HSI_TEST_BIN=$(CURDIR)/bin go test -count=1 -timeout 100m -run '^TestAnHourOfContracts$$' -v ./localrun
	bin/hashinsight-run --fleet 1000 --duration $(SOAK) --soak --name soak --fresh --run-dir .run/soak

soak-anchor: $(CONTRACTS) ## 200 seeded runs of the anchor with reorgs, faults of endpoints and kills in every state: nothing lost, nothing anchored twice
	cd hub && HSI_TEST_NO_SKIP=1 HSI_TEST_ANCHOR_SEEDS=200 go test -count=1 -timeout 60m -run '^TestSeededRunsLoseAndDoubleNothing$$' ./internal/anchor

# About as many inputs as 20 s took on 2 cores, and not 20 s: at the end of a time Go before 1.27 may call its own deadline a failure (go.dev/issue/75804).
fuzz-short: ## fuzz each decoder with 80,000 to 400,000 inputs
	cd agent && go test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime 250000x ./internal/cgminer
	cd pkg && go test -run '^$$' -fuzz '^FuzzDecode$$' -fuzztime 80000x -fuzzminimizetime 100x ./wire
	cd hub && go test -run '^$$' -fuzz '^FuzzStatement$$' -fuzztime 400000x -fuzzminimizetime 100x ./internal/sla
	cd hub && go test -run '^$$' -fuzz '^FuzzInputs$$' -fuzztime 400000x -fuzzminimizetime 100x ./internal/sla
	cd pkg && go test -run '^$$' -fuzz '^FuzzForms$$' -fuzztime 400000x -fuzzminimizetime 100x ./evidence
	cd pkg && go test -run '^$$' -fuzz '^FuzzEntry$$' -fuzztime 350000x -fuzzminimizetime 100x ./proof
	cd pkg && go test -run '^$$' -fuzz '^FuzzCheckpoint$$' -fuzztime 300000x -fuzzminimizetime 100x ./proof
	cd pkg && go test -run '^$$' -fuzz '^FuzzFile$$' -fuzztime 140000x -fuzzminimizetime 100x ./proof

# As build compiles, also for linters, tools and tests without the race detector: what it has compiled is not compiled again with other flags.
lint verify test-proofs fuzz-short soak-anchor: export CGO_ENABLED := 0
lint verify test-proofs fuzz-short soak-anchor: export GOFLAGS := -trimpath
verify: lint gen-check ## every check that is not a test: lint, generated code, tidy modules, builds without the workspace
	for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy -diff && GOWORK=off go build ./... && GOWORK=off go vet ./...); done
	for t in windows/amd64 linux/arm64; do (cd agent && GOWORK=off CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} go build -o /dev/null ./cmd/hashinsight-agent); done

scan: $(TOOLS)/bin/govulncheck ## known vulnerabilities in Go and npm dependencies (needs the public databases)
	for m in $(MODULES); do (cd $$m && $(TOOLS)/bin/govulncheck ./...); done
	cd hub/web && npm audit --omit=dev

clean: ## remove what make built; data of make run stays
	rm -rf bin .tools hub/internal/webui/dist/app hub/web/node_modules hub/contracts/node_modules

install-run:
	@deploy/dev/install.sh run
install-test:
	@deploy/dev/install.sh test
	@$(MAKE) --no-print-directory $(TOOLS)/bin/versitygw

$(TOOLS)/bin/golangci-lint:
	@echo "install: golangci-lint $(GOLANGCI) (built from its Go module)"
	GOBIN=$(TOOLS)/bin GOWORK=off go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@$(MAKE) --no-print-directory $(TOOLS)/gen
$(TOOLS)/bin/govulncheck:
	GOBIN=$(TOOLS)/bin GOWORK=off go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK)
# An S3 server, for tests of the archive: a program of its own that nothing links.
$(TOOLS)/bin/versitygw:
	@echo "install: versitygw $(VERSITYGW) (S3 server for tests, built from its Go module: about 130 s of CPU time)"
	GOBIN=$(TOOLS)/bin GOWORK=off CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW)
$(TOOLS)/gen:
	@echo "install: buf $(BUF), protoc-gen-go $(GEN_GO), protoc-gen-go-grpc $(GEN_GO_GRPC)"
	npm install --prefix $(TOOLS) --no-audit --no-fund --no-save --loglevel=error @bufbuild/buf@$(BUF)
	GOBIN=$(TOOLS)/bin GOWORK=off go install google.golang.org/protobuf/cmd/protoc-gen-go@$(GEN_GO)
	GOBIN=$(TOOLS)/bin GOWORK=off go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(GEN_GO_GRPC)
	@touch $@
