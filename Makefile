.DEFAULT_GOAL := help
.PHONY: help run example-chat example-notifications example-web3 example-nest test test-long check fmt lint tests e2e timed upgrade cluster schemathesis clients node node-types screenshots doc deny audit bench instructions microbench package dist

CARGO ?= cargo
PEERS ?= bench/peers

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 23

run: redis ## Start a private Redis, the API and one worker: make run CONFIG=my.toml; Ctrl-C stops them
	@CARGO="$(CARGO)" CONFIG="$(CONFIG)" exec scripts/run.sh

example-chat: redis ## Run examples/chat: a message is kept until its receiver's page has acknowledged it
	@CARGO="$(CARGO)" EXAMPLE=chat exec scripts/run.sh

example-notifications: redis ## Run examples/notifications: what happens while a user is away is delivered at the login
	@CARGO="$(CARGO)" EXAMPLE=notifications exec scripts/run.sh

example-web3: redis ## Run examples/web3: events of a contract on a local chain, each handled once
	@CARGO="$(CARGO)" EXAMPLE=web3 exec scripts/run.sh

example-nest: redis ## Run examples/nest: a NestJS application that was written for Bull
	@CARGO="$(CARGO)" EXAMPLE=nest exec scripts/run.sh

test: tools fmt lint tests cluster schemathesis clients node doc instructions ## Run everything that CI runs
	@echo "make test: everything passed"

# `make check` leaves out the tests that need whole services, minutes or other tools; `make test` runs all tests.
check: redis fmt lint ## Run the quick part: format, clippy, unit tests, and tests of queue-core on one Redis
	$(CARGO) test --workspace --locked --lib --bins --test it
	@echo "make check: everything passed"

fmt: rust ## Check the format
	$(CARGO) fmt --all --check

lint: rust ## Check with clippy; warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# Each target for tests builds the whole workspace, even if the target runs only some tests. Building only one package would
# build the package's dependencies again, with other features.
tests: tools ## Run all tests of the workspace: of the crates, of queue-core against a real Redis, and end to end
	$(CARGO) test --workspace --locked

e2e: tools ## Run only the end-to-end tests, each with real binaries and a Redis
	$(CARGO) test --workspace --locked --test e2e

# `make tests` includes the tests of `make timed`: cargo runs one file of tests after the other, and the tests of the file
# `timed` take turns.
timed: tools ## Run only the tests of promised times, one after the other
	$(CARGO) test --workspace --locked --test timed -- --test-threads=1

# `make tests` includes the test of `make upgrade`, too.
upgrade: tools ## Upgrade data and running processes from the version before, and back: make upgrade BEFORE=v0.1.0
	$(CARGO) test --workspace --locked --test upgrade

SECONDS ?= 300
test-long: redis ## Test fail-overs in random order, for SECONDS for each topology: make test-long SECONDS=600 SEED=7
	$(CARGO) build --workspace --locked --bins --examples
	$${CARGO_TARGET_DIR:-target}/debug/examples/long $(SECONDS) $(SEED)

# The tests on clusters spend most of their time waiting until their clusters are ready, so many of these tests can run at
# once.
cluster: redis ## Run the tests of queue-core on a cluster of one node, which refuses undeclared keys
	DROVER_TEST_REDIS=cluster RUST_TEST_THREADS=8 $(CARGO) test --workspace --locked --test it

schemathesis: redis ## Test the API against its description: make schemathesis SEED=7 MAX_EXAMPLES=100 ACCESS=open
	@CARGO="$(CARGO)" scripts/schemathesis.sh

clients: rust ## Generate types for TypeScript and Python from the description, and compile programs that use them
	@CARGO="$(CARGO)" scripts/clients.sh

screenshots: tools ## Renew the pictures of the dashboard in docs/, from a real run
	$(CARGO) build --workspace --locked --bins --examples
	$${CARGO_TARGET_DIR:-target}/debug/examples/screenshots docs

node: redis ## Build and test the packages for Node.js, and install them into an empty folder
	@CARGO="$(CARGO)" scripts/node.sh

node-types: rust ## Renew the types of the packages for Node.js from the description
	@CARGO="$(CARGO)" scripts/node.sh types

doc: rust ## Build the crates' documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

deny: rust ## Check licences, sources and advisories of dependencies (needs cargo-deny)
	$(CARGO) deny check

audit: rust ## Check that every message is in exactly one state: make audit REDIS=redis://127.0.0.1:7379, or CONFIG=my.toml
	$(if $(REDIS),DROVER__REDIS__URL=$(REDIS)) $(CARGO) run --quiet --release --package drover-service --example audit -- $(if $(CONFIG),--config $(CONFIG))

bench: redis ## Measure Drover beside its peers: make bench BENCH='--rounds 1' (most peers need node and npm)
	$(CARGO) build --release --locked --package producer-api --package consumer-worker --package drover-bench --bins --example sleeper
	CARGO="$(CARGO)" $${CARGO_TARGET_DIR:-target}/release/drover-bench --peers $(PEERS) $(BENCH)

# `make instructions` and `make bench` use the same build, so that the second one of them builds nothing.
instructions: redis ## Count the instructions of a POST and of a drained message, which must be within their bounds
	@scripts/install.sh valgrind valgrind vgdb
	$(CARGO) build --release --locked --package producer-api --package consumer-worker --package drover-bench --bins --example sleeper
	$${CARGO_TARGET_DIR:-target}/release/drover-bench --instructions

package: rust ## Package the crates, and build each from its package
	$(CARGO) package --workspace --locked --allow-dirty

# `make dist` builds the image only if Docker runs on this machine.
dist: rust ## Build a release: an archive with static binaries under target/dist, and the image
	@CARGO="$(CARGO)" scripts/dist.sh

microbench: redis ## Time the scripts and the hot paths of queue-core: make microbench ONLY=lease
	$(CARGO) bench --workspace --locked --bench scripts --bench hot_paths -- $(ONLY)

.PHONY: rust redis tools
# The version of Rust is checked before any installation, so that an old Rust is reported first.
rust:
	@CARGO="$(CARGO)" scripts/rust.sh

redis: rust
	@scripts/install.sh redis-server redis-server redis-cli

# Besides Rust and Redis, the tests need the programs that the target `tools` installs.
tools: redis
	@scripts/install.sh curl curl
	@scripts/install.sh python3 python3
	@scripts/install.sh git git
	@scripts/install.sh systemd systemd-analyze
	@scripts/install.sh slowhttptest slowhttptest
	@scripts/install.sh chromium chromium
	@scripts/install.sh chromium-driver chromedriver
	@scripts/install.sh nodejs node
	@scripts/install.sh npm npm
	@scripts/axe.sh
	@scripts/web3.sh
