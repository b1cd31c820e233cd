#!/usr/bin/env bash
# (d) one JSONL of N text rows through filter -> tokenize -> split. usage: run_million.sh [N] [EDITS]
set -eu; . "$(dirname "$0")/env.sh"
n=${1:-1000000}; k=${2:-10}
w=$BENCH_WORK/rows-$n; rm -rf "$w"; mkdir -p "$w"
python3 $BENCH/gen_rows.py make $w $n
cp -r $BENCH/../../pipelines/models/scenes-qwen2 $w/model
cat > $w/pipeline.toml <<'TOML'
name = "rows"
[steps.rows]
stage  = "download"
source = "rows.jsonl"
[steps.kept]
stage  = "filter"
inputs = { rows = "rows" }
keep   = "score < 90"
[steps.model]
stage  = "download"
source = "model"
[steps.encoded]
stage  = "tokenize"
inputs = { rows = "kept", model = "model" }
prompt = "Describe: "
completion = "{text}"
max_length = 64
[steps.parts]
stage  = "split"
inputs = { rows = "encoded" }
parts  = { train = 0.8, validation = 0.1, test = 0.1 }
TOML
$T --label pipe/rows$n/cold -n 1 --warm 0 --cwd $w --prep 'rm -rf .pipe' -- $PIPE run pipeline.toml
sleep 2.5
$T --label pipe/rows$n/noop -n 5 --cwd $w -- $PIPE run pipeline.toml
$T --label pipe/rows$n/edit$k -n 5 --cwd $w --prep "python3 $BENCH/gen_rows.py edit $w $k" -- $PIPE run pipeline.toml
$T --label pipe/rows$n/edit$k+plan -n 3 --warm 0 --cwd $w --prep "python3 $BENCH/gen_rows.py edit $w $k" -- $PIPE plan pipeline.toml
