#!/usr/bin/env python3
"""Trains on SageMaker: uploads data, starts the job that a configuration file describes, follows it, fetches the model."""

import argparse
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

try:
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError as missing:
    print(f"launch.py: {missing}: `pip install boto3` in an environment of its own (sagemaker/README.md)", file=sys.stderr)
    sys.exit(4)

from artifacts import download_model, require_new, require_objects, upload
from job_kinds import JobError, nearest
from job_request import DESCRIPTION, build_request, read_job
from job_watch import summary, watch
from service_model import validate
from upload_check import checked_uploads

EPILOG = """
--section.key=VALUE goes to the trainer, after the file's hyperparameters: --train.epochs=3 (`duologue train --help` lists
them). Which of configs/ the trainer begins with is said in the job's file, as hyperparameters.config.
Exit status: 0, also where the job was stopped; 1 where it failed, or was stopped without a model that --download could fetch;
2 where the description, an option or the data are wrong; 4 where AWS refused, files could not be read or written, or boto3 is
missing; 130 after Ctrl-C, which does not stop the job.
"""


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", default=str(DESCRIPTION), metavar="FILE", help="describes the job (%(default)s)")
    parser.add_argument("--name", help="the job's name; default: job_name of the file, and the time")
    parser.add_argument("--upload", action="append", default=[], metavar="CHANNEL=PATH", help="to the channel's s3_uri")
    parser.add_argument("--dry-run", action="store_true", help="print the request, checked, and start nothing")
    parser.add_argument("--wait", action="store_true", help="follow the job to its end: log lines and progress")
    parser.add_argument("--job", metavar="NAME", help="a job that was started before; with --wait, --stop, --download")
    parser.add_argument("--stop", action="store_true", help="let the job save and end")
    parser.add_argument("--download", metavar="DIR", help="fetch the model of a job that has ended; waits for that")
    options, rest = parser.parse_known_args(arguments)
    options.hyperparameters = list(hyperparameters(parser, rest))
    if options.stop and not options.job:
        parser.error("--stop needs --job NAME")
    if options.job and (options.upload or options.dry_run or rest):
        parser.error("--job NAME is a job that is there already: it takes no data and no options any more")
    if options.job and not (options.wait or options.stop or options.download):
        parser.error("--job NAME says of which job, but not what: add --wait, --stop or --download DIR")
    return options


def hyperparameters(parser, rest):
    """`--section.key=VALUE` or `--section.key VALUE`, as the trainer takes them."""
    rest = list(rest)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--") or "." not in name:
            near = nearest(name, ["--config", "--name", "--upload", "--dry-run", "--wait", "--job", "--stop", "--download"])
            parser.error(f"'{name}' is neither an option of this program nor --section.key=VALUE{near}")
        if not equals and (not rest or rest[0].startswith("--")):
            parser.error(f"{name} needs a value: {name}=VALUE")
        yield name.removeprefix("--"), value if equals else rest.pop(0)


def unique_name(prefix):
    now = datetime.now(timezone.utc)
    return f"{prefix}-{now:%Y-%m-%d-%H-%M-%S}-{now.microsecond // 1000:03}"


def require_filled_in(job):
    for key, value in job.items():
        if "YOUR-" in json.dumps(value):
            raise JobError(f"{key} still has a YOUR-... of the example: {json.dumps(value)}")


def fill_channels(s3, channels, uploads):
    for name in channels.keys() - uploads.keys():
        require_objects(s3, name, channels[name]["s3_uri"])
    for name, path in uploads.items():
        upload(s3, path, channels[name]["s3_uri"], print)


def prepare(options, job):
    """Fills the job's channels; gives the request that starts it, or none where it was only to be shown."""
    request = build_request(job, options.name or unique_name(job["job_name"]))
    validate("CreateTrainingJob", request)
    uploads = checked_uploads(job, options.upload)
    if options.dry_run:
        print(json.dumps(request, indent=2))
        return None
    require_filled_in(job)
    fill_channels(boto3.client("s3", job["region"]), job["channels"], uploads)
    return request


def follow(options, job, name, poll_seconds):
    """Waits where that is asked for; gives the exit status."""
    sagemaker = boto3.client("sagemaker", job["region"])
    if options.stop:
        sagemaker.stop_training_job(TrainingJobName=name)
        print(f"{name} was asked to stop; it saves a checkpoint and ends")
    if not (options.wait or options.download):
        return 0
    ended = watch(sagemaker, boto3.client("logs", job["region"]), name, poll_seconds)
    print(summary(ended))
    if ended["TrainingJobStatus"] == "Failed":
        return 1
    if options.download:
        if not ended.get("ModelArtifacts"):
            print(f"launch.py: {name} has no model: it ended before there was one", file=sys.stderr)
            return 1
        download_model(boto3.client("s3", job["region"]), ended["ModelArtifacts"]["S3ModelArtifacts"], options.download)
        print(f"talk with it: duologue chat {options.download}")
    return 0


def interrupted(name, started):
    if started:
        return f"no longer following; the job goes on (--job {name} --wait, --job {name} --stop)"
    if name:
        return f"interrupted; {name} may have been started: look with --job {name} --wait, or --job {name} --stop"
    return "interrupted before a job was started"


def main(arguments, poll_seconds=10):
    options = parse(arguments)
    name, started = options.job, bool(options.job)
    try:
        if options.download:
            require_new(Path(options.download))  # rather now than when the job has ended
        job = read_job(options.config, options.hyperparameters)
        if not started:
            request = prepare(options, job)
            if request is None:
                return 0
            name = request["TrainingJobName"]  # before the call: an interrupted one may have started the job
            boto3.client("sagemaker", job["region"]).create_training_job(**request)
            started = True
            print(f"started {name}")
        return follow(options, job, name, poll_seconds)
    except JobError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    except (Boto3Error, BotoCoreError, ClientError) as error:
        print(f"launch.py: AWS: {error}", file=sys.stderr)
        return 4
    except OSError as error:
        where = f"'{error.filename}': {error.strerror}" if error.filename else error
        print(f"launch.py: {where}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        print(f"\nlaunch.py: {interrupted(name, started)}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
