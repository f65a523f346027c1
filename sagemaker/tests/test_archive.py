"""Archives as the platform makes them are unpacked; hostile and broken ones leave nothing behind."""

import io
import os
import stat
import tarfile

import pytest

from archive import unpack


def file_of(name, content=b"x", mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    return entry, content


def special(name, kind=tarfile.REGTYPE, target="", size=0, holes=()):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, size
    entry.pax_headers = {f"GNU.sparse.{key}": value for key, value in dict(holes).items()}
    return entry, b""


def make_archive(path, entries, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w:gz", format=form) as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content) if content else None)
    return path


def everything_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_files_and_folders_are_unpacked_as_they_were_packed(tmp_path):
    source = tmp_path / "source"
    (source / "more/empty").mkdir(parents=True)
    (source / "model.safetensors").write_bytes(os.urandom(300_000))
    (source / "more/vocabulary.json").write_text("{}")
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, arcname=".")
    unpack(archive, tmp_path / "model")
    assert everything_below(tmp_path / "model") == everything_below(source)
    for name in ("model.safetensors", "more/vocabulary.json"):
        assert (tmp_path / "model" / name).read_bytes() == (source / name).read_bytes()


def test_the_archive_gives_no_rights_away(tmp_path):
    unpack(make_archive(tmp_path / "a.tar.gz", [file_of("run", mode=0o4777)]), tmp_path / "model")
    assert not stat.S_IMODE((tmp_path / "model/run").stat().st_mode) & (stat.S_ISUID | stat.S_IXUSR | stat.S_IWOTH)


HOSTILE = {
    "an absolute name": [file_of("/tmp/duologue-outside")],
    "a name that climbs": [file_of("../outside")],
    "a name that climbs from within": [file_of("more/../../outside")],
    "a folder that climbs": [special("../outside", tarfile.DIRTYPE)],
    "a link to a folder outside and a file through it": [
        special("link", tarfile.SYMTYPE, ".."),
        file_of("link/outside"),
    ],
    "a link to a file outside": [special("link", tarfile.SYMTYPE, "/etc/passwd")],
    "a link to a place within": [special("link", tarfile.SYMTYPE, "model.safetensors")],
    "a hard link": [special("link", tarfile.LNKTYPE, "../secret")],
    "a device": [special("device", tarfile.CHRTYPE)],
    "a pipe": [special("pipe", tarfile.FIFOTYPE)],
    "a drive of Windows": [file_of("C:\\outside")],
    "a name with a zero": [file_of("a" * 200 + "\0b")],
    "a file with holes": [special("holes", tarfile.GNUTYPE_SPARSE)],
    "a file with holes by its headers": [special("holes", holes={"map": "0,1", "size": "1000000000000"})],
    "a kind that only reads like a file": [special("file", tarfile.CONTTYPE)],
    "a kind that nobody knows": [special("file", b"Q")],
    "zeros without end": [file_of("zeros", bytes(20_000_000))],
    "zeros without end, piece by piece": [file_of(f"zeros-{i}", bytes(1_000_000)) for i in range(20)],
    "a size that nothing has": [special("file", size=1 << 60)],
    "a size below zero": [special("file", size=-1024)],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_before_anything_is_unpacked(tmp_path, what):
    (tmp_path / "secret").write_text("secret")
    archive = make_archive(tmp_path / "a.tar.gz", [file_of("model.safetensors"), *HOSTILE[what]])
    with pytest.raises(OSError, match="in the archive .* nothing was unpacked"):
        unpack(archive, tmp_path / "model")
    assert everything_below(tmp_path) == ["a.tar.gz", "secret"]


@pytest.mark.parametrize("again", [file_of("a", b"y"), file_of("a/b"), special("a", tarfile.DIRTYPE)])
def test_a_name_that_stands_twice_is_an_error(tmp_path, again):
    with pytest.raises(OSError, match="'.*/a'"):
        unpack(make_archive(tmp_path / "a.tar.gz", [file_of("a"), again]), tmp_path / "model")
    assert (tmp_path / "model/a").read_bytes() == b"x"


MALFORMED = {
    "a map of holes without numbers": [special("holes", holes={"map": "a,b"})],
    "a size of holes without number": [special("holes", holes={"major": "1", "minor": "0", "realsize": "a"})],
    "a name longer than memory": [special("name", tarfile.GNUTYPE_LONGNAME, size=1 << 62)],
    "a name longer than any number": [special("name", tarfile.GNUTYPE_LONGNAME, size=1 << 70)],
    "headers before headers": [special("header", tarfile.XHDTYPE)] * 2000,
}


@pytest.mark.parametrize("what", MALFORMED)
def test_an_archive_with_malformed_headers_is_broken(tmp_path, what):
    archive = make_archive(tmp_path / "a.tar.gz", MALFORMED[what], tarfile.GNU_FORMAT if "name" in what else tarfile.PAX_FORMAT)
    with pytest.raises(OSError, match="the archive is broken: .") as error:
        unpack(archive, tmp_path / "model")
    assert "\n" not in str(error.value) and everything_below(tmp_path) == ["a.tar.gz"]


def cut(data):
    return data[: len(data) // 2]


def spoil(data):
    return data[:5000] + bytes(100) + data[5100:]


@pytest.mark.parametrize("damage", [cut, spoil, lambda _: b"", lambda _: b"<html>not found</html>"])
def test_a_broken_archive_is_an_error_in_one_line(tmp_path, damage):
    archive = make_archive(tmp_path / "a.tar.gz", [file_of("model.safetensors", os.urandom(100_000))])
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(OSError, match="the archive is broken: .") as error:
        unpack(archive, tmp_path / "model")
    assert "\n" not in str(error.value)
