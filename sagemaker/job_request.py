"""From a job's description (configs/sagemaker_config.json) to the request of CreateTrainingJob. Pure: talks to nobody."""

import json
import re
from pathlib import Path

from job_kinds import COUNT, NAME, OBJECT, OPTIONS, SECONDS, SWITCH, TEXT, TEXTS, VALUES, JobError, nearest, require
from trainer_options import check_option, known_options

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DESCRIPTION = CONFIGS / "sagemaker_config.json"
DATA = "/opt/ml/input/data"  # where the container has its channels

# The trainer's log lines are `[rank 0] step=10 epoch=1 train_loss=5.1 ...`, with mpirun's or the toolkit's tag before them.
METRICS = {
    "train:loss": "train_loss",
    "train:learning_rate": "learning_rate",
    "train:gradient_norm": "gradient_norm",
    "train:source_tokens_per_second": "source_tokens_per_second",
    "train:target_tokens_per_second": "target_tokens_per_second",
    "train:matmul_share": "matmul_share",
    "train:step": "step",
    "train:epoch": "epoch",
    "validation:loss": "val_loss",
    "validation:perplexity": "perplexity",
    "validation:unigram_perplexity": "unigram_perplexity",
}

# key: kind and default. ... means that it has to be given; with the default None it may be null.
JOB = {
    "job_name": (NAME, "duologue"),
    "region": (NAME, ...),
    "role_arn": (NAME, ...),
    "image_uri": (NAME, ...),
    "instances": (OBJECT, ...),
    "ranks_per_host": (COUNT, None),
    "channels": (OBJECT, ...),
    "output_s3_uri": (NAME, ...),
    "checkpoints_s3_uri": (NAME, None),
    "spot": (SWITCH, False),
    "max_run_seconds": (COUNT, 86400),
    "max_wait_seconds": (COUNT, None),
    "hyperparameters": (OPTIONS, {}),
    "mpi_options": (TEXT, "--NCCL_DEBUG WARN"),
    "environment": (VALUES, {}),
    "network": (OBJECT, None),
    "tags": (VALUES, {}),
}
INSTANCES = {"type": (NAME, ...), "count": (COUNT, 1), "volume_gb": (COUNT, 100), "keep_alive_seconds": (SECONDS, 0)}
CHANNEL = {"s3_uri": (NAME, ...), "mode": (TEXT, "File")}
NETWORK = {"subnets": (TEXTS, ...), "security_groups": (TEXTS, ...), "encrypt_between_hosts": (SWITCH, False)}

# The toolkit sets these itself, and mpirun refuses a key that stands twice.
MCA_KEYS_OF_THE_TOOLKIT = (
    "pml",
    "btl",
    "btl_tcp_if_include",
    "oob_tcp_if_include",
    "plm_rsh_no_tree_spawn",
    "orte_abort_on_non_zero_status",
    "btl_vader_single_copy_mechanism",
)
# The toolkit joins its command to one line for a shell; other characters would be read by that shell.
PLAIN = re.compile(r"[A-Za-z0-9_./:=,+-]*")


def with_defaults(given, known, where):
    """`given` with the defaults of `known`; names that are not known are answered with the nearest that is."""
    if not isinstance(given, dict):
        raise JobError(f"{where} must be an object with the keys {', '.join(known)}, not {json.dumps(given)}")
    for key in given:
        if key not in known:
            raise JobError(f"{where} has no key '{key}'" + (nearest(key, known) or f"; its keys are {', '.join(known)}"))
    for key, (kind, default) in known.items():
        if default is ... and key not in given:
            raise JobError(f"{where} lacks '{key}'")
        if key in given and not (default is None and given[key] is None):
            require(kind, given[key], key if known is JOB else f"{where}.{key}")
    return {**{key: default for key, (_, default) in known.items() if default is not ...}, **given}


def without_twins(pairs):
    """An object of JSON; of a key that stands twice, Python would drop the first without a word."""
    for number, (key, _) in enumerate(pairs):
        if key in dict(pairs[:number]):
            raise JobError(f"the key '{key}' stands twice in one object")
    return dict(pairs)


def read_job(path, hyperparameters=()):
    """The description in a file; `hyperparameters` are pairs that come after the file's."""
    try:
        job = json.loads(Path(path).read_text(), object_pairs_hook=without_twins)
    except ValueError as error:
        raise JobError(f"'{path}' is not JSON: {error}") from error
    job = with_defaults(job, JOB, "the job")
    job["instances"] = with_defaults(job["instances"], INSTANCES, "instances")
    job["channels"] = {name: with_defaults(value, CHANNEL, f"channels.{name}") for name, value in job["channels"].items()}
    if job["network"] is not None:
        job["network"] = with_defaults(job["network"], NETWORK, "network")
    job["hyperparameters"] = {**job["hyperparameters"], **dict(hyperparameters)}
    check_rules(job)
    return job


def check_rules(job):
    """Rules that the service model does not know."""
    if "training" not in job["channels"]:
        raise JobError("channels lacks 'training': the shards, or the conversations to make shards of")
    for name, channel in job["channels"].items():
        if channel["mode"] not in ("File", "FastFile"):
            raise JobError(f"channel {name}: mode {channel['mode']} is not File or FastFile; a pipe cannot be read twice")
        for key in ("output_s3_uri", "checkpoints_s3_uri"):
            if job[key] and folder_uri(job[key]).startswith(folder_uri(channel["s3_uri"])):
                raise JobError(f"{key} lies within channel {name}: what this job writes would be data of the next one")
    if job["spot"]:
        if not job["checkpoints_s3_uri"]:
            raise JobError("spot needs checkpoints_s3_uri: without it an interrupted job begins anew")
        if (job["max_wait_seconds"] or 0) < job["max_run_seconds"]:
            raise JobError(
                f"spot needs max_wait_seconds of at least max_run_seconds = {job['max_run_seconds']}, "
                f"not {job['max_wait_seconds']}: it includes the wait for instances"
            )
        if job["instances"]["keep_alive_seconds"]:
            raise JobError("instances.keep_alive_seconds does not go with spot: reclaimed instances cannot be kept")
    check_mpi_options(job["mpi_options"])
    check_config(job)
    for name, value in job["hyperparameters"].items():
        if name != "config":
            check_option(name, value)
    check_ranks(job)


def check_mpi_options(options):
    words = options.split()
    for word in words:
        if not PLAIN.fullmatch(word):
            raise JobError(f"mpi_options: '{word}' has characters that a shell would read; allowed: {PLAIN.pattern}")
    for flag, key in zip(words, words[1:]):
        if flag.lstrip("-") == "mca" and key in MCA_KEYS_OF_THE_TOOLKIT:
            raise JobError(f"mpi_options sets {key}, which the toolkit sets already; mpirun does not start then")


def config_of(job):
    return str(job["hyperparameters"].get("config", "base"))


def comes_with_a_channel(job):
    """Whether the trainer's configuration is a file that the job's data bring along."""
    folders = [f"{DATA}/{channel}/" for channel in job["channels"]]
    return config_of(job).startswith(tuple(folders))


def check_config(job):
    """The image has the files of configs/, less the one that describes jobs."""
    known = sorted(file.stem for file in CONFIGS.glob("*.json") if file != DESCRIPTION)
    name = config_of(job)
    if name.removesuffix(".json") not in known and not comes_with_a_channel(job):
        raise JobError(
            f"hyperparameters.config = '{name}' is none of {', '.join(known)}{nearest(name, known)}; "
            f"a file of your own comes with a channel: {DATA}/CHANNEL/FILE"
        )


def micro_batches_per_step(job):
    """The number that the trainer will have; None where only the trainer will see it."""
    name = "train.micro_batches_per_step"
    if name in job["hyperparameters"]:
        return int(float(job["hyperparameters"][name]))  # a command line's is text
    if comes_with_a_channel(job):
        return None
    chosen = json.loads((CONFIGS / f"{config_of(job).removesuffix('.json')}.json").read_text())
    return chosen.get("train", {}).get("micro_batches_per_step", int(known_options()[name]["default"]))


def check_ranks(job):
    """As the trainer would, but before an instance is paid for: ranks share a step's micro-batches evenly."""
    micro_batches = micro_batches_per_step(job)
    if job["ranks_per_host"] is None or micro_batches is None:
        return  # the toolkit counts GPUs there, and the trainer checks
    ranks = job["ranks_per_host"] * job["instances"]["count"]
    if micro_batches % ranks:
        raise JobError(f"train.micro_batches_per_step = {micro_batches} is not a multiple of the job's {ranks} ranks")


def hyperparameter(name, value):
    """As the entry script reads it: `section__key` (a dot would not pass a shell's environment), and plain text."""
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    if not PLAIN.fullmatch(text):
        raise JobError(f"hyperparameters.{name} = '{text}' has other characters than {PLAIN.pattern}")
    return name.replace(".", "__"), text


def hyperparameters(job):
    toolkit = {
        "sagemaker_program": "train.sh",
        "sagemaker_submit_directory": "/opt/ml/code",
        "sagemaker_mpi_enabled": "true",
        "sagemaker_mpi_custom_mpi_options": job["mpi_options"],
        "sagemaker_container_log_level": "20",
        "sagemaker_region": job["region"],
    }
    if job["ranks_per_host"] is not None:
        toolkit["sagemaker_mpi_num_of_processes_per_host"] = str(job["ranks_per_host"])
    return {**toolkit, **dict(hyperparameter(*pair) for pair in job["hyperparameters"].items())}


def folder_uri(uri):
    """A prefix that ends with a slash names one folder; without it, `data` would name `data-old` too."""
    return uri.rstrip("/") + "/"


def channel_config(name, channel):
    # Every host gets everything: the trainer divides the work itself, and wants the same shards on every host.
    source = {"S3DataType": "S3Prefix", "S3Uri": folder_uri(channel["s3_uri"]), "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": channel["mode"]}


def resource_config(instances):
    config = {
        "InstanceType": instances["type"],
        "InstanceCount": instances["count"],
        "VolumeSizeInGB": instances["volume_gb"],
    }
    if instances["keep_alive_seconds"]:
        config["KeepAlivePeriodInSeconds"] = instances["keep_alive_seconds"]
    return config


def metric_definitions():
    """One capture group each, and no anchor: what stands before a line depends on who started the ranks."""
    return [{"Name": name, "Regex": f"[ :]{key}=([0-9.eE+-]+)"} for name, key in METRICS.items()]


def build_request(job, name):
    """The request of CreateTrainingJob for a job that read_job() gave."""
    request = {
        "TrainingJobName": name,
        "RoleArn": job["role_arn"],
        "AlgorithmSpecification": {
            "TrainingImage": job["image_uri"],
            "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        "HyperParameters": hyperparameters(job),
        "InputDataConfig": [channel_config(*channel) for channel in job["channels"].items()],
        "OutputDataConfig": {"S3OutputPath": job["output_s3_uri"], "CompressionType": "GZIP"},
        "ResourceConfig": resource_config(job["instances"]),
        "StoppingCondition": {"MaxRuntimeInSeconds": job["max_run_seconds"]},
        "EnableManagedSpotTraining": job["spot"],
    }
    if job["spot"]:
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = job["max_wait_seconds"]
    if job["checkpoints_s3_uri"]:
        request["CheckpointConfig"] = {"S3Uri": job["checkpoints_s3_uri"], "LocalPath": "/opt/ml/checkpoints"}
    if job["environment"]:
        request["Environment"] = {key: str(value) for key, value in job["environment"].items()}
    if job["network"] is not None:
        request["VpcConfig"] = {
            "Subnets": job["network"]["subnets"],
            "SecurityGroupIds": job["network"]["security_groups"],
        }
        request["EnableInterContainerTrafficEncryption"] = job["network"]["encrypt_between_hosts"]
    if job["tags"]:
        request["Tags"] = [{"Key": key, "Value": str(value)} for key, value in job["tags"].items()]
    return request
