# Everything a person does with this repository. `make` alone says what there is.
#
# PROFILE is the cargo profile of `up`, `test` and `check`: fast is optimised without link-time optimisation and builds
# in minutes; release is what people run and what benchmarks measure, and takes a good deal longer.

SHELL := /bin/bash
PROFILE ?= fast
export PROFILE
export PATH := $(CURDIR)/.tools/bin:$(PATH)

TOOLCHAIN := $(shell scripts/toolchain)
ifneq ($(TOOLCHAIN),)
export RUSTUP_TOOLCHAIN := $(TOOLCHAIN)
endif

.PHONY: help up build test soak check docs page page-test compose packages packages-test bench clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

up: ## build, and run a local mesh until Ctrl-C (ARGS="…" goes to weft up)
	@scripts/install build envoy
	cargo build --locked --profile $(PROFILE) --workspace --bins
	@target/$(PROFILE)/weft up $(ARGS)

build: ## build what people run into target/release
	@scripts/install build
	cargo build --locked --release --workspace --bins

test: ## run all tests (ARGS="…" goes to the runner)
	@scripts/install build envoy test
	@scripts/test $(ARGS)

soak: ## run all tests at their long counts, and with the programs of the commit before
	@scripts/install build envoys test
	@scripts/upgrade
	WEFT_SOAK=1 NEXTEST_PROFILE=soak scripts/test $(ARGS)

check: ## format, lints, documentation, dependencies, tidiness; what CI runs first
	@scripts/install build check page
	@scripts/page check
	cargo fmt --all --check
	cargo clippy --locked --quiet --profile $(PROFILE) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --profile $(PROFILE) --workspace --no-deps
	@scripts/deny
	cargo test --locked --quiet --profile $(PROFILE) --workspace --test tidy

docs: ## make the site of docs/ into target/docs, and check its links
	@scripts/install build docs
	@scripts/docs

page: ## make the page's bundle, which is committed, from control-plane/ui
	@scripts/install page
	@scripts/page build

page-test: ## try the page in Chromium, with generated documents and of a mesh that runs; pictures into target/page
	@scripts/install build envoy browser
	cargo build --locked --profile $(PROFILE) --workspace --bins
	@scripts/page-test $(ARGS)

compose: ## run the containers of docker-compose.yml from what is compiled here, try what they promise, remove them
	@scripts/install build envoy compose
	cargo build --locked --profile $(PROFILE) --workspace --bins
	@scripts/compose target/$(PROFILE)

packages: ## packages for Debian and RPM of what people run, into target/packages
	@scripts/install build packages
	cargo build --locked --release --workspace --bins
	@scripts/packages target/release

packages-test: ## the same of what is compiled here, installed into a clean Debian and tried there under systemd
	@scripts/install build packages machine
	cargo build --locked --profile $(PROFILE) --workspace --bins
	@scripts/packages target/$(PROFILE)
	@scripts/package-test

bench: ## measure, beside peers in the same run; fills BENCHMARKS.md
	@scripts/install build envoy bench
	cargo build --locked --release --workspace --bins
	cargo bench --locked --workspace --bench proxy --bench mesh_pair -- $(ARGS)
	cargo bench --locked --workspace --bench proxy -- --instructions
	cargo bench --locked --workspace --bench commit_to_ack --bench revocation

clean: ## remove what was built; installed tools (.venv, .tools) and data (weft-data) stay
	cargo clean
