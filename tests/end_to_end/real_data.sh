#!/usr/bin/env bash
# Preprocesses real conversations and checks how many there are. usage: real_data.sh PREPROCESS_PROGRAM DIR
# DIR holds what one has of: self-dialogue/self_dialogue.jsonl (the Self-dialogue Corpus of Fainberg and others 2018, one
# {"turns": [...]} a line) and topical-chat/valid_freq.json (Topical-Chat, Gopalakrishnan and others 2019, as published).
set -euo pipefail

preprocess=$(realpath "$1")
data=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
checked=0

# check FILE CONVERSATIONS TURNS: the counts with punctuation kept, and the same shards for 1 and 3 workers.
check() {
    [ -f "$data/$1" ] || return 0
    local workers
    for workers in 1 3; do
        "$preprocess" "$data/$1" --output "$folder/$workers" --punctuation keep --workers "$workers" | tee "$folder/summary"
        grep -qE "^conversations $2  turns $3  " "$folder/summary" || {
            echo "real_data.sh: $1 has to give $2 conversations and $3 turns" >&2
            exit 1
        }
    done
    diff -r "$folder/1" "$folder/3"
    rm -rf "$folder"/[13]
    checked=$((checked + 1))
}

check self-dialogue/self_dialogue.jsonl 24156 373592
check topical-chat/valid_freq.json 539 11681
[ "$checked" -gt 0 ] || { echo "real_data.sh: neither of the files is in '$data'" >&2; exit 1; }
echo "$checked of 2 files: the counts are right, for any number of workers"
