#!/bin/sh
# Fills the disk under a store, with bytes and with inodes, before and in the middle of a run: what was finished stays, nothing wrong is
# recorded, `gc` works on the full disk, and with room again everything comes out as elsewhere. Needs root and loop devices.
#
#     cache/trials/full_disk.sh               PIPE=target/debug/pipe, TRIAL_DIR=/var/tmp

. "$(dirname "$0")/lib.sh"
pipeline "$DIR/p.toml" 20
pipeline "$DIR/less.toml" 5
failed=0

run() {
    "$PIPE" run "$1" --store "$2" --json >"$3" 2>"$3.err"
}

# check WORDS COMMAND…: says whether the command does what the words say.
check() {
    words=$1
    shift
    if "$@" >"$DIR/out" 2>&1; then echo "  ok: $words"; else echo "  FAILED: $words"; tail -3 "$DIR/out"; failed=$((failed + 1)); fi
}

verify() {
    "$PIPE" verify --store "$DISK/store"
}

collect() {
    "$PIPE" gc --store "$DISK/store" --keep-runs 0 --keep-days 0 --grace 0 --yes
}

same() {
    run "$DIR/p.toml" "$DISK/store" "$DIR/again" && artifacts "$DIR/again" | cmp - "$DIR/expected"
}

stops() {
    code=0
    run "$DIR/p.toml" "$DISK/store" "$DIR/stopped" || code=$?
    [ "$code" = 4 ] && grep -q 'pipe gc' "$DIR/stopped"
}

# A program may find the disk full first, and say so in its own way.
fails() {
    ! run "$DIR/p.toml" "$DISK/store" "$DIR/stopped"
}

fill_bytes() {
    head -c 1G /dev/zero >"$DISK/filler" 2>/dev/null || true
    # The last blocks too.
    cat /dev/zero >>"$DISK/filler" 2>/dev/null || true
}

fill_inodes() {
    mkdir "$DISK/filler"
    n=0
    while touch "$DISK/filler/$n" 2>/dev/null; do n=$((n + 1)); done
}

# trial WORDS FILL: results of a smaller pipeline are there when the disk is filled.
trial() {
    echo "$1"
    run "$DIR/less.toml" "$DISK/store" "$DIR/first" || { cat "$DIR/first.err"; exit 1; }
    $2
    df --output=avail,iavail "$DISK" | tail -1 | sed 's/^/  left (kB, inodes):/'
    check "a run stops with exit code 4 and names pipe gc" stops
    check "what is there is sound" verify
    rm -f "$DIR/less.lock" "$DIR/p.lock"
    check "pipe gc works" collect
    check "what is left is sound" verify
    rm -rf "$DISK/filler"
    check "with room again the artifacts are those made elsewhere" same
    check "and sound" verify
}

run "$DIR/p.toml" "$DIR/elsewhere" "$DIR/whole" || { cat "$DIR/whole.err"; exit 1; }
artifacts "$DIR/whole" >"$DIR/expected"

new_disk 60
trial "no bytes left" fill_bytes
new_disk 60 -N 700
trial "no inodes left" fill_inodes

echo "the disk fills in the middle of a run"
new_disk 60
head -c 35M /dev/zero >"$DISK/filler"
check "the run fails" fails
check "what is there is sound" verify
rm -f "$DISK/filler"
check "with room again the artifacts are those made elsewhere" same
echo "of $(wc -l <"$DIR/expected") steps the full disk cost $(executed "$DIR/again")"

[ "$failed" -eq 0 ]
