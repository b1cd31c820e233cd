#!/usr/bin/env bash
# kill -9 at random moments. usage: run_kills.sh [KILLS] [SEED]; BENCH_WORK on a memory file system makes it faster
set -eu; . "$(dirname "$0")/env.sh"; python3 $BENCH/probe_kills.py "${1:-1000}" "${2:-1}"
