#!/bin/sh
# Cuts the power under a run: the file system of the store is shut down at a random moment, with its journal flushed or lost, then
# mounted again. Whatever is recorded must be whole, and the next run must give the same artifacts. Needs root, loop devices and python3.
#
#     cache/trials/power_cut.sh [CUTS]        PIPE=target/debug/pipe, TRIAL_DIR=/var/tmp

. "$(dirname "$0")/lib.sh"
CUTS=${1:-20}
pipeline "$DIR/p.toml" 40

run() {
    "$PIPE" run "$DIR/p.toml" --store "$1" --json >"$2" 2>"$2.err"
}

# EXT4_IOC_SHUTDOWN; 2: what is not in the journal's place on the disk is lost with the journal, 1: the journal is flushed first.
cut_power() {
    python3 -c 'import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack("I", int(sys.argv[2])))' "$DISK" "$1"
}

# The programs of steps outlive the run for a moment.
let_go() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        umount "$DISK" 2>/dev/null && return
        sleep 0.2
    done
    umount "$DISK"
}

run "$DIR/elsewhere" "$DIR/whole" || { cat "$DIR/whole.err"; exit 1; }
artifacts "$DIR/whole" >"$DIR/expected"
echo "steps: $(wc -l <"$DIR/expected")"
new_disk 300

n=0 failed=0 recorded=0 damaged=0
while [ "$n" -lt "$CUTS" ]; do
    n=$((n + 1))
    new_disk 300
    "$PIPE" run "$DIR/p.toml" --store "$DISK/store" --json >"$DIR/cut" 2>&1 &
    pid=$!
    sleep "$(awk "BEGIN { srand($n); print 0.2 + 3 * rand() }")"
    cut_power $((1 + n % 2)) || skip "the file system cannot be shut down"
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    let_go
    mount_disk
    # Before the store was made there is nothing to check.
    if [ -e "$DISK/store/format" ]; then
        "$PIPE" verify --store "$DISK/store" >"$DIR/verify" 2>&1 || { damaged=$((damaged + 1)); tail -5 "$DIR/verify"; }
    fi
    had=$(find "$DISK/store/actions" -type f 2>/dev/null | wc -l)
    recorded=$((recorded + had))
    if ! run "$DISK/store" "$DIR/after"; then
        failed=$((failed + 1))
        tail -5 "$DIR/after.err"
    fi
    artifacts "$DIR/after" | cmp -s - "$DIR/expected" || { failed=$((failed + 1)); echo "cut $n: other artifacts"; }
    "$PIPE" verify --store "$DISK/store" >/dev/null 2>&1 || { damaged=$((damaged + 1)); echo "cut $n: damage after the run"; }
    echo "cut $n ($([ $((1 + n % 2)) = 1 ] && echo "journal flushed" || echo "journal lost")): $had records survived, $(executed "$DIR/after") steps executed again"
done
echo "$CUTS cuts, $recorded records survived: $damaged stores damaged, $failed runs with other artifacts"
[ "$((damaged + failed))" -eq 0 ]
