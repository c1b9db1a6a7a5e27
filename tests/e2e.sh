#!/usr/bin/env bash
# Uses the release binary as a person and a script would, with and without a node.
# $KDELTA_BIN names the binary; everything happens in a temporary directory.
set -euo pipefail

binary="$(realpath "${KDELTA_BIN:-target/release/kdelta}")"
home="$(mktemp -d)"
nodes=()
finish() {
    for node in "${nodes[@]}"; do kill "$node" 2>/dev/null || true; done
    rm -rf "$home"
}
trap finish EXIT
cd "$home"
export HOME="$home" KDELTA_WAIT=10s KDELTA_MDNS=off
unset KDELTA_DATA_DIR KDELTA_SPACE XDG_DATA_HOME

kdelta() { "$binary" "$@"; }

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# is EXPECTED COMMAND...: the command prints exactly EXPECTED.
is() {
    local expected="$1" got
    shift
    got="$(kdelta "$@")" || fail "kdelta $* exited $?"
    [[ "$got" == "$expected" ]] || fail "kdelta $* printed '$got', not '$expected'"
}

# exits STATUS COMMAND...: the command exits with STATUS.
exits() {
    local expected="$1" status=0
    shift
    kdelta "$@" >out.txt 2>err.txt || status=$?
    [[ "$status" == "$expected" ]] || fail "kdelta $* exited $status: $(cat err.txt)"
}

# Starts a node on directory $1 and waits until it is ready.
serve() {
    local dir="$1" line
    shift
    # What an earlier node on this directory said is not taken for this one's word.
    rm -f "$dir.ready"
    # Not through the function: its process would be a shell between us and the node.
    "$binary" serve --data-dir "$dir" --listen 127.0.0.1:0 "$@" >"$dir.ready" 2>"$dir.log" &
    nodes+=($!)
    for _ in $(seq 200); do
        [[ -s "$dir.ready" ]] && return
        sleep 0.05
    done
    fail "the node on $dir did not start: $(cat "$dir.log")"
}

stop() {
    local status=0
    kill -TERM "${nodes[-1]}"
    wait "${nodes[-1]}" || status=$?
    unset 'nodes[-1]'
    [[ "$status" == 0 ]] || fail "a node that was told to stop exited $status"
}

values() {
    local dir="$1"
    export KDELTA_DATA_DIR="$dir"
    kdelta put text hello >/dev/null
    is hello get text
    kdelta put number 9007199254740993 >/dev/null
    is 9007199254740993 get number
    kdelta put object ' { "b": 1.0, "a": [] } ' >/dev/null
    is '{"a":[],"b":1.0}' get object
    printf '\377\000' | kdelta put bytes - --raw >/dev/null
    [[ "$(kdelta get bytes --raw | od -An -tx1 | tr -d ' \n')" == ff00 ]] || fail "bytes"
    kdelta counter add visits >/dev/null
    kdelta counter add visits -3 >/dev/null
    is -2 get visits
    kdelta set add tags red -1 '{"b":1,"a":2}' >/dev/null
    kdelta set remove tags red >/dev/null
    is '[-1,{"a":2,"b":1}]' get tags
    kdelta map put settings theme dark >/dev/null
    is '{"theme":"dark"}' get settings
    is $'bytes\nnumber\nobject\nsettings\ntags\ntext\nvisits' list
    is $'object\t{"a":[],"b":1.0}' query --where 'b = 1 and exists a'
    is 9007199254740993 query --where '@value > 9007199254740992' --max @value
    exits 2 query --where 'b ~ 1'
    exits 3 get missing
    exits 4 counter add text
    exits 4 put text again --if-version none
    exits 2 put text '{"a":1,"a":2}'
    kdelta tag v1 >/dev/null
    kdelta put text later >/dev/null
    is hello get text --at tag:v1
    [[ "$(kdelta history text | tail -n +2 | wc -l)" == 2 ]] || fail "history"
    kdelta delete text >/dev/null
    exits 3 get text
    is hello get text --at tag:v1
    unset KDELTA_DATA_DIR
}

printf -- '-- values, without a node\n'
values "$home/alone"
printf -- '-- values, with a node\n'
serve "$home/noded"
values "$home/noded"
stop

printf -- '-- ten first commands at once make one identity\n'
commands=()
for at in $(seq 10); do
    kdelta put "key/$at" "$at" --data-dir "$home/ten" >/dev/null &
    commands+=($!)
done
for command in "${commands[@]}"; do wait "$command"; done
is $'key/1\nkey/10\nkey/2\nkey/3\nkey/4\nkey/5\nkey/6\nkey/7\nkey/8\nkey/9' \
    list --data-dir "$home/ten"
authors="$(kdelta history --json --data-dir "$home/ten" | grep -o '"author":"[^"]*"' | sort -u | wc -l)"
[[ "$authors" == 1 ]] || fail "$authors authors"

printf -- '-- export, import, backup, restore, verify\n'
kdelta export "$home/all.jsonl.zst" --history --data-dir "$home/alone"
kdelta import "$home/all.jsonl.zst" --data-dir "$home/again" >/dev/null
[[ "$(kdelta list --values --data-dir "$home/again")" == \
   "$(kdelta list --values --data-dir "$home/alone")" ]] || fail "an import differs"
kdelta import "$home/all.jsonl.zst" --data-dir "$home/again" --json | grep -q '"commits":0' ||
    fail "an import run again wrote something"
kdelta backup "$home/store.kdb" --data-dir "$home/alone" >/dev/null
kdelta restore "$home/store.kdb" --data-dir "$home/restored" >/dev/null
[[ "$(kdelta list --values --data-dir "$home/restored")" == \
   "$(kdelta list --values --data-dir "$home/alone")" ]] || fail "a restored store differs"
kdelta verify --deep --data-dir "$home/restored" >/dev/null

printf -- '-- two replicas meet, part, and meet again\n'
serve "$home/noded"
exits 6 ticket --data-dir "$home/alone"
ticket="$(kdelta ticket --data-dir "$home/noded")"
kdelta sync "$ticket" --data-dir "$home/guest" >/dev/null
is '-2' get visits --data-dir "$home/guest"
kdelta put both left --data-dir "$home/guest" >/dev/null
kdelta put both right --data-dir "$home/noded" >/dev/null
kdelta sync --data-dir "$home/guest" >/dev/null
[[ "$(kdelta get both --json --data-dir "$home/guest")" == \
   "$(kdelta get both --json --data-dir "$home/noded")" ]] || fail "replicas differ"
hash_of() { kdelta status --json --data-dir "$1" | grep -o '"state_hash":"[^"]*"'; }
[[ "$(hash_of "$home/guest")" == "$(hash_of "$home/noded")" ]] || fail "state hashes differ"
stop

printf -- '-- a killed node stops nobody\n'
serve "$home/noded"
kill -KILL "${nodes[-1]}"
wait "${nodes[-1]}" 2>/dev/null || true
unset 'nodes[-1]'
is '-2' get visits --data-dir "$home/noded"

printf -- '-- streams that end early\n'
kdelta list --data-dir "$home/alone" | head -n 1 >/dev/null
timeout --preserve-status -s INT 1 "$binary" watch --data-dir "$home/alone" >/dev/null && status=0 || status=$?
[[ "$status" == 130 ]] || fail "an interrupted watch exited $status"

printf -- '-- what this build does without\n'
exits 2 serve --data-dir "$home/alone" --otlp https://localhost
grep -q -- '--features otlp' err.txt || fail "traces were not refused: $(cat err.txt)"

printf 'end to end: all well\n'
