#!/usr/bin/env bash
# (b) one directory of many small files. usage: run_files.sh [N] [SIZE] [EDITS]
set -eu; . "$(dirname "$0")/env.sh"
n=${1:-20000}; size=${2:-4096}; k=${3:-10}
w=$BENCH_WORK/files-$n; rm -rf "$w"; mkdir -p "$w"
python3 $BENCH/gen_files.py make $w/src $n $size
tag=files$n
# pipe
mkdir -p $w/p; cp -r $w/src $w/p/data
printf 'name = "files"\n[steps.files]\nstage = "download"\nsource = "data"\nformat = "files"\n' > $w/p/pipeline.toml
$T --label pipe/$tag/add-cold -n 5 --warm 0 --cwd $w/p --prep 'rm -rf .pipe' -- $PIPE run pipeline.toml
sleep 2.5
$T --label pipe/$tag/add-noop -n 9 --warm 2 --cwd $w/p -- $PIPE run pipeline.toml
$T --label pipe/$tag/edit$k+add -n 5 --cwd $w/p --prep "python3 $BENCH/gen_files.py edit data $k" -- $PIPE run pipeline.toml
$T --label pipe/$tag/export -n 3 --cwd $w/p --prep 'rm -rf out' -- $PIPE export pipeline.toml files out
rm -rf $w/p/out
# floors: hash every byte once; walk + stat only; git as the stat-cache reference
$T --label floor/$tag/stat-walk -n 5 --cwd $w -- find src -type f -printf '%s %T@\n'
$T --label floor/$tag/md5-1proc -n 5 --cwd $w -- sh -c 'find src -type f -print0 | xargs -0 md5sum >/dev/null'
$T --label floor/$tag/cp -n 3 --cwd $w --prep 'rm -rf cpd' -- cp -r src cpd
rm -rf $w/cpd
fresh_git="rm -rf g; mkdir g; cp -r src g/data; cd g; git init -q ."
$T --label git/$tag/add -n 3 --warm 0 --cwd $w --prep "$fresh_git" -- git -C g add data
$T --label git/$tag/status-noop -n 5 --cwd $w -- git -C g status --porcelain
$T --label git/$tag/edit$k+add -n 5 --cwd $w --prep "python3 $BENCH/gen_files.py edit g/data $k" -- git -C g add data
if has dvc; then
# dvc
fresh_dvc=". $BENCH/env.sh; rm -rf d; mkdir d; cp -r src d/data; dvc_init d; rm -rf $DVC_SITE_CACHE_DIR"
$T --label dvc/$tag/add-cold -n 3 --warm 0 --cwd $w --prep "bash -c '$fresh_dvc'" -- dvc --cd d add -q data
$T --label dvc/$tag/add-noop -n 5 --cwd $w -- dvc --cd d add -q data
$T --label dvc/$tag/status-noop -n 5 --cwd $w -- dvc --cd d status -q
$T --label dvc/$tag/edit$k+status -n 5 --ok 0,1 --cwd $w --prep "python3 $BENCH/gen_files.py edit d/data $k" -- dvc --cd d status -q
$T --label dvc/$tag/edit$k+add -n 5 --cwd $w --prep "python3 $BENCH/gen_files.py edit d/data $k" -- dvc --cd d add -q data
$T --label dvc/$tag/checkout-noop -n 3 --cwd $w -- dvc --cd d checkout -q
$T --label dvc/$tag/checkout-fresh -n 3 --cwd $w --prep 'rm -rf d/data' -- dvc --cd d checkout -q
du -sm $w/d/.dvc/cache $w/d/data; find $w/d/.dvc/cache -type f | wc -l
fi
