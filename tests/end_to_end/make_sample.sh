#!/usr/bin/env bash
# Makes what the end-to-end tests share: a corpus, its shards, other shards, a configuration, a finished run of two ranks.
# usage: make_sample.sh FOLDER_OF_PROGRAMS SAMPLE_FOLDER
set -euo pipefail

bin=$1
sample=$2
rm -rf "$sample"
mkdir -p "$sample"
cd "$sample"

"$bin/duologue-preprocess" demo --output corpus.jsonl --conversations 300 --seed 1
"$bin/duologue-preprocess" corpus.jsonl --output data --shard-tokens 1000
"$bin/duologue-preprocess" corpus.jsonl --output other_words --vocabulary-size 100
"$bin/duologue-preprocess" corpus.jsonl --output other_data --shard-tokens 1000 --seed 2

# Every run of the tests follows this file: steps of about 10 ms, so that signals meet it, and windows of one shard.
cat >config.json <<TEXT
{"data": {"path": "$sample/data", "max_context_tokens": 64, "max_reply_tokens": 24, "micro_batch_tokens": 512,
          "window_shards": 1},
 "model": {"width": 32, "heads": 2, "hidden": 64, "encoder_layers": 1, "decoder_layers": 1},
 "train": {"steps": 60, "warmup_steps": 30, "learning_rate": 0.003, "micro_batches_per_step": 8,
           "log_interval_steps": 5},
 "checkpoint": {"interval_steps": 20, "keep_last": 100},
 "device": {"kind": "cpu", "threads": 1},
 "chat": {"at_end": "never", "temperature": 0}}
TEXT
mpirun -n 2 --bind-to none "$bin/duologue" train --config config.json --output.path=run
