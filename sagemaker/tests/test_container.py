"""Whole jobs: the real toolkit starts the real trainer on the CPU, in hosts made of namespaces. No engine, no GPU."""

import io
import json
import re
import shutil
import subprocess
import tarfile
import time

import boto3
import pytest
from moto import mock_aws

import launch
from container import Job, losses
from job_request import metric_definitions

# Both ways of writing names; a model that trains in seconds. 300 steps of the demo's 300 conversations.
TINY = {
    "config": "demo",
    "data.micro_batch_tokens": "512",
    "model__width": "32",
    "model__heads": "2",
    "model__hidden": "64",
    "train__steps": "300",
    "train__warmup_steps": "50",
    "train__micro_batches_per_step": "4",
    "train__log_interval_steps": "10",
    "device__threads": "1",
    "checkpoint__interval_steps": "50",
    "chat__temperature": "0",
}
LAST = "checkpoints/checkpoints/step-000000300.h5"
MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocabulary.json"}


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(image, conversations, tmp_path_factory):
    """One host, two ranks, raw conversations: what the other jobs are compared with."""
    with Job(tmp_path_factory.mktemp("undisturbed"), image, TINY, {"training": conversations}) as job:
        assert job.wait() == [0], job.first.log[-6000:]
    return job.first


@pytest.mark.quick
def test_the_image_is_as_it_has_to_be(image):
    assert "the image is as it has to be" in image.run("sagemaker/image/gates.sh")


BREAK = {
    "mpirun must be Open MPI 4.1, but it is 'mpirun (Open MPI) 5.0.7'": "fake mpirun 'echo mpirun \"(Open MPI)\" 5.0.7'",
    "duologue does not start": "fake duologue 'exit 1'",
    "root's key does not open root's account": "echo >/root/.ssh/authorized_keys",
    "sshd does not accept its configuration": "echo Nonsense yes >>/etc/ssh/sshd_config",
    "the loader does not find libnccl-net (EFA)": "true",
    "there is no /mnt/bin/../lib/libduologue_cuda.so": "fake duologue 'exit 0'",
    "libduologue_cuda.so lacks libraries: libnowhere.so": """
        fake duologue 'exit 0'
        mkdir /mnt/lib
        echo | gcc -shared -x c - -o /mnt/lib/libnowhere.so
        echo | gcc -shared -x c - -o /mnt/lib/libduologue_cuda.so -Wl,--no-as-needed -L/mnt/lib -lnowhere
        rm /mnt/lib/libnowhere.so
        """,
}


@pytest.mark.quick
@pytest.mark.parametrize("message", BREAK)
def test_the_gates_name_what_does_not_hold(image, message):
    said = image.run(f"""
        mount -t tmpfs none /mnt
        mkdir /mnt/bin
        cp -a /root/.ssh /etc/ssh /mnt
        mount --bind /mnt/.ssh /root/.ssh
        mount --bind /mnt/ssh /etc/ssh
        fake() {{ printf '#!/bin/sh\\n%s\\n' "$2" >"/mnt/bin/$1" && chmod +x "/mnt/bin/$1"; }}
        {BREAK[message]}
        PATH=/mnt/bin:$PATH sagemaker/image/gates.sh --efa --cuda 2>&1 && echo passed || true
        """)
    assert f"gates.sh: {message}" in said and "passed" not in said


@pytest.mark.quick
def test_a_job_delivers_model_transcript_and_records(undisturbed):
    assert (undisturbed.ml / "output/success").exists()
    assert names(undisturbed.ml / "model") == MODEL_FILES | {"transcript.txt"}
    assert names(undisturbed.ml / "output/data") == {"config.json", "metrics.jsonl"}
    assert (undisturbed.ml / LAST).exists()
    assert not (undisturbed.ml / "checkpoints/model").exists()
    assert set(losses(undisturbed)) == set(range(1, 301))


@pytest.mark.quick
def test_the_transcript_answers_the_channels_prompts(undisturbed):
    transcript = (undisturbed.ml / "model/transcript.txt").read_text()
    assert re.fullmatch(r"you> hello\nbot> .*\nyou> my name is anna\nbot> .*\n", transcript)
    assert "you> my name is anna" in undisturbed.log


@pytest.mark.quick
def test_raw_conversations_are_preprocessed_once(undisturbed):
    assert undisturbed.log.count("preprocessing: duologue-preprocess") == 1
    assert "2 ranks" in undisturbed.log


@pytest.mark.quick
@pytest.mark.parametrize("tag", ["[1,0]<stdout>:", "[1,mpirank:0,algo-1]<stdout>:"])
def test_metric_definitions_find_the_trainers_own_numbers(undisturbed, tag):
    lines = [line.replace("[1,mpirank:0,algo-1]<stdout>:", tag) for line in undisturbed.log.splitlines()]
    found = {}
    for metric in metric_definitions():
        values = [match[1] for line in lines if (match := re.search(metric["Regex"], line))]
        found[metric["Name"]] = [float(value) for value in values]
    recorded = [json.loads(line) for line in (undisturbed.ml / "output/data/metrics.jsonl").read_text().splitlines()]
    steps = {event["step"]: event for event in recorded if event["event"] == "step"}
    shown = list(range(10, 301, 10))
    assert set(shown) <= set(found["train:step"])
    assert found["train:loss"] == pytest.approx([steps[step]["train_loss"] for step in shown], rel=1e-5)
    assert found["train:learning_rate"] == pytest.approx([steps[step]["learning_rate"] for step in shown], rel=1e-3)
    validated = [event for event in recorded if event["event"] == "validation"]
    assert found["validation:loss"] == pytest.approx([event["val_loss"] for event in validated], rel=1e-5)
    assert found["validation:perplexity"] == pytest.approx([event["perplexity"] for event in validated], abs=0.01)
    assert all(found.values()), found


@pytest.mark.quick
def test_the_model_comes_back_by_the_client_and_talks(undisturbed, conversations, bin_folder, tmp_path, monkeypatch):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        tar.add(undisturbed.ml / "model", arcname=".")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    example = (launch.__file__.removesuffix("sagemaker/launch.py")) + "configs/sagemaker_config.json"
    config = tmp_path / "job.json"
    config.write_text(open(example).read().replace("YOUR-BUCKET", "bucket"))
    with mock_aws():
        s3 = boto3.client("s3", "us-east-1")
        s3.create_bucket(Bucket="bucket")
        uploads = ["--upload", f"training={conversations}", "--upload", f"prompts={conversations / 'prompts.txt'}"]
        assert launch.main(["--config", str(config), "--name", "a", *uploads]) == 0
        s3.put_object(Bucket="bucket", Key="duologue/output/a/output/model.tar.gz", Body=data.getvalue())
        arguments = ["--config", str(config), "--job", "a", "--download", str(tmp_path / "model")]
        assert launch.main(arguments, poll_seconds=0) == 0
    chat = [bin_folder / "duologue", "chat", tmp_path / "model", "--temperature", "0", "--prompt", "hello"]
    said = subprocess.run(chat, check=True, text=True, stdout=subprocess.PIPE).stdout
    assert said in (undisturbed.ml / "model/transcript.txt").read_text()


def failing(image, folder, channels, hyperparameters=None, act=lambda job: None):
    """A job that has to fail: the first 200 characters of the reason that SageMaker would show."""
    with Job(folder, image, {**TINY, **(hyperparameters or {})}, channels) as job:
        act(job)
        assert job.wait() == [1], job.first.log[-6000:]
        assert not (job.first.ml / "output/success").exists()
        return job.first.failure[:200]


@pytest.mark.quick
def test_a_damaged_shard_is_named_in_the_failure_reason(image, shards, tmp_path):
    channel = tmp_path / "damaged"
    channel.mkdir()
    for file in shards.iterdir():
        (channel / file.name).write_bytes(file.read_bytes())
    shard = max(channel.glob("train*.h5"), key=lambda file: file.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-1000])
    reason = failing(image, tmp_path, {"training": channel})
    assert "RuntimeError: " in reason and shard.name in reason


@pytest.mark.quick
def test_a_rank_that_is_killed_is_named_in_the_failure_reason(image, shards, tmp_path):
    def kill_rank_1(job):
        job.wait_for_step(20)
        inside = ["nsenter", "--pid", "--mount", "--target", str(job.first.first_process)]
        ranks = subprocess.run([*inside, "pgrep", "-x", "duologue"], check=True, text=True, stdout=subprocess.PIPE)
        subprocess.run([*inside, "kill", "-KILL", ranks.stdout.split()[-1]], check=True)

    reason = failing(image, tmp_path, {"training": shards}, {"train__steps": "100000"}, kill_rank_1)
    assert re.match(r"RuntimeError: rank \d ended without a word, exit status 137 \(signal 9;", reason), reason


@pytest.mark.quick
def test_a_conversation_that_cannot_be_read_is_named_in_the_failure_reason(image, tmp_path):
    channel = tmp_path / "raw"
    channel.mkdir()
    (channel / "talk.jsonl").write_text('{"turns": ["a", "b"]}\n{"turns": 3}\n')
    reason = failing(image, tmp_path, {"training": channel})
    assert reason.startswith("RuntimeError: preprocessing: ") and "talk.jsonl" in reason


@pytest.mark.quick
def test_files_that_hyperparameters_name_are_no_conversations(image, shards, tmp_path):
    """Preprocessing goes by, with the channel's vocabulary, and the trainer reads the channel's configuration."""
    channel = tmp_path / "raw"
    channel.mkdir()
    (channel / "talk.jsonl").write_text('{"turns": ["a", "b"]}\n' * 100)
    (channel / "mine.json").write_text('{"train": {"epoch": 3}}\n')
    shutil.copy(shards / "vocabulary.json", channel / "words.json")
    inside = "/opt/ml/input/data/training"
    named = {"config": f"{inside}/mine.json", "preprocess__vocabulary": f"{inside}/words.json"}
    reason = failing(image, tmp_path, {"training": channel}, named)
    assert "mine.json" in reason and "train.epoch" in reason, reason


@pytest.mark.quick
def test_a_misspelt_option_is_named_in_the_failure_reason(image, shards, tmp_path):
    reason = failing(image, tmp_path, {"training": shards}, {"train__epoch": "3"})
    assert "there is no option '--train.epoch'" in reason and "train.epochs" in reason


def assert_same_to_rounding(found, expected):
    """Another number of ranks adds in another order; training makes a difference of one bit grow from step to step."""
    assert set(found) == set(expected)
    assert [found[step] for step in range(1, 21)] == pytest.approx([expected[step] for step in range(1, 21)], rel=1e-5)
    assert found == pytest.approx(expected, rel=2e-2)


@pytest.mark.long
def test_two_hosts_train_as_four_ranks(image, conversations, undisturbed, tmp_path):
    with Job(tmp_path, image, TINY, {"training": conversations}, hosts=2) as job:
        assert job.wait() == [0, 0], job.first.log[-6000:]
    first, second = job.hosts
    assert "4 ranks" in first.log
    assert [host.log.count("preprocessing: duologue-preprocess") for host in job.hosts] == [1, 1]
    assert names(first.ml / "model") == MODEL_FILES | {"transcript.txt"}
    assert (first.ml / LAST).exists()
    assert names(second.ml / "model") == set() and names(second.ml / "checkpoints") == set()
    assert_same_to_rounding(losses(first), losses(undisturbed))


@pytest.mark.long
@pytest.mark.parametrize("hosts", [1, 2])
def test_a_stopped_job_saves_and_its_successor_goes_on_with_the_same_losses(
    image, shards, undisturbed, tmp_path, hosts
):
    with Job(tmp_path / "stopped", image, TINY, {"training": shards}, hosts) as job:
        job.wait_for_step(60)
        asked = time.monotonic()
        job.stop()
        assert job.wait(60) == [0] * hosts, job.first.log[-6000:]
        assert time.monotonic() - asked < 60
    stopped_at = max(losses(job.first))
    assert stopped_at < 300
    newest = sorted(names(job.first.ml / "checkpoints/checkpoints"))[-1]
    assert newest == f"step-{stopped_at:09}.h5"
    assert MODEL_FILES <= names(job.first.ml / "model")  # of the last checkpoint

    checkpoints = job.first.ml / "checkpoints"
    with Job(tmp_path / "next", image, TINY, {"training": shards}, hosts, checkpoints) as job:
        assert job.wait() == [0] * hosts, job.first.log[-6000:]
    assert f"step {stopped_at}, epoch" in job.first.log
    if hosts == 1:
        assert losses(job.first) == losses(undisturbed)
    else:
        assert_same_to_rounding(losses(job.first), losses(undisturbed))


@pytest.mark.long
def test_a_job_killed_between_checkpoints_goes_on_from_the_newest_valid_one(image, shards, undisturbed, tmp_path):
    with Job(tmp_path / "killed", image, TINY, {"training": shards}) as job:
        job.wait_for_step(120)
        job.kill()
        assert job.wait(60) != [0]
    checkpoints = job.first.ml / "checkpoints"
    saved = sorted((checkpoints / "checkpoints").glob("step-*.h5"))
    assert max(losses(job.first)) < 300 and len(saved) >= 2
    saved[-1].write_bytes(saved[-1].read_bytes()[:-1000])  # it was being uploaded
    with Job(tmp_path / "next", image, TINY, {"training": shards}, checkpoints=checkpoints) as job:
        assert job.wait() == [0], job.first.log[-6000:]
    assert "passing over a checkpoint" in job.first.log
    assert f"going on from '/opt/ml/checkpoints/checkpoints/{saved[-2].name}'" in job.first.log
    assert losses(job.first) == losses(undisturbed)


@pytest.mark.long
def test_a_job_that_is_trained_to_the_end_goes_straight_to_its_prompts(image, conversations, undisturbed, tmp_path):
    checkpoints = undisturbed.ml / "checkpoints"
    with Job(tmp_path, image, TINY, {"training": conversations}, checkpoints=checkpoints) as job:
        assert job.wait() == [0], job.first.log[-6000:]
    assert not re.search(r"[ :]step=\d+", job.first.log)
    for name in MODEL_FILES | {"transcript.txt"}:
        assert (job.first.ml / "model" / name).read_bytes() == (undisturbed.ml / "model" / name).read_bytes(), name
