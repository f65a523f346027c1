"""Containers for tests, without an engine: the image's scripts lay out an image, namespaces make hosts of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST_SCRIPT = Path(__file__).with_name("host.sh")
NEEDS = {
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "mpirun": "openmpi-bin",
    "readelf": "binutils",
}
os.environ["PATH"] += ":/usr/sbin:/sbin"


def require_what_containers_need():
    """A test that cannot run fails, and says what to install."""
    assert os.geteuid() == 0, "containers are made of namespaces, which need root: run the tests as root"
    for program, package in NEEDS.items():
        assert shutil.which(program), f"{program} is not here: apt-get install {package} (launch/install_deps.sh)"


def image_environment():
    """The ENV of the Dockerfile, with this Python's virtual environment where the image has its own."""
    text = (ROOT / "sagemaker/Dockerfile").read_text().replace("\\\n", " ")
    lines = re.findall(r"^ENV (.*PYTHONPATH.*)$", text, re.MULTILINE)
    environment = dict(word.split("=", 1) for word in lines[0].split())
    environment["PATH"] = environment["PATH"].replace("/opt/toolkit/bin", str(Path(sys.executable).parent))
    environment["HOME"] = "/root"
    return environment


class Image:
    """What `docker build` would make: the layers /opt, /etc, /root and /run over this machine's system."""

    def __init__(self, folder, bin_folder):
        self.folder = folder
        for top in ("opt", "etc", "root", "run"):
            (folder / top).mkdir(parents=True)
            (folder / f"{top}.work").mkdir()
        self.run(f"""
            sagemaker/image/install_trainer.sh {bin_folder} /opt/trainer
            sagemaker/image/setup_sshd.sh
            """)

    def run(self, script):
        """Runs a script in the image while it is built; what it writes stays in the image."""
        mounts = "\n".join(
            f"mount -t overlay none -o lowerdir=/{top},upperdir={self.folder}/{top},"
            f"workdir={self.folder}/{top}.work /{top}"
            for top in ("opt", "etc", "root", "run")
        )
        return subprocess.run(
            ["unshare", "--mount", "bash", "-ec", f"{mounts}\n{script}"],
            cwd=ROOT,
            env=image_environment(),
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout


class Host:
    """One container of a job: its folders are on this machine, its processes in namespaces."""

    def __init__(self, folder, name, image, network):
        self.folder = folder
        self.name = name
        self.image = image
        self.network = network
        self.ml = folder / "ml"
        self.process = None
        for part in ("input/config", "input/data", "model", "checkpoints", "output"):
            (self.ml / part).mkdir(parents=True, exist_ok=True)

    @property
    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    @property
    def failure(self):
        file = self.ml / "output/failure"
        return file.read_text() if file.exists() else ""

    def configure(self, hosts, hyperparameters, channels):
        def write(name, value):
            (self.ml / "input/config" / name).write_text(json.dumps(value))

        group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.c5.xlarge", "hosts": hosts}
        write("hyperparameters.json", hyperparameters)
        write(
            "resourceconfig.json",
            {
                "current_host": self.name,
                "current_instance_type": "ml.c5.xlarge",
                "current_group_name": "homogeneousCluster",
                "hosts": hosts,
                "instance_groups": [group],
                "network_interface_name": self.network,
                "topology": None,
            },
        )
        mode = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        write("inputdataconfig.json", {channel: mode for channel in channels})
        for channel, source in channels.items():
            shutil.copytree(source, self.ml / "input/data" / channel)

    def start(self, addresses):
        lines = ["127.0.0.1 localhost"] + [f"{address} {host}" for host, address in addresses.items()]
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")
        # The namespaces end with unshare, and unshare ends with the test.
        namespaces = "--mount --uts --ipc --net --pid --mount-proc --fork --kill-child".split()
        arguments = [self.name, self.folder, self.image.folder, self.network, "sm-entrypoint", "train"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "bash", HOST_SCRIPT, *arguments],
                env=image_environment(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    @property
    def first_process(self):
        """The id, outside, of the process that is 1 inside."""
        for _ in range(200):
            children = subprocess.run(
                ["pgrep", "-P", str(self.process.pid)], stdout=subprocess.PIPE, text=True, check=False
            ).stdout.split()
            if children:
                return int(children[0])
            time.sleep(0.05)
        raise AssertionError(f"{self.name} did not start:\n{self.log}")

    def signal(self, number):
        os.kill(self.first_process, number)

    def wait(self, seconds=300):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} is still running after {seconds} s:\n{self.log[-4000:]}") from None

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Job:
    """A training job on one host, or on two joined by a cable; `with` starts it and leaves nothing running."""

    def __init__(self, folder, image, hyperparameters, channels, hosts=1, checkpoints=None):
        names = [f"algo-{number + 1}" for number in range(hosts)]
        network = "lo" if hosts == 1 else "eth0"
        self.hosts = []
        for name in names:
            host = Host(folder / name, name, image, network)
            host.configure(names, {**mpi_hyperparameters(2), **hyperparameters}, channels)
            if checkpoints is not None:  # as SageMaker brings them back: to every host
                shutil.copytree(checkpoints, host.ml / "checkpoints", dirs_exist_ok=True)
            self.hosts.append(host)
        self.addresses = {name: f"10.99.0.{number + 1}" for number, name in enumerate(names)}
        if hosts == 1:
            self.addresses = {names[0]: "127.0.0.1"}

    @property
    def first(self):
        return self.hosts[0]

    def __enter__(self):
        try:
            for host in self.hosts:
                host.start(self.addresses)
            if len(self.hosts) == 2:
                self.connect(*self.hosts)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for host in self.hosts:
            host.end()

    def connect(self, left, right):
        ends = [str(host.first_process) for host in (left, right)]
        name = f"duo{os.getpid() % 100000}"
        run = lambda *command: subprocess.run(command, check=True)  # noqa: E731
        run(*f"ip link add {name}a netns {ends[0]} type veth peer name {name}b netns {ends[1]}".split())
        for host, pid, end in ((left, ends[0], "a"), (right, ends[1], "b")):
            inside = ["nsenter", "--net", "--target", pid, "ip"]
            run(*inside, "link", "set", name + end, "name", "eth0")
            run(*inside, "link", "set", "eth0", "up")
            run(*inside, "address", "add", f"{self.addresses[host.name]}/24", "dev", "eth0")

    def wait(self, seconds=300):
        return [host.wait(seconds) for host in self.hosts]

    def wait_for_step(self, step, seconds=180):
        """Waits until the trainer has recorded this step; the step that it then is at."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done = max(losses(self.first), default=0)
            if done >= step:
                return done
            assert self.first.process.poll() is None, f"the job ended before step {step}:\n{self.first.log[-4000:]}"
            time.sleep(0.05)
        raise AssertionError(f"step {step} was not reached in {seconds} s:\n{self.first.log[-4000:]}")

    def stop(self):
        """What SageMaker does to stop a job: SIGTERM to every container."""
        for host in self.hosts:
            host.signal(signal.SIGTERM)

    def kill(self):
        """What a reclaimed spot instance looks like from inside: nothing runs any more."""
        for host in self.hosts:
            host.signal(signal.SIGKILL)


def mpi_hyperparameters(ranks_per_host):
    return {
        "sagemaker_mpi_enabled": "true",
        "sagemaker_mpi_num_of_processes_per_host": str(ranks_per_host),
        "sagemaker_mpi_custom_mpi_options": "--oversubscribe --NCCL_DEBUG WARN",
    }


def losses(host):
    """Step and training loss of every step that the trainer recorded."""
    file = host.ml / "checkpoints/metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    events = []
    for line in lines:
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # being written
    return {event["step"]: event["train_loss"] for event in events if event["event"] == "step"}
