"""Looks at what is to be uploaded before anything is paid for: is it there, and would the job find in it what it needs?"""

import codecs
import gzip
import json
import re
import zlib
from pathlib import Path, PurePosixPath

from artifacts import files_below
from job_kinds import JobError
from job_request import DATA

BEGINNING = 64 * 1024  # as much as duologue-preprocess looks at
ZSTANDARD, GZIP, HDF5 = b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"\x89HDF"
# A member that a record has in one of the formats that begin with a brace.
RECORD = re.compile(r'"(turns|messages|content)"\s*:\s*\[')


def beginning_of(file):
    """The first bytes; of a gzip file, those that it holds. None where they are compressed in another way."""
    with open(file, "rb") as raw:
        head = raw.read(BEGINNING)
    if head.startswith(ZSTANDARD):
        return None
    if not head.startswith(GZIP):
        return head
    try:
        with gzip.open(file) as unpacked:
            return unpacked.read(BEGINNING)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise JobError(f"'{file}' is a broken gzip file: {error}") from error


def text_of(file, head):
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # a letter may be cut off at the end
    except UnicodeDecodeError as error:
        raise JobError(f"'{file}' is not text in UTF-8: byte {error.start} is no part of it") from error
    if "\0" in text:
        raise JobError(f"'{file}' is not a text file")
    if not text.strip():
        raise JobError(f"'{file}' begins with nothing but white space" if text else f"'{file}' is empty")
    return text.lstrip()


def check_conversations(file, hyperparameters):
    head = beginning_of(file)
    if head is None:
        return
    if head.startswith(HDF5):
        raise JobError(f"'{file}' is a shard without its manifest: upload the folder that holds manifest.json")
    if hyperparameters.get("preprocess.on_error") == "skip":
        return
    text = text_of(file, head)
    if hyperparameters.get("preprocess.format") in ("text", "eou"):
        return
    if re.match(r"\[\s*\{", text):
        raise JobError(f"'{file}' is one JSON array; write its records one a line, without the brackets and commas")
    if text.startswith("{") and not RECORD.search(text):
        raise JobError(
            f"'{file}' begins with a JSON object that is no conversation: it has no list \"turns\", \"messages\" or \"content\""
        )


def check_shards(folder):
    """That all is there which the manifest names, with the sizes that it names; the trainer compares checksums."""
    manifest = folder / "manifest.json"
    try:
        shards = {shard["file"]: shard["bytes"] for shard in json.loads(manifest.read_text())["shards"]}
    except (ValueError, KeyError, TypeError) as error:
        raise JobError(f"'{manifest}' is no manifest of duologue-preprocess; leave it out, or name its folder") from error
    for name, size in {"vocabulary.json": None, **shards}.items():
        if not (folder / name).is_file():
            raise JobError(f"'{folder}' lacks {name}, which belongs to its manifest.json")
        if size not in (None, (folder / name).stat().st_size):
            raise JobError(f"'{folder / name}' has {(folder / name).stat().st_size} bytes, but manifest.json says {size}")


def check_training(path, files, hyperparameters):
    if (path / "manifest.json").is_file():
        check_shards(path)
        return
    named = {PurePosixPath(str(value)) for value in hyperparameters.values()}  # a configuration or a vocabulary, for instance
    rest = [file for file, name in files if PurePosixPath(DATA, "training", name) not in named]
    conversations = [file for file in rest if file.name != "prompts.txt"]
    if not conversations:
        raise JobError(f"'{path}' holds no conversations to train on, only what goes with them")
    for file in conversations:
        check_conversations(file, hyperparameters)


def check_prompts(path, files):
    """The job looks for prompts by this name, and would ask the image's own without a word where it finds none."""
    found = [file for file, name in files if name == "prompts.txt"]
    if not found:
        raise JobError(f"'{path}' has no prompts.txt; the job finds prompts by that name: rename the file")
    text_of(found[0], beginning_of(found[0]) or b"")


def require_readable(file):
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error  # a failed read does not name its file


def checked_uploads(job, pairs):
    """Each channel with the path that fills it. JobError for what the job could not use, OSError for what cannot be read."""
    uploads = {}
    for pair in pairs:
        channel, _, path = pair.partition("=")
        if not path:
            raise JobError(f"--upload {pair}: write CHANNEL=PATH, for example training={pair}")
        if channel not in job["channels"]:
            raise JobError(f"--upload {pair}: the job has no channel '{channel}', only {', '.join(job['channels'])}")
        if channel in uploads:
            raise JobError(f"--upload fills '{channel}' twice: put the files into one folder and name that")
        uploads[channel] = Path(path).expanduser()  # a shell leaves the ~ of CHANNEL=~/data as it is
    for channel, path in uploads.items():
        files = files_below(path)
        for file, _ in files:
            require_readable(file)
        if channel == "training":
            check_training(path, files, job["hyperparameters"])
        elif channel == "prompts":
            check_prompts(path, files)
    return uploads
