.DEFAULT_GOAL := help
.PHONY: help run test fmt lint unit e2e cluster schemathesis doc deny audit bench

CARGO ?= cargo
PEERS ?= ../shared/peers

help: ## Show this list
	@grep -E '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: redis ## Start a private Redis, the API and one worker; Ctrl-C stops them
	@CARGO="$(CARGO)" exec scripts/run.sh

test: redis fmt lint unit e2e cluster schemathesis doc ## Run everything that CI runs

fmt: ## Check the format
	$(CARGO) fmt --all --check

lint: ## Check with clippy, warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: redis ## Run the tests of the crates, those of queue-core against a real Redis
	$(CARGO) test --workspace --exclude drover-tests --locked

e2e: redis ## Run the end-to-end tests: real binaries, a real Redis each
	@scripts/install.sh curl curl
	@scripts/install.sh python3 python3
	$(CARGO) test --package drover-tests --locked

# Most of the time goes into waiting until each cluster says that it is one, so many tests can wait at once.
cluster: redis ## Run the tests of queue-core on a cluster of one node, which refuses undeclared keys
	DROVER_TEST_REDIS=cluster RUST_TEST_THREADS=8 $(CARGO) test --package queue-core --test it --locked

schemathesis: redis ## Test the interface against its description; SEED=7 MAX_EXAMPLES=100 ACCESS=open differ from CI
	@CARGO="$(CARGO)" scripts/schemathesis.sh

doc: ## Build the documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

deny: ## Check licences, sources and advisories of dependencies (needs cargo-deny)
	$(CARGO) deny check

audit: ## Check that every message of every queue is in exactly one state: make audit REDIS=redis://127.0.0.1:7379
	$(CARGO) run --quiet --release --package queue-core --example audit -- $(REDIS)

bench: redis ## Measure Drover beside its peers: make bench PEERS=../shared/peers (their drivers; they need node)
	$(CARGO) build --release --locked --package producer-api --package consumer-worker --package drover-bench
	CARGO="$(CARGO)" $${CARGO_TARGET_DIR:-target}/release/drover-bench --peers $(PEERS) $(BENCH)

.PHONY: redis
redis:
	@scripts/install.sh redis-server redis-server redis-cli
