"""Follows a training job: its log lines, a progress line on a terminal, and how it ended."""

import re
import sys
import time

from botocore.exceptions import ClientError

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ENDED = ("Completed", "Failed", "Stopped")
STEP = re.compile(r"[ :]step=(\d+) .*train_loss=(\S+)")
ETA = re.compile(r" eta=(\S+)")


class Logs:
    """The lines of all hosts of a job, each once."""

    def __init__(self, client, job_name):
        self.client = client
        self.prefix = f"{job_name}/"
        self.tokens = {}

    def streams(self):
        pages = self.client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=self.prefix
        )
        try:
            return sorted(stream["logStreamName"] for page in pages for stream in page["logStreams"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return []  # no job of this account has written a line yet
            raise

    def new_lines(self):
        for stream in self.streams():
            yield from self.new_lines_of(stream)

    def new_lines_of(self, stream):
        while True:
            where = {"logGroupName": LOG_GROUP, "logStreamName": stream, "startFromHead": True}
            if stream in self.tokens:
                where["nextToken"] = self.tokens[stream]
            answer = self.client.get_log_events(**where)
            yield from (event["message"] for event in answer["events"])
            if answer["nextForwardToken"] == self.tokens.get(stream) or not answer["events"]:
                self.tokens[stream] = answer["nextForwardToken"]
                return
            self.tokens[stream] = answer["nextForwardToken"]


def duration(seconds):
    seconds = int(seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class Screen:
    """Log lines above, one progress line below them; where there is no terminal, only the log lines."""

    def __init__(self, out):
        self.out = out
        self.in_place = out.isatty()
        self.progress = ""

    def line(self, text):
        step = STEP.search(text)
        if step:
            eta = ETA.search(text)
            self.progress = f"step {step[1]}  loss {step[2]}" + (f"  ETA {eta[1]}" if eta else "")
        if not (step and self.in_place):
            self.out.write(("\r\033[K" if self.in_place else "") + text.rstrip("\n") + "\n")

    def status(self, status, seconds):
        if self.in_place:
            self.out.write(f"\r\033[K{status}  {duration(seconds)}  {self.progress}")
        self.out.flush()

    def end(self):
        if self.in_place:
            self.out.write("\r\033[K")


def watch(sagemaker, logs, job_name, poll_seconds=10, out=None):
    """Follows the job to its end; gives the description of the job that has ended."""
    screen = Screen(out or sys.stdout)
    lines = Logs(logs, job_name)
    shown = None
    begin = time.monotonic()
    while True:
        job = sagemaker.describe_training_job(TrainingJobName=job_name)
        status = job["TrainingJobStatus"]
        state = f"{status} ({job.get('SecondaryStatus', status)})"
        if state != shown:
            screen.line(f"{job_name}: {state}")
        shown = state
        for text in lines.new_lines():  # after the status: what it wrote before its end is then all there
            screen.line(text)
        screen.status(state, time.monotonic() - begin)
        if status in ENDED:
            screen.end()
            return job
        time.sleep(poll_seconds)


def summary(job):
    """What a person wants to know of a job that has ended."""
    lines = [f"{job['TrainingJobName']}: {job['TrainingJobStatus']}"]
    if job.get("FailureReason"):
        lines.append(job["FailureReason"])
    if job.get("TrainingTimeInSeconds"):
        billed = job.get("BillableTimeInSeconds", job["TrainingTimeInSeconds"])
        lines.append(f"trained for {duration(job['TrainingTimeInSeconds'])}, billed for {duration(billed)}")
    if job.get("ModelArtifacts"):
        lines.append(f"model: {job['ModelArtifacts']['S3ModelArtifacts']}")
    return "\n".join(lines)
