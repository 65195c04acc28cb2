# The few commands of daily work; `make help` lists them. Everything behind them is in script/.

PREFIX ?= $(HOME)/.local
CARGO ?= cargo
TEST_FLAGS ?=
BENCH_FLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-interrupts bench build install fmt lint docs-check dependencies

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dependencies: ## Install what is missing from the distribution
	@script/install-dependencies

build: dependencies ## Build the release binary
	$(CARGO) build --release --package pyro

demo: build ## Play the story on real machines, with timings
	target/release/pyro demo

test: ## Run all tests, in real guests
	@script/install-dependencies --test
	@script/install-test-clients
	$(CARGO) build --workspace
	script/test $(TEST_FLAGS)

test-interrupts: ## Interrupt and kill every change at many moments
	@script/install-dependencies --test
	$(CARGO) build --workspace
	PYRO_TEST_ROUNDS=20 script/test --test no_work_lost --test at_once

bench: ## Measure, each figure beside its peers
	@script/install-dependencies --bench
	$(CARGO) build --release --package pyro --package pyro-bench
	target/release/pyro-bench $(BENCH_FLAGS)

install: build ## Install `pyro` below PREFIX (~/.local)
	install -D --mode 0755 target/release/pyro $(DESTDIR)$(PREFIX)/bin/pyro

fmt: ## Format the code
	$(CARGO) fmt --all

lint: ## Check format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

docs-check: ## Check links, changelog and API pages
	@script/check-docs
