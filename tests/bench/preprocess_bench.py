#!/usr/bin/env python3
# Preprocessing, MB of input text a second and core, for every format: repeats a JSON-lines corpus to a given size first.
import argparse
import json
import os
import resource
import subprocess
import tempfile
from pathlib import Path

from provenance import ROOT, provenance


def jsonl(turns):
    return json.dumps({"turns": turns}, ensure_ascii=False) + "\n"


def messages(turns):
    said = [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return json.dumps({"messages": said}, ensure_ascii=False) + "\n"


def text(turns):
    return "\n".join(turn.replace("\n", " ") for turn in turns) + "\n\n"


def eou(turns):
    return " __eou__ ".join(turn.replace("\n", " ") for turn in turns) + " __eou__\n"


FORMATS = {"jsonl, turns": jsonl, "jsonl, messages": messages, "text": text, "text, __eou__": eou}


def write_corpus(path, conversations, write, megabytes):
    block = "".join(write(turns) for turns in conversations).encode()
    with open(path, "wb") as file:
        for _ in range(max(1, round(megabytes * 1e6 / len(block)))):
            file.write(block)
    return path.stat().st_size


def run(program, corpus, folder, workers):
    """Processor seconds and wall seconds of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = os.times().elapsed
    command = [str(program), str(corpus), "--output", str(folder), "--workers", str(workers)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, os.times().elapsed - start


def main():
    parser = argparse.ArgumentParser(description="Speed of preprocessing")
    parser.add_argument("corpus", type=Path, help='JSON lines of {"turns": [...]}')
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "bin" / "duologue-preprocess")
    parser.add_argument("--megabytes", type=float, default=300.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path, help="file for the record (JSON)")
    arguments = parser.parse_args()
    with open(arguments.corpus) as file:
        conversations = [json.loads(line)["turns"] for line in file]
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, write in FORMATS.items():
            corpus = Path(folder) / ("corpus.jsonl" if name.startswith("jsonl") else "corpus.txt")
            size = write_corpus(corpus, conversations, write, arguments.megabytes)
            used, wall = run(arguments.program, corpus, Path(folder) / "shards", arguments.workers)
            rates[name] = {"per_processor_second": size / 1e6 / used, "per_second": size / 1e6 / wall}
            print(f"{name}: {rates[name]['per_processor_second']:.1f} MB a processor second, "
                  f"{rates[name]['per_second']:.1f} MB/s with {arguments.workers} workers", flush=True)
            subprocess.run(["rm", "-r", str(Path(folder) / "shards")], check=True)
            corpus.unlink()
    record = {**provenance(), "megabytes": arguments.megabytes, "workers": arguments.workers, "rates": rates}
    if arguments.output:
        arguments.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
