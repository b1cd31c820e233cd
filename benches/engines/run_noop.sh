#!/usr/bin/env bash
# (a) cold run and no-op run, N trivial stages. usage: [COLD=1] run_noop.sh [SHAPES] [NS]
# From 1000 stages up DVC's cold run takes tens of minutes, so it is skipped unless COLD=1 and the
# finished state is written by lock_dvc.py instead (checked: `dvc repro` and `dvc status` call it up to date).
set -eu; . "$(dirname "$0")/env.sh"
shapes=${1:-"wide chain"}; ns=${2:-"1 100 1000"}
for shape in $shapes; do for n in $ns; do
  w=$BENCH_WORK/noop/$shape-$n; rm -rf "$w"; mkdir -p "$w"
  r=5
  # what the harness itself costs
  $T --label floor/true/$shape/$n -n 9 -- true
  # pipe
  python3 $BENCH/gen_stages.py pipe $shape $n $w/pipe
  $T --label pipe/$shape/$n/cold -n 5 --warm 0 --cwd $w/pipe --prep 'rm -rf .pipe' -- $PIPE run pipeline.toml
  $T --label pipe/$shape/$n/noop -n 9 --cwd $w/pipe -- $PIPE run pipeline.toml
  $T --label pipe/$shape/$n/noop-plan -n 9 --cwd $w/pipe -- $PIPE plan pipeline.toml
  # ninja
  if has ninja; then
  python3 $BENCH/gen_stages.py ninja $shape $n $w/ninja
  $T --label ninja/$shape/$n/cold -n 3 --warm 0 --cwd $w/ninja --prep 'rm -rf out .ninja*; mkdir out' -- ninja -j1
  $T --label ninja/$shape/$n/noop -n 9 --cwd $w/ninja -- ninja
  fi
  # make
  if has make; then
  python3 $BENCH/gen_stages.py make $shape $n $w/make
  $T --label make/$shape/$n/noop -n 9 --cwd $w/make -- make -s
  fi
  # dvc
  if has dvc; then
  python3 $BENCH/gen_stages.py dvc $shape $n $w/dvc; dvc_init $w/dvc
  if [ "$n" -lt 1000 ] || [ "${COLD:-0}" = 1 ]; then
    $T --label dvc/$shape/$n/cold -n 1 --warm 0 --cwd $w/dvc -- dvc repro -q
  else $VENV/bin/python $BENCH/lock_dvc.py $w/dvc; fi
  $T --label dvc/$shape/$n/noop-repro -n $r --cwd $w/dvc -- dvc repro -q
  $T --label dvc/$shape/$n/noop-status -n $r --cwd $w/dvc -- dvc status -q
  fi
  # snakemake, one wildcard rule
  if has snakemake; then
  python3 $BENCH/gen_stages.py snakemake $shape $n $w/smk
  $T --label snakemake/$shape/$n/cold -n 1 --warm 0 --cwd $w/smk -- snakemake -c1 -q all
  $T --label snakemake/$shape/$n/noop -n $r --cwd $w/smk -- snakemake -c1 -q all
  $T --label snakemake/$shape/$n/noop-dryrun -n $r --cwd $w/smk -- snakemake -c1 -q all -n
  fi
done; done
