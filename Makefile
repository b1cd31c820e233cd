# `make run` makes the quickstart, `make test` runs every test. Both need Rust, a C++ compiler, Python 3 with pip, and make.

PIPE := target/release/pipe
QUICKSTART := pipelines/quickstart.toml
RELEASE := target/quickstart-release

.PHONY: run build install test lint docs libtorch clean-release

run: build
	$(PIPE) run $(QUICKSTART)
	@rm -rf $(RELEASE)
	@$(PIPE) export $(QUICKSTART) release $(RELEASE)
	@echo
	@echo "The release (adapter, model card, metrics, provenance) lies in $(RELEASE)/, results in pipelines/.pipe/."
	@echo "Look closer:  $(PIPE) show $(QUICKSTART) rich      Run again:  $(PIPE) run $(QUICKSTART)"

build: libtorch
	cargo build --release --locked -p pipe -p pipe-torch

# Puts both programs where `cargo install` puts them; they stay together, because `pipe` looks for `pipe-torch` beside itself.
install: libtorch
	cargo install --locked --path cli
	cargo install --locked --path worker

# The end-to-end tests run the binaries, so these are built first.
test: libtorch
	cargo build --locked -p pipe -p pipe-torch
	scripts/test.sh

lint: libtorch
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs: libtorch
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items

libtorch:
	@scripts/libtorch.sh
