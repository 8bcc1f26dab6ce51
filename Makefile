# Everything that the project needs is built from Go modules: a checkout, Go,
# make, git and a C compiler (for the race detector) are enough.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --match "v*" --dirty 2>/dev/null || echo v0.0.0-dev)
REGISTRY ?= ghcr.io/autoburst
# The time in what is released is that of the commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
TOOL    := go tool -modfile=tools.mod
GOFLAGS_BUILD := -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
# Tests of the whole system build and run programs that the go command does not
# know they depend on, so their results are never taken from its cache. Each package
# starts a system of its own; two run side by side, the longest first.
SYSTEM_TESTS := ./test/e2e/... \
	./test/faults/... \
	./test/certificates/... \
	./test/chart/... \
	./test/cli/... \
	./test/cluster/... \
	./test/containers/... \
	./test/demo/... \
	./test/docs/... \
	./test/imports/... \
	./test/observe/... \
	./test/rights/... \
	./test/startup/...
# These compare speeds, and wait until the others are gone.
OTHER_SYSTEM_TESTS := ./test/bench/foreign/... ./test/mutating/...
# So does chaos. CI takes the same plan each time; `make chaos` draws another.
CHAOS_TESTS := ./test/chaos/...
# This compares with Kubernetes' own code, in a module of its own. The flags are those
# of the control plane, so that what both compile is compiled once.
UPSTREAM := cd test/upstream && export CGO_ENABLED=0 GOWORK=off && go
# The chart, rendered by Helm's library and by helm-unittest, in a module of their own.
HELM := cd test/helm && export CGO_ENABLED=0 GOWORK=off GOFLAGS=-trimpath && go
CHAOS_SEED ?= 1
ROUNDS ?= 200
SEED   ?= 0
FIRST  ?= 0
UNIT_TESTS = $(filter-out $(shell go list $(SYSTEM_TESTS) $(OTHER_SYSTEM_TESTS) $(CHAOS_TESTS)),$(shell go list ./...))

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Watch a full cluster overflow to ECI and ACI, on this machine, then tear all down
	@go run ./test/demo

.PHONY: playground
playground: ## The same system with a live view and a web page, left running until Ctrl-C
	@go run ./test/demo -playground

.PHONY: tour
tour: ## A guided tour of the playground, in the one that runs or in one of its own; YES=1 does not ask
	@go run ./test/demo -tour $(if $(YES),-yes)

.PHONY: build
build: ## Compile the programs into bin/
	go build $(GOFLAGS_BUILD) -o bin/ ./cmd/...

.PHONY: test
test: control-plane ## Unit, integration and end-to-end tests, with the race detector
	go vet ./...
	go test -race -timeout 15m $(UNIT_TESTS)
	$(UPSTREAM) vet -trimpath ./... && go test -trimpath -timeout 10m ./...
	$(HELM) vet ./... && go test -count=1 -timeout 10m ./... && go tool helm-unittest ../../charts/autoburst
	go -C cmd/release test -count=1 -timeout 15m ./...
	go test -race -timeout 60m -count=1 -p 2 $(SYSTEM_TESTS)
	go test -race -timeout 15m -count=1 -p 1 $(OTHER_SYSTEM_TESTS)
	go test -race -timeout 15m -count=1 $(CHAOS_TESTS) -rounds 200 -seed $(CHAOS_SEED)

.PHONY: chaos
chaos: control-plane ## Random workloads under random faults and kills of the agents: ROUNDS=n SEED=s FIRST=n
	go test -race -timeout $$(($(ROUNDS) / 15 + 10))m -count=1 -v -run 'TestChaos$$' ./test/chaos -rounds $(ROUNDS) -seed $(SEED) -first $(FIRST)

.PHONY: bench
bench: control-plane ## Measure admission, late grants, bursts and the agent on a real control plane
	@mkdir -p bin
	go test -run '^$$' -bench . -benchmem -count 6 ./policy/... ./webhook/... | tee bin/bench.txt
	$(TOOL) benchstat bin/bench.txt
	go test -run '^$$' -bench . -benchtime 1x -timeout 20m ./test/bench
	go test -run '^$$' -bench . -benchtime 1x -timeout 10m ./test/mutating
	go test -run '^$$' -bench . -benchtime 1x -timeout 20m ./test/cli
	go test -run '^$$' -bench . -benchtime 1x -timeout 60m ./test/bench/agent

.PHONY: lint
lint: ## Static checks, import rules and workflow files included
	$(TOOL) golangci-lint run
	go -C cmd/release vet ./...
	go -C cmd/release/actionlint tool actionlint $(CURDIR)/.github/workflows/*.yaml

.PHONY: generate
generate: ## Deep copies, CRDs, the chart's copy of them, generated docs
	$(TOOL) controller-gen object paths=./policy/v1alpha1/... crd output:crd:dir=policy/v1alpha1/crds
	rm -rf charts/autoburst/files/crds && mkdir -p charts/autoburst/files/crds
	cp policy/v1alpha1/crds/*.yaml charts/autoburst/files/crds/
	mkdir -p charts/autoburst/files/admission && cp policy/admission/mutation.yaml charts/autoburst/files/admission/
	go run ./docs/generate
	$(TOOL) crd-ref-docs --log-level ERROR --source-path policy/v1alpha1 --config docs/generate/api.yaml --renderer markdown --output-path docs/api.md
	go test ./cmd/kubectl-autoburst -run TestReference -count=1 -update
	$(UPSTREAM) mod tidy
	$(HELM) mod tidy
	go -C cmd/release mod tidy

.PHONY: verify
verify: ## Fail when generated files, go.mod or formatting are not up to date
	@before=$$(git status --porcelain; git diff); \
	$(MAKE) --no-print-directory generate; \
	after=$$(git status --porcelain; git diff); \
	if [ "$$before" != "$$after" ]; then \
	  git --no-pager diff --stat; \
	  echo "verify: generated files were not up to date: run 'make generate' and commit the result" >&2; exit 1; fi
	@go mod tidy -diff || { echo "verify: go.mod is not tidy: run 'go mod tidy'" >&2; exit 1; }
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "verify: not gofmt-ed:" $$unformatted >&2; exit 1; fi

.PHONY: chart
chart: ## Lint, test and package the Helm chart into bin/
	for values in charts/autoburst/values*.yaml charts/autoburst/ci/*.yaml; do \
	  $(TOOL) helm lint --strict --kube-version 1.36.3 --values $$values charts/autoburst; done
	$(HELM) test -count=1 ./... && go tool helm-unittest ../../charts/autoburst
	$(TOOL) helm package --destination bin charts/autoburst

.PHONY: release
release: ## Build what a release consists of into bin/dist: VERSION=v0.1.0
	go -C cmd/release run . -root ../.. -out ../../bin/dist -version $(VERSION)

.PHONY: images
images: ## Build the images with ko and push them: VERSION=v0.1.0 REGISTRY=ghcr.io/autoburst
	cmd/release/images $(REGISTRY) $(VERSION)

.PHONY: control-plane
control-plane: ## Build the Kubernetes control plane that tests run on (once)
	@go run ./test/cluster/build

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin .cache
