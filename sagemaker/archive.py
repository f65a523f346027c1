"""Unpacks a tar.gz that nobody vouches for: only files and folders, and only below the folder it is given."""

import gzip
import shutil
import tarfile
import zlib
from pathlib import PurePosixPath

MOST_TIMES = 100  # that what is packed may be larger than its archive: weights shrink little, a bomb grows a thousandfold
# Beside tarfile's own: what its reading of hostile headers ends with.
BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError, MemoryError, RecursionError)


def refuse_unsafe(member, most):
    """OSError for all but a plain file or folder, for a name that leads elsewhere (on Windows by `:` and `\\` too), and for
    what ends beyond `most` bytes."""
    path = PurePosixPath(member.name)
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        raise OSError(f"{member.name!r} in the archive is neither a file nor a folder; nothing was unpacked")
    if path.is_absolute() or ".." in path.parts or any(letter in member.name for letter in "\0\\:"):
        raise OSError(f"{member.name!r} in the archive leads out of its folder; nothing was unpacked")
    if member.size < 0 or member.offset_data + member.size > most:
        raise OSError(
            f"{member.name!r} in the archive has {member.size} bytes, too many for what was fetched; nothing was unpacked"
        )


def checked_members(tar, most):
    """All of them. Each is looked at before tarfile goes on to the next one, to which a wrong size would lead it astray."""
    members = []
    for member in tar:
        refuse_unsafe(member, most)
        members.append(member)
    return members


def unpack(archive, folder):
    """Unpacks into the new or empty `folder`. Owners, modes and times of the archive are not taken over.

    Written out, because the safe extraction of Python's tarfile is missing in 3.11.2, which Debian 12 has.
    """
    try:
        with gzip.open(archive) as data, tarfile.open(fileobj=data, mode="r:") as tar:
            members = checked_members(tar, MOST_TIMES * archive.stat().st_size)
            while data.read(1 << 20):
                pass  # the checksum over all of it comes last
            for member in members:
                target = folder / member.name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, open(target, "xb") as file:
                    shutil.copyfileobj(source, file)
    except BROKEN as error:
        raise OSError(f"the archive is broken: {str(error) or type(error).__name__}") from error
