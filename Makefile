# `make help` lists the targets. Each installs what it needs and says so.

CARGO ?= cargo
SERVER ?=
KEEP ?=
SEEDS ?= 20000
FIRST ?= 0
SEED ?=
TRACE ?=
EXECUTIONS ?= 1000000
TARGETS ?=
LONG ?= no
PERCENT ?= 95
# Tests that run within themselves; those of the gateway start programs, which are built otherwise.
SANITIZED = --lib --test loopback --test conformance --test simulation --test shards --test codec_vectors
SOAK ?= 20000
CASES ?=
RELAY ?= target/release/aip-relay
# All programs in one selection, so that no target builds again what another has built.
PROGRAMS = $(CARGO) build --locked --release --workspace --bins --all-features
ARGUMENTS ?=
HOSTILE ?= no

.PHONY: help demo test requirements simulate conformance moqt-conformance interop mcp-conformance mcp-interop mcp-relays mcp-faults overload faults fuzz fuzz-coverage sanitize benchmark crosscheck bench bench-baseline bench-compare bench-scaling clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 18

demo: ## build all, then agents use an MCP server through a relay (SERVER="command" for your own, KEEP=1 to leave it up)
	@.ci/require build $(if $(findstring npx,$(SERVER)),node)
	$(CARGO) build --locked --release -p aip-engine -p aip-gateway
	@target/release/aip-demo $(if $(SERVER),--server '$(SERVER)') $(if $(KEEP),--keep)

test: ## all tests
	@.ci/require build nextest node
	$(CARGO) build --locked --workspace --bins
	$(CARGO) nextest run --locked --workspace --all-features
	$(CARGO) test --locked --workspace --all-features --doc --quiet

requirements: ## what the drafts demand, how much of it is kept and what is not
	@$(CARGO) run --locked --quiet -p aip-tests --bin requirements

simulate: ## worlds of relays in virtual time, on all cores (SEEDS=20000, FIRST=0; SEED=7 for one, TRACE=1 to see it)
	@.ci/require build
	$(CARGO) run --locked --profile simulation -p aip-tests --no-default-features --bin aip-simulate -- \
		$(if $(SEED),--seed $(SEED) $(if $(TRACE),--trace),--seeds $(SEEDS) --first $(FIRST))

conformance: moqt-conformance mcp-conformance ## both: what MOQT wants of our relay, then what MCP wants through it

moqt-conformance: ## what a relay must do, asked of any (RELAY_URL=moqt://host:port, ARGUMENTS="--insecure --draft 22"); ours if none
	@.ci/require build
ifdef RELAY_URL
	$(PROGRAMS)
	@target/release/aip-conformance -r $(RELAY_URL) $(ARGUMENTS)
else
	$(CARGO) test --locked --workspace --all-features --test conformance
endif

interop: ## other people's MOQT with ours, both ways; writes tests/interop/RESULTS.md (HOSTILE=yes: malformed input to their relays, too)
	@.ci/require build
	$(PROGRAMS)
	@INTEROP_HOSTILE=$(HOSTILE) tests/interop/run $(RELAY) target/release/aip-conformance target/release/aip-load

overload: ## stalled subscribers and floods against a real relay: each figure beside its goal
	@.ci/require build
	$(PROGRAMS)
	@target/release/overload $(RELAY)

faults: ## faults of network, machine and peers on real relays, at full size (SOAK=groups, CASES="loss relay")
	@.ci/require build
	$(PROGRAMS)
	@target/release/faults --soak $(SOAK) --json target/faults.json $(CASES)

fuzz: ## fourteen fuzz targets, a million executions each (EXECUTIONS=, TARGETS="control relay"; long runs: LONG=yes)
	@.ci/require build
	@LONG=$(LONG) SEED=$(or $(SEED),1) tests/fuzz/run $(EXECUTIONS) $(TARGETS)

fuzz-coverage: ## how much of the codec the fuzz targets reach, with what fuzzing has found so far (PERCENT=95 or it fails)
	@.ci/require build coverage
	@tests/fuzz/measure $(PERCENT)

sanitize: ## the tests of codec, sessions, relay and sockets under AddressSanitizer and LeakSanitizer (minutes)
	@.ci/require build nextest
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address $(CARGO) nextest run --locked \
		--target $(shell rustc -vV | sed -n 's/^host: //p') --target-dir target/sanitize \
		-p aip-codec -p aip-engine -p aip-tests --all-features $(SANITIZED)

mcp-conformance: ## the official MCP conformance suite, directly and through 1, 2 and 3 relays, cached and not; its client side
	@.ci/require build node
	$(PROGRAMS)
	@tests/mcp_conformance/run target/release
	@tests/mcp_conformance/run-client target/release

mcp-interop: ## other people's MCP servers and clients, directly and through a relay (SERVERS="git time", CLIENTS="python")
	@.ci/require build node
	$(PROGRAMS)
	@tests/mcp_interop/run target/release

mcp-relays: ## calls, short and long, through relays of other people (installs those)
	@.ci/require build
	$(PROGRAMS)
	@mkdir -p target/interop && tests/interop/install target/interop
	@tests/mcp_interop/relays target/release target/interop

mcp-faults: ## what MCP servers and agents do that they should not: each figure beside its goal (CASES="ids crash")
	@.ci/require build
	$(PROGRAMS)
	@tests/mcp_faults/run target/release $(CASES)

benchmark: ## one MCP server by stdio, HTTP, public gateways, 1 and 3 relays; reports under bench/results (DURATION=10s RATE=100 WAYS=... LOADS=...)
	@.ci/require build node
	$(PROGRAMS)
	@bench/benchmark

crosscheck: ## aip-load beside wrk, oha and aiomoqt on the same targets: do they say the same? (ARGUMENTS="--only wrk --rounds 3")
	@.ci/require build
	$(PROGRAMS)
	$(CARGO) build --locked --release --workspace --all-features --example waiting_server
	@target/release/aip-crosscheck --install --out bench/results/crosscheck.md $(ARGUMENTS)

bench: ## what the hot paths cost: instructions against bench/baseline.json, then time
	@.ci/require build valgrind
	$(PROGRAMS)
	@target/release/aip-instructions check
	$(CARGO) bench --locked --workspace --all-features --bench '*_walltime'

bench-baseline: ## writes bench/baseline.json, where instruction counts have fallen (ARGUMENTS=--allow-worse: or risen)
	@.ci/require build valgrind
	$(PROGRAMS)
	@target/release/aip-instructions update $(ARGUMENTS)

bench-compare: ## our relay beside other people's, bare quiche and bare UDP; writes bench/compare (INSTALL=1 FULL=1 ARGUMENTS=)
	@.ci/require build
	$(PROGRAMS)
	@target/release/aip-compare $(if $(INSTALL),--install) $(if $(FULL),--full) $(ARGUMENTS)

bench-scaling: ## 1 to 10,000 subscribers and to 1,000,000 namespaces; writes bench/SCALING.md
	@.ci/require build
	$(PROGRAMS)
	@target/release/aip-scaling $(ARGUMENTS)

clean: ## remove what was built
	$(CARGO) clean
