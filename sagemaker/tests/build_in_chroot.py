#!/usr/bin/env python3
"""Builds the Dockerfile's toolkit and runtime stages without an engine: their lines run in Debian 12 made by debootstrap.

usage: build_in_chroot.py BIN_FOLDER. Left out is what comes from other places than Debian and PyPI: NVIDIA's libraries and
Amazon's EFA. The build stage cannot run here, because it compiles with NVIDIA's images: the programs in BIN_FOLDER, and the
CUDA module beside them where there is one, take its place. At the end the gates check the image, but for CUDA and EFA.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = re.compile(r"cuda|efa", re.IGNORECASE)
# How this machine reaches Debian and PyPI is not part of the image.
MACHINE = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/apt/apt.conf.d")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def instructions(stage):
    """(keyword, rest) of every line of one stage."""
    text = re.sub(r"^#.*\n", "", (ROOT / "sagemaker/Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    current = None
    for line in filter(str.strip, text.splitlines()):
        keyword, rest = line.split(maxsplit=1)
        if keyword == "FROM":
            current = rest.split()[-1]
        elif current == stage:
            yield keyword, rest


def copy(root, rest, stages):
    words = rest.split()
    source_root = ROOT
    if words[0].startswith("--from="):
        source_root = stages.get(words.pop(0).removeprefix("--from="))
    if source_root is None:
        print(f"left out: COPY {rest}", flush=True)
        return
    *sources, target = words
    for source in sources:
        source = source_root / source.lstrip("/")
        place = root / target.lstrip("/")
        place = place / source.name if target.endswith("/") and source.is_file() else place
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "-T", source, place], check=True)


def run(root, rest, environment):
    command = re.sub(r"(gates\.sh).*", r"\1", rest)
    if LEFT_OUT.search(command):
        print(f"left out: RUN {rest}", flush=True)
        return
    print(f"RUN {command}", flush=True)
    mounts = f"mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev"
    inside = f"exec chroot {root} /bin/sh -c {shlex.quote(command)}"
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    variables = {"PATH": path, "HOME": "/root", "PIP_CERT": "/machine.crt", **environment}
    subprocess.run(["unshare", "--mount", "--pid", "--fork", "bash", "-ec", f"{mounts}; {inside}"], env=variables, check=True)


def build(stage, root, base, stages):
    subprocess.run(["cp", "-a", "-T", base, root], check=True)
    environment = {}
    for keyword, rest in instructions(stage):
        if keyword == "COPY":
            copy(root, rest, stages)
        elif keyword == "RUN":
            run(root, rest, environment)
        elif keyword == "ENV":
            environment.update(pair.split("=", 1) for pair in shlex.split(rest))


def main(bin_folder):
    if os.geteuid() != 0 or not shutil.which("debootstrap", path=os.environ["PATH"] + ":/usr/sbin"):
        sys.exit("build_in_chroot.py: needs root and debootstrap: apt-get install debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        base = folder / "debian"
        # In mounts of its own, so that none is left in the folder that is removed at the end.
        debootstrap = ["unshare", "--mount", "debootstrap", "--variant=minbase", "bookworm", base]
        subprocess.run(debootstrap, check=True, stdout=subprocess.DEVNULL)
        for path in filter(os.path.exists, MACHINE):
            (base / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-aL", "-T", path, f"{base}{path}"], check=True)
        if os.path.exists(CERTIFICATES):
            shutil.copy(CERTIFICATES, base / "machine.crt")
        stages = {"build": folder / "build", "toolkit": folder / "toolkit"}
        install = [ROOT / "sagemaker/image/install_trainer.sh", bin_folder, stages["build"] / "opt/trainer"]
        subprocess.run(install, check=True)
        build("toolkit", stages["toolkit"], base, stages)
        build("runtime", folder / "runtime", base, stages)
    print("toolkit and runtime are built, and pass the gates; not tried: the build stage, CUDA, EFA")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: build_in_chroot.py BIN_FOLDER")
    main(Path(sys.argv[1]).resolve())
