# sourced by the run_*.sh scripts; override BENCH_WORK / VENV to move things
export BENCH=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export BENCH_WORK=${BENCH_WORK:-$PWD/work}
export VENV=${VENV:-$PWD/venv}
export PIPE=${PIPE:-$BENCH/../../target/release/pipe}
export PATH=$VENV/bin:$PATH
export DVC_NO_ANALYTICS=1 DVC_STUDIO_OFFLINE=1 NO_COLOR=1
export DVC_SITE_CACHE_DIR=$BENCH_WORK/.dvc-site
export XDG_CACHE_HOME=$BENCH_WORK/.xdg-cache HOME=$BENCH_WORK/.home
export GIT_AUTHOR_NAME=b GIT_AUTHOR_EMAIL=b@b GIT_COMMITTER_NAME=b GIT_COMMITTER_EMAIL=b@b
mkdir -p "$BENCH_WORK" "$HOME" "$XDG_CACHE_HOME"
export RESULTS=${RESULTS:-$BENCH_WORK/results.jsonl}
T="python3 $BENCH/timeit.py --out $RESULTS"
has() { command -v "$1" >/dev/null || { echo "$1 is not installed: left out"; return 1; }; }
dvc_init() { ( cd "$1" && git init -q . && dvc init -q && dvc config core.analytics false && dvc config core.check_update false ); }
export BENCH_LOG=$BENCH_WORK/last.log
