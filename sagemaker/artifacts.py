"""Data on its way to S3, and the model on its way back."""

import tempfile
from pathlib import Path
from urllib.parse import urlparse

from archive import unpack
from job_kinds import JobError
from job_request import folder_uri


def bucket_and_prefix(uri):
    parts = urlparse(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise JobError(f"'{uri}' is not of the form s3://BUCKET/PREFIX")
    return parts.netloc, parts.path.lstrip("/")


def files_below(path):
    """Each file and its name below the channel's folder."""
    path.stat()  # an OSError where there is nothing
    if not path.is_dir():
        return [(path, path.name)]
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise JobError(f"'{path}' is a folder without files")
    return [(file, file.relative_to(path).as_posix()) for file in files]


def objects_below(s3, bucket, prefix):
    """The keys of the files there; a folder that S3's console made is an object too, with a slash at its end."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (entry["Key"] for entry in page.get("Contents", []) if not entry["Key"].endswith("/"))


def refuse_foreign_objects(s3, bucket, prefix, names):
    """A channel is all that lies below its prefix: leftovers of another upload would be trained on too."""
    for key in objects_below(s3, bucket, prefix):
        if key.removeprefix(prefix) not in names:
            raise JobError(
                f"s3://{bucket}/{key} is there already and not part of this upload; "
                "remove it, or give the channel another s3_uri"
            )


def require_objects(s3, channel, channel_uri):
    """A channel that this call does not fill has to be full already."""
    bucket, prefix = bucket_and_prefix(folder_uri(channel_uri))
    if not any(objects_below(s3, bucket, prefix)):
        raise JobError(f"channel {channel}: there is nothing below {channel_uri}; --upload {channel}=PATH fills it")


def upload(s3, path, channel_uri, say):
    """Puts a file, or all of a folder, below the channel's prefix."""
    bucket, prefix = bucket_and_prefix(folder_uri(channel_uri))
    files = files_below(path)
    refuse_foreign_objects(s3, bucket, prefix, {name for _, name in files})
    for number, (file, name) in enumerate(files, 1):
        say(f"uploading {number}/{len(files)} {name} ({file.stat().st_size / 1e6:.1f} MB)")
        s3.upload_file(str(file), bucket, prefix + name)


def require_new(folder):
    if folder.exists() and any(folder.iterdir()):
        raise JobError(f"'{folder}' is not empty: name a new folder for the model")


def download_model(s3, model_uri, folder):
    """Fetches model.tar.gz and unpacks it; the folder is then what `duologue chat` opens. All of it arrives, or nothing."""
    folder = Path(folder)
    require_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    bucket, key = bucket_and_prefix(model_uri)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as name:
        archive, model = Path(name, "model.tar.gz"), Path(name, "model")
        s3.download_file(bucket, key, str(archive))
        unpack(archive, model)
        if not (model / "model.safetensors").is_file():
            raise JobError(f"{model_uri} holds no model.safetensors: the job ended before there was a model to deliver")
        for entry in model.iterdir():
            entry.rename(folder / entry.name)
