# All that one does in this repository, by name; `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# What ships is built without cgo and without this machine's paths. The tests,
# the linters and the tools are too: so all share one set of compiled packages.
export CGO_ENABLED := 0
export GOFLAGS := $(filter-out -trimpath,$(shell go env GOFLAGS)) -trimpath

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TOOL := go tool -modfile=$(CURDIR)/tools/go.mod

# The Go modules beside the root one that hold code of ours.
MODULES := $(patsubst %/go.mod,%,$(wildcard deploy/go.mod deploy/*/go.mod))

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: ## a real Airflow and an Airlock beside it: who can do what, a grant, a revoke; stays up (DEMO=once doesn't)
	@go run ./demo

.PHONY: screenshot
screenshot: ## run the demo and write the README's picture of it
	@go run ./demo -screenshot docs/img/demo.svg

# In this order no two steps that run together compile the same packages.
.PHONY: test
test: ## everything that must hold before a change is merged: all the steps below up to deploy
	@tools/steps e2e race lint generated vuln deploy

.PHONY: e2e
e2e: ## whole programs against real Airflows, pages in a browser; AIRFLOW_TESTS, POSTGRES_TESTS and BROWSER_TESTS=off leave those out
	@if [[ "$${AIRFLOW_TESTS:-}" == off ]]; then
	  echo "note: AIRFLOW_TESTS=off: the tests against a real Airflow were left out"
	else
	  for version in $$(scripts/airflow releases test | cut -f1); do
	    scripts/airflow install "$$version"
	  done
	fi
	if [[ "$${POSTGRES_TESTS:-}" == off ]]; then
	  echo "note: POSTGRES_TESTS=off: the tests on PostgreSQL were left out"
	fi
	if [[ "$${BROWSER_TESTS:-}" == off ]]; then
	  echo "note: BROWSER_TESTS=off: the tests in a browser were left out"
	fi
	go test -count=1 -p 1 -timeout 30m ./e2e ./airflow/airflowtest ./internal/edge/web/...

.PHONY: lint
lint: ## formatting, static checks, tidiness of go.mod
	@for dir in . $(MODULES); do
	  (cd "$$dir" && go mod tidy -diff && $(TOOL) golangci-lint run --allow-parallel-runners --config "$(CURDIR)/.golangci.yml")
	done

.PHONY: race
race: ## the unit tests with the race detector, which needs a C compiler
	@if type -P "$$(go env CC)" >/dev/null; then
	  CGO_ENABLED=1 go test -race -short -timeout 15m ./...
	else
	  echo "note: no C compiler ($$(go env CC)) here: the unit tests ran without the race detector"
	  go test -short ./...
	fi

.PHONY: unit
unit: ## the unit tests, quickly
	@go test -short ./...

GENERATED := connector/config/conf.gen.go config_schema.json baton_capabilities.json \
  $(patsubst %.templ,%_templ.go,$(wildcard internal/edge/web/*.templ internal/edge/web/view/*.templ))

# In a copy, so that nothing that runs beside it sees half-written files.
.PHONY: generated
generated: ## fails when a generated file is not what `make generate` writes
	@copy=$$(mktemp -d)
	trap 'rm -rf "$$copy"' EXIT
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$$copy"
	$(MAKE) --no-print-directory -C "$$copy" generate
	for file in $(GENERATED); do
	  diff -u "$$file" "$$copy/$$file" || {
	    echo "$$file is out of date (-) with what generates it (+): run \`make generate\` and commit it" >&2
	    exit 1
	  }
	done

.PHONY: vuln
vuln: ## fails on a known vulnerability in a function that we call; GOVULNDB=URL asks a mirror
	@if out=$$($(TOOL) govulncheck $(if $(GOVULNDB),-db '$(GOVULNDB)') ./... 2>&1); then
	  echo "$$out"
	elif [[ "$$out" == *"govulncheck: fetching vulnerabilities:"* ]]; then
	  echo "note: the Go vulnerability database can't be reached from here: vulnerabilities were not checked"
	else
	  echo "$$out"
	  exit 1
	fi

.PHONY: deploy
deploy: ## tests of image, manifests, Helm chart and systemd unit
	@for dir in $(MODULES); do
	  (cd "$$dir" && go test -count=1 -timeout 15m ./...)
	done

.PHONY: fmt
fmt: ## format the Go code
	@$(TOOL) gofumpt -modpath airlock -l -w .

.PHONY: generate
generate: ## write the generated files anew
	@go generate ./...
	$(TOOL) templ generate -path internal/edge/web -log-level warn
	unset $${!BATON_@}
	for file in config:config_schema.json capabilities:baton_capabilities.json; do
	  go run ./cmd/baton-airflow "$${file%:*}" >"$${file#*:}.new"
	  mv "$${file#*:}.new" "$${file#*:}"
	done

.PHONY: build
build: ## the programs, static: bin/airlock, and beside it bin/connectors/baton-airflow
	@go build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/airlock ./cmd/airlock
	go build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/connectors/baton-airflow ./cmd/baton-airflow

.PHONY: bench
bench: ## time and memory of connector and server, beside bare ones in the same run; writes docs/performance.md, fails where an aim is missed
	@go run ./bench

# 25 blows on each of SQLite and PostgreSQL, hosted and self-hosted.
.PHONY: chaos
chaos: ## server and connector killed 100 times in the middle of things
	@CHAOS=$${CHAOS:-25} go test ./e2e -run TestChaos -count=1 -timeout 60m -v

.PHONY: compat
compat: ## the contract and the connector over every release; writes docs/compatibility.md
	@COMPAT=1 go test ./e2e -run TestCompat -count=1 -timeout 60m -v
