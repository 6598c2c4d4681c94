# pgpassport: `make demo` shows it, `make test` proves it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ARGS ?=
SECONDS ?= 60
ONLY ?=
# `BUILD=--tests` gives dependencies the features that `make test` gives them, so that nothing is compiled again after it.
BUILD ?=

help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

demo: ## Logins end to end on PostgreSQL and MySQL, with stand-ins for the issuer, STS and Aurora (ARGS=--once ends by itself)
	@scripts/need-postgres
	@scripts/need-mysql
	@cargo build --locked --workspace --bins $(BUILD)
	@target/debug/aws-emulator demo --proxy target/debug/pgpassport $(ARGS)

# Tests mostly wait, for servers and time limits, so more of them run at a time than there are processors.
test: ## Everything the tests need, then all tests (ONLY=c7_ runs those with c7_ in their names)
	@scripts/need-postgres
	@scripts/need-packages haproxy chromium chromium-driver
	@scripts/need-mysql
	@scripts/need-helm
	@scripts/need-prometheus
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((4 * $$(nproc)))} cargo test --locked --workspace $(if $(ONLY),-- $(ONLY))

clients: ## Real clients of PostgreSQL and MySQL through the proxy; writes docs/clients.md, docs/clients-mysql.md (ONLY=psql for some)
	@scripts/need-clients
	cargo build --locked --workspace --bins $(BUILD)
	cargo build --locked --manifest-path tests/clients/programs/rust/Cargo.toml --target-dir target
	@target/debug/client-matrix --proxy target/debug/pgpassport --programs tests/clients/programs --tools .tools \
	  --pages docs $(ARGS) $(ONLY)
	@[ -n "$(ARGS)$(ONLY)" ] || { tests/clients/oauth-device-flow/run && tests/clients/oidc-provider/run; }

mysqlclients: ## The clients of MySQL alone (ONLY=PyMySQL; ARGS=--direct without the proxy)
	@$(MAKE) --no-print-directory clients ARGS="--protocol mysql $(ARGS)"

lint: ## Formatting, clippy, documentation, licences
	cargo fmt --all --check
	cargo fmt --manifest-path tests/clients/programs/rust/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items
	@scripts/deny

fuzz: ## Every fuzz target for SECONDS=60 (ARGS="startup jwt" runs these two only)
	@SECONDS_EACH=$(SECONDS) scripts/fuzz $(ARGS)

bench: ## pgpassport beside PgBouncer, MySQL Router, HAProxy, and a direct connection (ARGS=--short, --write for docs/benchmarks*.md)
	@scripts/need-postgres
	@scripts/need-mysql
	@scripts/need-mysql-router
	@scripts/need-packages pgbouncer haproxy valgrind gcc libc6-dev
	cargo build --locked --release
	cargo build --locked --release --package versus
	@target/release/versus $(ARGS)

release: ## The binary for production: target/release/pgpassport
	cargo build --locked --release

package: release ## A .deb, an .rpm, a tarball, and an SBOM in target/package
	@scripts/package

image: ## The container image, built by docker, podman, or buildah (BASE=debian where no registry is reached)
	@scripts/image

image-test: ## The image of target/release, built and run read-only as nobody (not part of CI)
	cargo build --locked --workspace --bins
	@scripts/image-test $(ARGS)

book: ## The manual as a website in target/book/html, with every link checked
	@scripts/need-mdbook
	@scripts/book

package-test: ## Both packages in a Debian with systemd: install, upgrade with live sessions, purge (as root; not part of CI)
	cargo build --locked --workspace --bins
	@scripts/package-test $(ARGS)

.PHONY: help demo test clients mysqlclients lint fuzz bench release package package-test image image-test book
