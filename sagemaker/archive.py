"""Unpacks a tar.gz that nobody vouches for: only files and folders, and only below the folder it is given."""

import gzip
import shutil
import tarfile
import zlib
from pathlib import PurePosixPath


def refuse_unsafe(member):
    """OSError where the member is no plain file or folder, or its name leads elsewhere (on Windows: `:` and `\\` too)."""
    path = PurePosixPath(member.name)
    if not (member.isreg() or member.isdir()):
        raise OSError(f"'{member.name}' in the archive is neither a file nor a folder; nothing was unpacked")
    if path.is_absolute() or ".." in path.parts or any(letter in member.name for letter in "\0\\:"):
        raise OSError(f"{member.name!r} in the archive leads out of its folder; nothing was unpacked")


def unpack(archive, folder):
    """Unpacks into the new or empty `folder`. Owners, modes and times of the archive are not taken over.

    Written out, because the safe extraction of Python's tarfile is missing in 3.11.2, which Debian 12 has.
    """
    try:
        with gzip.open(archive) as data, tarfile.open(fileobj=data, mode="r:") as tar:
            members = tar.getmembers()
            while data.read(1 << 20):
                pass  # the checksum over all of it comes last
            for member in members:
                refuse_unsafe(member)
            for member in members:
                target = folder / member.name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, open(target, "xb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise OSError(f"the archive is broken: {error}") from error
