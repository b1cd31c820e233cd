#!/usr/bin/env bash
# Runs every test, with cargo-nextest where it is installed. Arguments go to the runner.
#
# Tests that hold results against Hugging Face need PIPE_PYTHON, a Python with torch 2.11, transformers, peft and safetensors; without
# it they are skipped, and counted as that in the runner's last line.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PIPE_PYTHON:-}" ]; then
    echo "PIPE_PYTHON is not set: the tests that need transformers and peft are skipped" >&2
fi
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --no-fail-fast ${PIPE_PYTHON:+--run-ignored all} "$@"
else
    cargo test --workspace --locked --no-fail-fast "$@" ${PIPE_PYTHON:+-- --include-ignored}
fi
