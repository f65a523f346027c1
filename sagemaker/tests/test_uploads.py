"""What is to be uploaded is looked at first: data that the job could not use are refused before anything is paid for."""

import gzip
import shutil

import pytest

import launch
from job_kinds import JobError
from job_request import DESCRIPTION, read_job
from upload_check import checked_uploads

RECORD = b'{"turns": ["hi", "hello"]}\n'


def check(*pairs, hyperparameters=()):
    return checked_uploads(read_job(DESCRIPTION, hyperparameters), pairs)


def file_with(folder, name, content):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


CONVERSATIONS = {
    "lines of JSON": RECORD,
    "messages": b'{"messages": [{"role": "user", "content": "hi"}]}\n',
    "Topical-Chat": b'{"id": {"content": [{"message": "hi"}]}}',
    "paragraphs": b"hi\nhello\n\n[laughs]\nyes\n",
    "turns in a line": b"hi __eou__ hello __eou__\n",
    "a letter cut off at 64 KiB": b"a" * (64 * 1024 - 1) + "\u00e9\n".encode(),
    "with a byte order mark": b"\xef\xbb\xbf" + RECORD,
    "gzip": gzip.compress(RECORD),
    "Zstandard": bytes.fromhex("28b52ffd") + bytes(20),
}


@pytest.mark.parametrize("what", CONVERSATIONS)
def test_conversations_in_every_format_are_taken(tmp_path, what):
    file = file_with(tmp_path, "data", CONVERSATIONS[what])
    assert check(f"training={file}") == {"training": file}


NO_CONVERSATIONS = {
    "is empty": b"",
    "nothing but white space": b" \n\n",
    "is not text in UTF-8: byte 1": b"a\xe9b\n",
    "is not a text file": b"GIF\0",
    "is one JSON array": b'[\n {"turns": ["hi"]}]',
    "no conversation: it has no list \"turns\"": b'{"text": "hi"}\n',
    "is a broken gzip file": gzip.compress(RECORD)[:20],
    "is a shard without its manifest": b"\x89HDF\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("message", NO_CONVERSATIONS)
def test_files_that_are_no_conversations_are_refused(tmp_path, message):
    file_with(tmp_path, "data/a.jsonl", RECORD)
    file = file_with(tmp_path, "data/b.jsonl", NO_CONVERSATIONS[message])
    with pytest.raises(JobError) as refusal:
        check(f"training={tmp_path / 'data'}")
    assert f"'{file}' " in str(refusal.value) and message in str(refusal.value)


def test_a_job_that_skips_malformed_records_or_names_their_format_is_believed(tmp_path):
    latin = file_with(tmp_path, "a", b"a\xe9b\n")
    brace = file_with(tmp_path, "b", b"{laughs}\nyes\n")
    check(f"training={latin}", hyperparameters={"preprocess.on_error": "skip"})
    check(f"training={brace}", hyperparameters={"preprocess.format": "text"})


def test_shards_of_the_built_program_are_taken(shards):
    assert check(f"training={shards}") == {"training": shards}


def test_shards_that_are_not_whole_are_refused(shards, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    shard = folder / "train-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(JobError, match="train-00000.h5' has .* bytes, but manifest.json says"):
        check(f"training={folder}")
    shard.unlink()
    with pytest.raises(JobError, match="lacks train-00000.h5"):
        check(f"training={folder}")
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(JobError, match="is no manifest of duologue-preprocess"):
        check(f"training={folder}")
    with pytest.raises(JobError, match="begins with a JSON object that is no conversation"):
        check(f"training={shards / 'manifest.json'}")


def test_prompts_have_to_have_the_name_that_the_job_looks_for(tmp_path):
    check(f"prompts={file_with(tmp_path, 'prompts.txt', b'hello')}")
    with pytest.raises(JobError, match="has no prompts.txt; .* rename the file"):
        check(f"prompts={file_with(tmp_path, 'mine.txt', b'hello')}")
    with pytest.raises(JobError, match="is empty"):
        check(f"prompts={file_with(tmp_path, 'none/prompts.txt', b'')}")
    with pytest.raises(JobError, match="holds no conversations"):
        check(f"training={tmp_path / 'none'}")


def test_files_that_hyperparameters_name_may_lie_beside_the_conversations(tmp_path):
    channel = "/opt/ml/input/data/training"
    named = {"config": f"{channel}/mine.json", "preprocess.vocabulary": f"{channel}/more/words.json"}
    file_with(tmp_path, "mine.json", b'{"train": {"epochs": 1}}\n')
    file_with(tmp_path, "more/words.json", b'{"words": {}}\n')
    with pytest.raises(JobError, match="holds no conversations to train on"):
        check(f"training={tmp_path}", hyperparameters=named)
    file_with(tmp_path, "more/mine.json", RECORD)
    check(f"training={tmp_path}", hyperparameters=named)
    with pytest.raises(JobError, match="'.*/mine.json' begins with a JSON object that is no conversation"):
        check(f"training={tmp_path}")


@pytest.mark.parametrize(
    "pairs, message",
    [
        (["trainin=a"], "the job has no channel 'trainin', only training, prompts"),
        (["training"], "write CHANNEL=PATH"),
        (["training=a", "training=b"], "fills 'training' twice"),
    ],
)
def test_an_upload_names_each_channel_once(pairs, message):
    with pytest.raises(JobError, match=message):
        check(*pairs)


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = file_with(tmp_path, "a.jsonl", RECORD)
    assert check("training=~/a.jsonl") == {"training": file}


def dry_run(upload):
    return launch.main(["--config", str(DESCRIPTION), "--dry-run", "--upload", upload])


def test_a_dry_run_looks_at_the_uploads_too(tmp_path, capsys):
    assert dry_run(f"training={file_with(tmp_path, 'a.jsonl', RECORD)}") == 0
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert dry_run(f"training={tmp_path / 'empty'}") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == f"launch.py: '{tmp_path}/empty' is a folder without files\n"


def test_what_cannot_be_read_ends_the_client_with_4(tmp_path, capsys):
    assert dry_run(f"training={tmp_path / 'none'}") == 4
    assert capsys.readouterr().err == f"launch.py: '{tmp_path}/none': No such file or directory\n"
    assert dry_run("training=/proc/self/mem") == 4
    assert capsys.readouterr().err == "launch.py: '/proc/self/mem': Input/output error\n"
