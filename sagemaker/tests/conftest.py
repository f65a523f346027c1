"""What the tests share: the programs under test, small conversations, and the marks `quick` and `long`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sagemaker"))


@pytest.fixture(scope="session")
def bin_folder():
    folder = Path(os.environ.get("DUOLOGUE_BIN", ROOT / "build/bin")).resolve()
    for program in ("duologue", "duologue-preprocess"):
        assert (folder / program).is_file(), f"{folder}/{program} is not built: launch/build.sh, or set DUOLOGUE_BIN"
    return folder


@pytest.fixture(scope="session")
def conversations(bin_folder, tmp_path_factory):
    """A channel of raw conversations, with prompts beside them."""
    folder = tmp_path_factory.mktemp("conversations")
    demo = ["demo", "--output", folder / "demo.jsonl", "--conversations", "300", "--seed", "1"]
    subprocess.run([bin_folder / "duologue-preprocess", *demo], check=True)
    (folder / "prompts.txt").write_text("hello\nmy name is anna\n")
    return folder


@pytest.fixture(scope="session")
def shards(bin_folder, conversations, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "shards"
    subprocess.run(
        [bin_folder / "duologue-preprocess", conversations / "demo.jsonl", "--output", folder], check=True
    )
    return folder


@pytest.fixture(scope="session")
def image(bin_folder, tmp_path_factory):
    from container import Image, require_what_containers_need

    require_what_containers_need()
    return Image(tmp_path_factory.mktemp("image"), bin_folder)
