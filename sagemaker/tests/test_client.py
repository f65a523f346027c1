"""The client against moto's AWS: upload, start, follow, stop, download."""

import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

import job_watch
import launch

EXAMPLE = Path(__file__).parents[2] / "configs/sagemaker_config.json"
REGION = "us-east-1"
BUCKET = "YOUR-BUCKET".lower()
RECORD = '{"turns": ["hi", "hello"]}\n'
STEP_LINE = "[1,mpirank:0,algo-1]<stdout>:[rank 0] step=10 epoch=1 train_loss=5.25 learning_rate=0.001 eta=0:01:00"


@pytest.fixture
def aws(monkeypatch):
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        boto3.client("s3", REGION).create_bucket(Bucket=BUCKET)
        put_object("duologue/prompts/prompts.txt", b"hello")
        yield


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "job.json"
    file.write_text(EXAMPLE.read_text().replace("YOUR-BUCKET", BUCKET))
    return str(file)


def put_object(key, body=b""):
    boto3.client("s3", REGION).put_object(Bucket=BUCKET, Key=key, Body=body)


def start_first(config, *more):
    put_object("duologue/conversations/a.jsonl", RECORD.encode())
    return launch.main(["--config", config, "--name", "first", *more])


def write_log(job_name, lines):
    logs = boto3.client("logs", REGION)
    where = {"logGroupName": job_watch.LOG_GROUP, "logStreamName": f"{job_name}/algo-1-1700000000"}
    logs.create_log_group(logGroupName=where["logGroupName"])
    logs.create_log_stream(**where)
    now = int(time.time() * 1000) - 1000
    logs.put_log_events(**where, logEvents=[{"timestamp": now + i, "message": line} for i, line in enumerate(lines)])


def put_model(job_name, files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    job = boto3.client("sagemaker", REGION).describe_training_job(TrainingJobName=job_name)
    bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
    boto3.client("s3", REGION).put_object(Bucket=bucket, Key=key, Body=data.getvalue())


def test_a_job_is_created_described_and_listed(aws, config):
    assert start_first(config) == 0
    sagemaker = boto3.client("sagemaker", REGION)
    described = sagemaker.describe_training_job(TrainingJobName="first")
    assert described["ResourceConfig"]["InstanceType"] == "ml.g5.12xlarge"
    assert described["HyperParameters"]["train__epochs"] == "20"
    assert [job["TrainingJobName"] for job in sagemaker.list_training_jobs()["TrainingJobSummaries"]] == ["first"]


def test_an_upload_fills_the_channel_before_the_job_starts(aws, config, tmp_path):
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    (folder / "a.jsonl").write_text(RECORD)
    (folder / "more/b.jsonl").write_text(RECORD)
    assert launch.main(["--config", config, "--upload", f"training={folder}"]) == 0
    objects = boto3.client("s3", REGION).list_objects_v2(Bucket=BUCKET, Prefix="duologue/conversations")["Contents"]
    assert [entry["Key"] for entry in objects] == [
        "duologue/conversations/a.jsonl",
        "duologue/conversations/more/b.jsonl",
    ]


def test_leftovers_in_a_channel_stop_the_upload(aws, config, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text(RECORD)
    put_object("duologue/conversations/old.jsonl")
    assert launch.main(["--config", config, "--upload", f"training={tmp_path / 'a.jsonl'}"]) == 2
    assert "old.jsonl is there already" in capsys.readouterr().err
    assert boto3.client("sagemaker", REGION).list_training_jobs()["TrainingJobSummaries"] == []


def test_a_channel_that_nobody_has_filled_stops_the_start(aws, config, capsys):
    assert launch.main(["--config", config]) == 2
    assert f"nothing below s3://{BUCKET}/duologue/conversations; --upload training=PATH fills it" in capsys.readouterr().err
    assert boto3.client("sagemaker", REGION).list_training_jobs()["TrainingJobSummaries"] == []


@pytest.mark.parametrize("folder", ["", "more/"])
def test_an_empty_folder_of_the_console_is_no_content_of_a_channel(aws, config, tmp_path, capsys, folder):
    put_object(f"duologue/conversations/{folder}")
    assert launch.main(["--config", config]) == 2
    assert "nothing below" in capsys.readouterr().err
    (tmp_path / "a.jsonl").write_text(RECORD)
    assert launch.main(["--config", config, "--upload", f"training={tmp_path / 'a.jsonl'}"]) == 0


def test_waiting_shows_every_line_once_and_how_the_job_ended(aws, config, capsys):
    assert start_first(config) == 0
    write_log("first", ["one", STEP_LINE, "three"])
    assert launch.main(["--config", config, "--job", "first", "--wait"], poll_seconds=0) == 0
    out = capsys.readouterr().out
    assert [out.count(line) for line in ("one\n", "train_loss=5.25", "three\n")] == [1, 1, 1]
    assert "first: Completed" in out and "model: s3://" in out


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_the_step_as_a_progress_line(aws, config):
    assert start_first(config) == 0
    write_log("first", ["one", STEP_LINE])
    out = Terminal()
    job_watch.watch(boto3.client("sagemaker", REGION), boto3.client("logs", REGION), "first", 0, out)
    assert "step 10  loss 5.25  ETA 0:01:00" in out.getvalue()
    assert "train_loss=" not in out.getvalue()


def test_a_failed_job_ends_the_client_with_1_and_its_reason(aws, config, capsys, monkeypatch):
    failed = {
        "TrainingJobName": "first",
        "TrainingJobStatus": "Failed",
        "FailureReason": "AlgorithmError: RuntimeError: no data",
    }
    monkeypatch.setattr(launch, "watch", lambda *_: failed)
    assert launch.main(["--config", config, "--job", "first", "--wait"]) == 1
    assert "RuntimeError: no data" in capsys.readouterr().out


def test_stopping_asks_the_service_to_stop_that_job(config, monkeypatch):
    client = boto3.client("sagemaker", REGION, aws_access_key_id="test", aws_secret_access_key="test")
    monkeypatch.setattr(launch.boto3, "client", lambda *_: client)
    with Stubber(client) as stub:
        stub.add_response("stop_training_job", {}, {"TrainingJobName": "first"})
        assert launch.main(["--config", config, "--job", "first", "--stop"]) == 0
        stub.assert_no_pending_responses()


def test_a_download_unpacks_the_model(aws, config, tmp_path):
    assert start_first(config) == 0
    put_model("first", {"model.safetensors": b"weights", "transcript.txt": b"you> hello"})
    arguments = ["--config", config, "--job", "first", "--download", str(tmp_path / "model")]
    assert launch.main(arguments, poll_seconds=0) == 0
    assert (tmp_path / "model/model.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "model/transcript.txt").exists()


def test_a_folder_that_is_not_empty_is_refused_before_the_job_starts(aws, config, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/old").touch()
    assert launch.main(["--config", config, "--wait", "--download", str(tmp_path / "model")]) == 2
    assert "is not empty: name a new folder" in capsys.readouterr().err
    assert boto3.client("sagemaker", REGION).list_training_jobs()["TrainingJobSummaries"] == []


def test_a_job_that_was_stopped_before_it_had_a_model_has_none_to_download(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launch, "watch", lambda *_: {"TrainingJobName": "first", "TrainingJobStatus": "Stopped"})
    arguments = ["--config", config, "--job", "first", "--download", str(tmp_path / "model")]
    assert launch.main(arguments) == 1
    assert "first has no model" in capsys.readouterr().err


def test_an_interrupted_client_says_whether_there_is_a_job(aws, config, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "watch", interrupt)
    assert start_first(config, "--wait") == 130
    assert "--job first --stop" in capsys.readouterr().err
    monkeypatch.setattr(launch, "validate", interrupt)
    assert launch.main(["--config", config, "--name", "second"]) == 130
    assert "before a job was started" in capsys.readouterr().err


def test_a_client_interrupted_while_it_starts_a_job_names_the_job(config, capsys, monkeypatch):
    class Service:
        def create_training_job(self, **_):
            raise KeyboardInterrupt

    monkeypatch.setattr(launch.boto3, "client", lambda *_: Service())
    monkeypatch.setattr(launch, "fill_channels", lambda *_: None)
    assert launch.main(["--config", config, "--name", "second", "--wait"]) == 130
    assert "second may have been started: look with --job second --wait, or --job second --stop" in capsys.readouterr().err


def test_without_boto3_the_client_says_what_to_install():
    client = str(Path(launch.__file__))
    done = subprocess.run([sys.executable, "-S", client, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("launch.py: No module named 'boto3': `pip install boto3`")


def test_a_broken_download_leaves_nothing_behind_and_can_be_repeated(aws, config, tmp_path, capsys):
    assert start_first(config) == 0
    arguments = ["--config", config, "--job", "first", "--download", str(tmp_path / "model")]
    put_model("first", {"model.safetensors": b"weights", "../outside": b"x"})
    assert launch.main(arguments, poll_seconds=0) == 4
    assert "launch.py: '../outside' in the archive leads out of its folder" in capsys.readouterr().err
    assert not (tmp_path / "outside").exists() and not any((tmp_path / "model").iterdir())
    put_model("first", {"model.safetensors": b"weights"})
    assert launch.main(arguments, poll_seconds=0) == 0
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["model.safetensors"]


def test_a_job_that_is_not_there_ends_the_client_with_4(aws, config, capsys):
    assert launch.main(["--config", config, "--job", "nobody", "--wait"]) == 4
    assert "launch.py: AWS:" in capsys.readouterr().err


def test_the_request_is_what_the_service_receives(config, monkeypatch):
    client = boto3.client("sagemaker", REGION, aws_access_key_id="test", aws_secret_access_key="test")
    monkeypatch.setattr(launch.boto3, "client", lambda *_: client)
    monkeypatch.setattr(launch, "fill_channels", lambda *_: None)
    golden = json.loads((Path(__file__).parent / "golden_request.json").read_text().replace("YOUR-BUCKET", BUCKET))
    with Stubber(client) as stub:
        arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/a"
        stub.add_response("create_training_job", {"TrainingJobArn": arn}, golden)
        assert launch.main(["--config", config, "--name", "duologue-base-1"]) == 0
        stub.assert_no_pending_responses()
