# What the trials share: a small pipeline, a file system in a file, and saying so where there can be none.

set -eu
PIPE=${PIPE:-$(dirname "$0")/../../target/release/pipe}
[ -x "$PIPE" ] || { echo "no $PIPE: build it, or name another with PIPE=..."; exit 2; }
PIPE=$(realpath "$PIPE")
DIR=$(mktemp -d "${TRIAL_DIR:-/var/tmp}/pipe-trial.XXXXXX")
DISK=$DIR/disk
mkdir "$DISK"
trap 'umount "$DISK" 2>/dev/null || umount -l "$DISK" 2>/dev/null || true; rm -rf "$DIR"' EXIT

skip() {
    echo "skipped: $1; this needs root and loop devices"
    exit 77
}

# new_disk MEGABYTES [options of mkfs.ext4]: an empty ext4 at $DISK.
new_disk() {
    size=$1
    shift
    umount "$DISK" 2>/dev/null || true
    rm -f "$DIR/image"
    truncate -s "${size}M" "$DIR/image"
    mkfs.ext4 -q -F -m 0 "$@" "$DIR/image" 2>/dev/null || skip "there is no mkfs.ext4"
    mount_disk
}

mount_disk() {
    mount -o loop "$DIR/image" "$DISK" 2>/dev/null || skip "no file system can be mounted"
}

# pipeline FILE STEPS: steps that each make a large and some small files and take from each other, and rows on their way through a filter.
pipeline() {
    {
        echo 'name = "trial"'
        echo '[steps.rows]
stage = "download"
source = "rows.jsonl"
id = "id"
[steps.kept]
stage = "filter"
inputs = { rows = "rows" }
keep = "n % 3 > 0"'
        n=1
        while [ "$n" -le "$2" ]; do
            echo "[steps.made$n]
stage = \"command\"
run = [\"sh\", \"-c\", \"\"\"set -e; for i in 1 2 3 4 5 6 7 8; do echo $n \$i > {out}/made/\$i; done; head -c 1500000 /dev/zero | tr '\\\\\\\\000' $((n % 10)) > {out}/made/large; sleep 0.05\"\"\"]
outputs = { made = \"files\" }"
            [ "$n" -eq 1 ] || echo "inputs = { from = \"made$((n - 1)).made\" }"
            n=$((n + 1))
        done
    } >"$1"
    seq 1 20000 | sed 's/.*/{"id": "row-&", "n": &}/' >"$(dirname "$1")/rows.jsonl"
}

# artifacts FILE: what every step of a run with --json gave.
artifacts() {
    grep '"step_done"' "$1" | sed 's/.*"step":"\([^"]*\)".*"outputs":\({[^}]*}\).*/\1 \2/' | sort -u
}

# executed FILE: how many steps of a run with --json executed.
executed() {
    grep '"step_done"' "$1" | grep -c '"executed":true' || true
}
