#!/usr/bin/env bash
# Two nodes under mixed load over HTTP, one of them cut off in the middle and back: nobody gets an
# error of the server but 503 with Retry-After, and both are equal at the end.
#
# $KDELTA_BIN names the binary; the argument is for how many seconds (default 120). Needs wrk. Prints
# what was answered and how fast. Where it may, it runs in a network namespace of its own.
set -euo pipefail

binary="$(realpath "${KDELTA_BIN:-target/release/kdelta}")"
here="$(realpath "$(dirname "$0")")"
seconds="${1:-120}"
command -v wrk >/dev/null || { echo "SKIPPED: wrk is not installed"; exit 0; }
if [[ -z "${KDELTA_ALONE:-}" ]] && unshare --net true 2>/dev/null; then
    KDELTA_ALONE=1 KDELTA_BIN="$binary" unshare --net "$here/load.sh" "$@"
    exit
fi
[[ -z "${KDELTA_ALONE:-}" ]] || ip link set lo up

home="$(mktemp -d)"
nodes=()
finish() {
    for node in "${nodes[@]}"; do
        { kill -CONT "$node" && kill "$node" && wait "$node"; } 2>/dev/null || true
    done
    rm -rf "$home"
}
trap finish EXIT
cd "$home"
fail() { printf 'FAILED: %s\n' "$*" >&2; tail -n 20 ./*.log >&2; exit 1; }

serve() {
    local name="$1"
    shift
    # What an earlier node on this directory said is not taken for this one's word.
    rm -f "$name.ready"
    KDELTA_DATA_DIR="$home/$name" "$binary" serve --listen 127.0.0.1:0 --http 127.0.0.1:0 \
        --no-mdns "$@" >"$name.ready" 2>"$name.log" &
    nodes+=($!)
    for _ in $(seq 200); do
        [[ -s "$name.ready" ]] && return
        sleep 0.05
    done
    fail "$name did not start"
}
on() { KDELTA_DATA_DIR="$home/$1" "$binary" "${@:2}"; }
url() { grep -o 'http://[0-9.:]*' "$1.ready"; }
load() {
    KDELTA_TOKEN="$(cat "$1/token")" wrk -t1 -c16 --timeout 10s -d "${2}s" \
        -s "$here/load.lua" "$(url "$1")" >"$1.load"
}
# The line that tells what was answered: no status above 499 but an announced 503, and no connection
# that broke.
judge() {
    local line
    line="$(grep '^answers' "$1.load")" || fail "$1 was asked nothing"
    [[ ! "$line" =~ (5[0-9][0-9]-|50[0124-9]=|5[1-9][0-9]=|400=|401=|403=|422=) ]] ||
        fail "$1: $line"
    [[ "$line" =~ 200= ]] || fail "$1 answered nothing well: $line"
    grep -q '^errors connect=0 read=0 write=0 timeout=0' "$1.load" || fail "$(cat "$1.load")"
    sed "s/^/$1: /" "$1.load" | grep -E ': (answers|latency|Requests/sec)'
}
hashes() { on "$1" status --json | grep -o '"\(state\|value\)_hash":"[0-9a-f]*"'; }

serve a
serve b --join "$(on a ticket)"
third=$((seconds / 3))
load a "$seconds" &
first=$!
# The other one is busy as well until it is cut off, and once it is back.
load b "$third"
judge b
kill -STOP "${nodes[1]}"
sleep "$third"
kill -CONT "${nodes[1]}"
load b "$third"
judge b
wait "$first"
judge a
for _ in $(seq 600); do
    [[ "$(hashes a)" == "$(hashes b)" ]] && break
    sleep 0.1
done
[[ "$(hashes a)" == "$(hashes b)" ]] || fail "a and b differ: $(hashes a) $(hashes b)"
echo "equal: $(hashes a | tr '\n' ' ')"
for node in "${nodes[@]}"; do
    kill -TERM "$node"
    wait "$node" || fail "a node did not end in order"
done
nodes=()
