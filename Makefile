# What one does with this repository. `make run` is the demo; `.ci/run` is lint, test and a short bench.

.PHONY: run demo test install-tests fuzz frameworks slow bench lint fmt doc check

run: demo

demo:
	cargo run --release -- demo

check:
	cargo check --all-targets --locked

# Installs redis-server first, if it is missing.
test: install-tests
	cargo test --locked --no-fail-fast

# Every test whose name contains `fuzz`, for so long; a failure prints the seed that plays it again.
fuzz:
	SIDEGATE_FUZZ_SECONDS=$${SIDEGATE_FUZZ_SECONDS:-3600} cargo test --locked --no-fail-fast fuzz -- --nocapture

# Real applications of every framework behind the binary: what they need comes from PyPI, npm and Debian (as root).
# Some of them: make frameworks ARGS="flask express"
frameworks:
	cargo build --locked
	python3 tests/frameworks/run.py target/debug/sidegate $(ARGS)

install-tests:
	sh tests/install.sh

# 10,000 slow connections beside one client that behaves; needs some 20,000 open files (ulimit -n).
slow:
	SIDEGATE_SLOW_CONNECTIONS=10000 cargo test --locked --test proxy -- slow_connections --nocapture

# Compares with nginx on this machine, and with HAProxy and nginx + Lua + Redis where they are installed (it says how).
# Options: make bench ARGS="--rounds 3 --only get-1k"
bench:
	python3 benches/bench.py $(ARGS)

lint:
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

fmt:
	cargo fmt

doc:
	cargo doc --no-deps --locked --open
