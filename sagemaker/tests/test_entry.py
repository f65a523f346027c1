"""The rank's script: what of the toolkit's environment and hyperparameters reaches the trainer, and what is refused."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CONTAINER = Path(__file__).parents[1] / "container"


@pytest.fixture
def home(tmp_path):
    """A trainer's folder whose `duologue` prints its options and the environment, and an error."""
    folder = tmp_path / "trainer"
    for part in ("bin", "configs"):
        (folder / part).mkdir(parents=True)
    (folder / "configs/base.json").write_text("{}")
    (folder / "configs/small.json").write_text("{}")
    (folder / "prompts.txt").write_text("default\n")
    program = folder / "bin/duologue"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nenv\necho "[rank 0] error: no disk" >&2\necho "step=1" >&2\n')
    program.chmod(0o755)
    return folder


@pytest.fixture
def channel(tmp_path):
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


def run(home, *arguments, **environment):
    """train.sh in a mount namespace of its own, so that its scratch folder is its own too."""
    assert os.geteuid() == 0, "a mount namespace needs root: run the tests as root"
    assert shutil.which("unshare"), "unshare is not here: apt-get install util-linux"
    script = 'mount -t tmpfs none /mnt && mkdir -p /tmp/duologue && mount --bind /mnt /tmp/duologue && exec "$@"'
    variables = {"PATH": os.environ["PATH"], "DUOLOGUE_HOME": str(home), **environment}
    return subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "-", CONTAINER / "train.sh", *arguments],
        env=variables,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )


def options(home, channel, *arguments, **environment):
    done = run(home, *arguments, SM_CHANNEL_TRAINING=str(channel), **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["--train.epochs", "--train__epochs"])
def test_dots_and_double_underscores_name_the_same_option(home, channel, name):
    assert "--train.epochs=3" in options(home, channel, name, "3")


def test_single_underscores_stay(home, channel):
    assert "--train.micro_batches_per_step=8" in options(home, channel, "--train__micro_batches_per_step", "8")


@pytest.mark.parametrize("given, wanted", [("True", "true"), ("False", "false"), ("6e-05", "6e-05"), ("", "")])
def test_values_arrive_as_json_writes_them(home, channel, given, wanted):
    assert f"--chat.at_end={wanted}" in options(home, channel, "--chat__at_end", given)


def test_the_configuration_is_base_unless_named(home, channel):
    assert f"{home}/configs/base.json" in options(home, channel)
    assert f"{home}/configs/small.json" in options(home, channel, "--config", "small")


def test_shards_in_the_channel_are_used_where_they_are(home, channel):
    assert f"--data.path={channel}" in options(home, channel)


def test_raw_conversations_are_looked_for_where_the_host_made_shards_of_them(home, channel):
    (channel / "manifest.json").unlink()
    assert "--data.path=/tmp/duologue/shards" in options(home, channel)


def test_checkpoints_and_the_stop_file_are_the_containers(home, channel):
    lines = options(home, channel)
    assert "--output.path=/opt/ml/checkpoints" in lines
    assert "--train.stop_file=/tmp/duologue.stop" in lines


def test_prompts_come_from_a_channel_or_from_the_image(home, channel, tmp_path):
    assert f"--chat.prompts={home}/prompts.txt" in options(home, channel)
    (channel / "prompts.txt").write_text("training's\n")
    assert f"--chat.prompts={channel}/prompts.txt" in options(home, channel)
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "prompts.txt").write_text("its own\n")
    assert f"--chat.prompts={prompts}/prompts.txt" in options(home, channel, SM_CHANNEL_PROMPTS=str(prompts))


TOOLKIT_NCCL = {"NCCL_PROTO": "simple", "NCCL_MIN_NRINGS": "4", "FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1"}


def test_what_the_toolkit_sets_for_old_libraries_is_unset(home, channel):
    lines = options(home, channel, **TOOLKIT_NCCL, NCCL_SOCKET_IFNAME="eth0", NCCL_DEBUG="WARN")
    assert not [line for line in lines if line.split("=")[0] in TOOLKIT_NCCL]
    assert {"NCCL_SOCKET_IFNAME=eth0", "NCCL_DEBUG=WARN"} <= set(lines)


def test_it_stays_where_that_is_asked_for(home, channel):
    lines = options(home, channel, **TOOLKIT_NCCL, DUOLOGUE_KEEP_TOOLKIT_NCCL="yes")
    assert {f"{name}={value}" for name, value in TOOLKIT_NCCL.items()} <= set(lines)


def test_options_of_preprocessing_are_not_the_trainers(home, channel):
    lines = options(home, channel, "--preprocess__min_count", "2")
    assert not [line for line in lines if line.startswith("--preprocess")]


def test_an_error_of_the_trainer_gets_a_name_that_the_toolkit_knows(home, channel):
    lines = options(home, channel)
    assert "RuntimeError: [rank 0] no disk" in lines and "step=1" in lines


REFUSED = {
    "hyperparameter epochs: options are named section.key": ["--epochs", "3"],
    "hyperparameter output__path: the container sets output.path itself": ["--output__path", "elsewhere"],
    "hyperparameter config = 'tiny': neither a file nor one of: base.json small.json": ["--config", "tiny"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_hyperparameter_is_refused_by_name(home, channel, message):
    done = run(home, *REFUSED[message], SM_CHANNEL_TRAINING=str(channel))
    assert done.returncode == 2
    assert done.stdout.startswith(f"RuntimeError: {message}")


def test_a_job_without_data_is_refused(home):
    done = run(home)
    assert done.returncode == 2
    assert done.stdout == "RuntimeError: there is no channel named 'training'\n"


def enter(tmp_path, prepare, *program):
    """sm-entrypoint over empty folders of its own: /opt, /usr/local and what the kernel says of drivers."""
    (tmp_path / "code").mkdir(exist_ok=True)
    (tmp_path / "code/train.sh").write_text("placed\n")
    mounts = "for folder in /opt /usr/local /proc/driver; do mount -t tmpfs none $folder; done\n"
    return subprocess.run(
        ["unshare", "--mount", "bash", "-ec", f'{mounts}{prepare}\nexec "$@"', "-", CONTAINER / "sm-entrypoint", *program],
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "DUOLOGUE_HOME": str(tmp_path)},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )


def with_driver(version):
    return f"""
        mkdir -p /usr/local/cuda/compat /proc/driver/nvidia
        touch /usr/local/cuda/compat/libcuda.so.580.82.07
        ln -s libcuda.so.580.82.07 /usr/local/cuda/compat/libcuda.so.1
        echo "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Jul 22" >/proc/driver/nvidia/version
        """


@pytest.mark.parametrize("version, used", [("535.54.03", True), ("580.82.07", False), ("590.10", False)])
def test_only_an_older_driver_gets_the_compatibility_library(tmp_path, version, used):
    lines = enter(tmp_path, with_driver(version), "env").stdout.splitlines()
    assert ("LD_LIBRARY_PATH=/usr/local/cuda/compat" in lines) == used


def test_without_a_gpu_nothing_is_said_of_drivers(tmp_path):
    lines = enter(tmp_path, "", "env").stdout.splitlines()
    assert not [line for line in lines if line.startswith(("LD_LIBRARY_PATH", "sm-entrypoint"))]
    assert "DUOLOGUE_STOP_FILE=/tmp/duologue.stop" in lines


def test_the_first_process_places_the_code_and_ends_as_its_program_does(tmp_path):
    done = enter(tmp_path, "", "sh", "-c", "cat /opt/ml/code/train.sh; exit 7")
    assert (done.returncode, done.stdout) == (7, "placed\n")


def test_a_program_that_is_not_in_the_image_is_named(tmp_path):
    done = enter(tmp_path, "", "serve")
    assert done.returncode == 127 and "no program 'serve'" in done.stderr
