#!/usr/bin/env bash
# Peak memory of preprocessing: the same for any size of input, any number of workers, few or endlessly many words.
# usage: preprocess_memory.sh PREPROCESS_PROGRAM MEGABYTES [demo|random_words ...]. Fails above 400 MiB, where the memory grows with the size, and
# where the number of workers changes the output. Needs GNU time. 2000 MB take a quarter of an hour and 5 GB.
set -euo pipefail

preprocess=$(realpath "$1")
megabytes=$2
kinds=("${@:3}")
[ ${#kinds[@]} -gt 0 ] || kinds=(demo random_words)
limit_kib=$((400 * 1024))
growth_kib=$((48 * 1024))
time=/usr/bin/time
[ -x "$time" ] || { echo "preprocess_memory.sh: $time is missing: install the package 'time'" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# take MEGABYTES: the first so many of standard input, whole lines.
take() { head -c "${1}000000" | sed '$d'; }

demo() {
    "$preprocess" demo --output "$folder/piece.jsonl" --conversations 20000 2>/dev/null
    yes "$folder/piece.jsonl" 2>/dev/null | xargs -n 50 cat 2>/dev/null
}

# Words that hardly ever come twice: what a vocabulary that holds every word would die of.
random_words() {
    awk 'BEGIN {
        srand(1)
        for (;;) {
            printf "{\"turns\": [\""
            for (i = 0; i < 60; ++i) printf "%s%x%x", i % 12 ? " " : i ? "\", \"" : "", rand() * 1e9, rand() * 1e6
            print "\"]}"
        }
    }'
}

# run NAME WORKERS: preprocesses NAME.jsonl into $folder/NAME.WORKERS; sets peak_kib.
run() {
    local result
    result=$("$time" -f '%M %e' "$preprocess" "$folder/$1.jsonl" --output "$folder/$1.$2" --workers "$2" 2>&1 >/dev/null |
        tail -n 1)
    peak_kib=${result% *}
    printf '%-13s %5d MB  %d workers  peak %4d MiB  %7s s\n' "$1" $(($(stat -c %s "$folder/$1.jsonl") / 1000000)) "$2" \
        $((peak_kib / 1024)) "${result#* }"
    [ "$peak_kib" -lt "$limit_kib" ] || { echo "preprocess_memory.sh: more than $limit_kib KiB" >&2; exit 1; }
}

for kind in "${kinds[@]}"; do
    # The generators write until nobody reads any more.
    { $kind || true; } | take $((megabytes / 4)) >"$folder/$kind.jsonl"
    run "$kind" 2
    quarter=$peak_kib
    rm -rf "$folder/$kind".*
    { $kind || true; } | take "$megabytes" >"$folder/$kind.jsonl"
    for workers in 1 2 4; do
        run "$kind" "$workers"
        [ "$workers" -ne 2 ] || [ "$peak_kib" -lt $((quarter + growth_kib)) ] || {
            echo "preprocess_memory.sh: four times the input takes $(((peak_kib - quarter) / 1024)) MiB more" >&2
            exit 1
        }
        [ "$workers" -eq 1 ] || diff -r "$folder/$kind.1" "$folder/$kind.$workers"
        [ "$workers" -eq 1 ] || rm -rf "$folder/$kind.$workers"
    done
    rm -rf "$folder/$kind".*
done
echo "the same output for 1, 2 and 4 workers, below $((limit_kib / 1024)) MiB"
