#!/usr/bin/env bash
# (c) per-record pipelines: one small file in -> one small file out.
# usage: run_records.sh [N_FULL] [N_BIG] [EDITS]
#   N_FULL records are really executed by every tool; N_BIG only by ninja and DVC's one-stage form
#   (Snakemake's N_BIG outputs are made by cp, so it has no job metadata to read: its best case).
set -eu; . "$(dirname "$0")/env.sh"
n=${1:-2000}; big=${2:-20000}; k=${3:-10}
w=$BENCH_WORK/records; rm -rf "$w"; mkdir -p "$w"
edit() { echo "python3 $BENCH/edit_flat.py $1/in $k"; }
# pipe: one row per record, one resident program
python3 $BENCH/gen_rows.py make $w/pipe $big
cp $BENCH/upper.py $w/pipe/
cat > $w/pipe/pipeline.toml <<'TOML'
name = "records"
[steps.records]
stage  = "download"
source = "rows.jsonl"
[steps.upper]
stage  = "map"
inputs = { rows = "records" }
run    = ["python3", "upper.py"]
reads  = ["text"]
writes = { upper = "text" }
TOML
$T --label pipe/records$big/cold -n 3 --warm 0 --cwd $w/pipe --prep 'rm -rf .pipe' -- $PIPE run pipeline.toml
$T --label pipe/records$big/noop -n 9 --cwd $w/pipe -- $PIPE run pipeline.toml
$T --label pipe/records$big/edit$k -n 9 --cwd $w/pipe --prep "python3 $BENCH/gen_rows.py edit $w/pipe $k" -- $PIPE run pipeline.toml
$T --label floor/records$big/upper$k -n 5 --cwd $w/pipe --prep "head -$k rows.jsonl > ten.jsonl" -- sh -c 'python3 upper.py < ten.jsonl > /dev/null'
# ninja, one edge per record
if has ninja; then for m in $n $big; do
  python3 $BENCH/gen_stages.py ninja wide $m $w/ninja-$m
  $T --label ninja/records$m/cold -n 1 --warm 0 --cwd $w/ninja-$m -- ninja -j1
  $T --label ninja/records$m/noop -n 5 --cwd $w/ninja-$m -- ninja
  $T --label ninja/records$m/edit$k -n 5 --cwd $w/ninja-$m --prep "$(edit $w/ninja-$m)" -- ninja -j1
done; fi
if has snakemake; then
# snakemake, one wildcard rule
python3 $BENCH/gen_stages.py snakemake wide $n $w/smk-$n
$T --label snakemake/records$n/cold -n 1 --warm 0 --cwd $w/smk-$n -- snakemake -c1 -q all
$T --label snakemake/records$n/noop -n 3 --cwd $w/smk-$n -- snakemake -c1 -q all
$T --label snakemake/records$n/edit$k -n 3 --cwd $w/smk-$n --prep "$(edit $w/smk-$n)" -- snakemake -c1 -q all
python3 $BENCH/gen_stages.py snakemake wide $big $w/smk-$big
cp $w/smk-$big/in/* $w/smk-$big/out/
$T --label snakemake/records$big/noop-nometa -n 3 --warm 0 --cwd $w/smk-$big -- snakemake -c1 -q all -n
fi
if has dvc; then
# dvc, one stage over the whole directory (its idiom); proc.py touches every record
python3 $BENCH/gen_stages.py ninja wide $big $w/dvc-$big; rm $w/dvc-$big/build.ninja; cp $BENCH/proc.py $w/dvc-$big/
printf 'stages:\n  map:\n    cmd: python3 proc.py in out\n    deps: [proc.py, in]\n    outs: [out]\n' > $w/dvc-$big/dvc.yaml
dvc_init $w/dvc-$big
$T --label dvc/records$big/cold -n 1 --warm 0 --cwd $w/dvc-$big -- dvc repro -q
$T --label dvc/records$big/noop -n 3 --cwd $w/dvc-$big -- dvc repro -q
$T --label dvc/records$big/edit$k -n 3 --cwd $w/dvc-$big --prep "$(edit $w/dvc-$big)" -- dvc repro -q
$T --label floor/records$big/proc.py -n 3 --cwd $w/dvc-$big --prep "rm -rf $BENCH_WORK/procout" -- python3 proc.py in $BENCH_WORK/procout
fi
