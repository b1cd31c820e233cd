#!/bin/sh
# A store behind a network, shared by two machines: one directory, mounted twice over SFTP with caches of their own, and a pipeline run on
# both mounts, after each other and at once, with one of them ended by kill -9 or cut off from the server. Needs FUSE, sshfs, socat and
# OpenSSH's sftp-server; no network and no account.
#
#     cache/trials/network.sh                 PIPE=target/debug/pipe, TRIAL_DIR=/var/tmp, ROUNDS=10

. "$(dirname "$0")/lib.sh"
ROUNDS=${ROUNDS:-10}
SFTP=${SFTP:-/usr/lib/openssh/sftp-server}
SERVED=$DIR/served
ONE=$DIR/one
TWO=$DIR/two
failed=0
mkdir "$SERVED" "$ONE" "$TWO"
trap 'for m in "$ONE" "$TWO"; do fusermount -u "$m" 2>/dev/null || umount -l "$m" 2>/dev/null || true; done; rm -rf "$DIR"' EXIT
pipeline "$DIR/p.toml" 8

# mounted MOUNT: mounts what is served, as another machine would see it.
mounted() {
    command -v sshfs >/dev/null && command -v socat >/dev/null && [ -x "$SFTP" ] || lacking
    socat "EXEC:$SFTP" "EXEC:sshfs -f -o passive\\,dcache_timeout=5 \\:$SERVED $1" 2>>"$DIR/socat.err" &
    echo $! >"$1.pid"
    n=0
    until mountpoint -q "$1"; do
        n=$((n + 1))
        [ "$n" -lt 100 ] || lacking
        sleep 0.1
    done
}

lacking() {
    cat "$DIR/socat.err" 2>/dev/null || true
    echo "skipped: nothing can be mounted over SFTP; this needs FUSE, sshfs, socat and $SFTP"
    exit 77
}

# run MOUNT OUT [pipeline]
run() {
    "$PIPE" run "${3:-$DIR/p.toml}" --store "$1/store" --json >"$2" 2>"$2.err"
}

check() {
    words=$1
    shift
    if "$@" >"$DIR/out" 2>&1; then echo "  ok: $words"; else echo "  FAILED: $words"; tail -5 "$DIR/out"; failed=$((failed + 1)); fi
}

sound() {
    "$PIPE" verify --store "$1/store"
}

# same OUT: the artifacts are those made elsewhere.
same() {
    artifacts "$1" | cmp - "$DIR/expected"
}

nothing_executed() {
    run "$1" "$DIR/again" && [ "$(executed "$DIR/again")" = 0 ] && same "$DIR/again"
}

run "$DIR/elsewhere" "$DIR/whole" || { cat "$DIR/whole.err"; exit 1; }
artifacts "$DIR/whole" >"$DIR/expected"
mounted "$ONE"
mounted "$TWO"

echo "one machine, then the other"
check "the first makes everything" run "$ONE" "$DIR/first"
check "and gives what is made elsewhere" same "$DIR/first"
check "the second finds all of it" nothing_executed "$TWO"
check "sound, seen from the second" sound "$TWO"

echo "both at once, $ROUNDS times from nothing"
n=0
while [ "$n" -lt "$ROUNDS" ]; do
    rm -rf "$SERVED/store"
    sleep 6 # What the mounts remember of the old one is forgotten.
    run "$ONE" "$DIR/a" &
    a=$!
    run "$TWO" "$DIR/b" &
    b=$!
    wait "$a" || { cat "$DIR/a.err"; tail -2 "$DIR/a"; failed=$((failed + 1)); }
    wait "$b" || { cat "$DIR/b.err"; tail -2 "$DIR/b"; failed=$((failed + 1)); }
    for out in "$DIR/a" "$DIR/b"; do
        same "$out" || { echo "  FAILED: round $n: other artifacts"; artifacts "$out" | diff "$DIR/expected" - || true; failed=$((failed + 1)); }
    done
    n=$((n + 1))
done
check "sound" sound "$ONE"

echo "one is ended by kill -9 while both run, $ROUNDS times from nothing"
n=0
while [ "$n" -lt "$ROUNDS" ]; do
    rm -rf "$SERVED/store"
    sleep 6
    "$PIPE" run "$DIR/p.toml" --store "$ONE/store" --json >/dev/null 2>&1 &
    victim=$!
    run "$TWO" "$DIR/b" &
    b=$!
    sleep "0.$((n * 7 % 10))"
    kill -9 "$victim" 2>/dev/null || true
    wait "$victim" 2>/dev/null || true
    wait "$b" || { cat "$DIR/b.err"; tail -2 "$DIR/b"; failed=$((failed + 1)); }
    same "$DIR/b" || { echo "  FAILED: round $n: other artifacts"; failed=$((failed + 1)); }
    sleep 6 # A record that does not show yet is no result.
    nothing_executed "$ONE" || { echo "  FAILED: round $n: the first does not find what the second made"; failed=$((failed + 1)); }
    n=$((n + 1))
done
check "sound" sound "$TWO"

echo "the connection of one breaks in the middle of a run"
rm -rf "$SERVED/store"
sleep 6
"$PIPE" run "$DIR/p.toml" --store "$ONE/store" --json >"$DIR/cut" 2>"$DIR/cut.err" &
cut=$!
sleep 1
kill -9 "$(cat "$ONE.pid")" 2>/dev/null || true
code=0
wait "$cut" || code=$?
check "the run fails, and says so with exit code 4 or 1" test "$code" = 4 -o "$code" = 1
tail -1 "$DIR/cut.err" | sed 's/^/    /'
check "the other goes on from what was finished" run "$TWO" "$DIR/b"
check "and gives what is made elsewhere" same "$DIR/b"
check "sound" sound "$TWO"
[ "$failed" = 0 ] || { echo "$failed failed"; exit 1; }
