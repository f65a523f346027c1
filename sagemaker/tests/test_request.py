"""The request: what it is made of, what is refused before anything is paid for, and what the service would refuse."""

import copy
import json
from pathlib import Path

import pytest

import launch
from job_request import JobError, build_request, read_job
from service_model import validate

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "configs/sagemaker_config.json"


def job(tmp_path, change=lambda job: None, hyperparameters=()):
    description = json.loads(EXAMPLE.read_text())
    change(description)
    file = tmp_path / "job.json"
    file.write_text(json.dumps(description))
    return read_job(file, hyperparameters)


def request_of(tmp_path, change=lambda request: None):
    request = build_request(job(tmp_path), "duologue-base-1")
    change(request)
    return request


def test_the_example_gives_the_golden_request(tmp_path):
    golden = json.loads((HERE / "golden_request.json").read_text())
    assert request_of(tmp_path) == golden


def test_the_golden_request_is_valid(tmp_path):
    validate("CreateTrainingJob", request_of(tmp_path))


def test_dry_run_prints_the_request_and_needs_no_credentials(capsys, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    arguments = ["--config", str(EXAMPLE), "--dry-run", "--name", "duologue-base-1"]
    assert launch.main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((HERE / "golden_request.json").read_text())


def test_options_of_the_command_line_come_after_the_files(tmp_path):
    request = build_request(job(tmp_path, hyperparameters=[("train.epochs", "3")]), "a")
    assert request["HyperParameters"]["train__epochs"] == "3"


def test_without_spot_there_is_no_wait_and_checkpoints_stay(tmp_path):
    def on_demand(job):
        job["spot"] = False
        del job["max_wait_seconds"]

    request = build_request(job(tmp_path, on_demand), "a")
    validate("CreateTrainingJob", request)
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert request["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"


def test_a_network_of_ones_own_is_passed_on(tmp_path):
    network = {"subnets": ["subnet-1"], "security_groups": ["sg-1"], "encrypt_between_hosts": True}
    request = build_request(job(tmp_path, lambda job: job.update(network=network)), "a")
    validate("CreateTrainingJob", request)
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert request["EnableInterContainerTrafficEncryption"] is True


REFUSED_DESCRIPTIONS = {
    "did you mean 'hyperparameters'": lambda job: job.update(hyperparameter={}),
    "lacks 'role_arn'": lambda job: job.pop("role_arn"),
    "did you mean 'count'": lambda job: job["instances"].update(counts=2),
    "channels lacks 'training'": lambda job: job["channels"].pop("training"),
    "cannot be read twice": lambda job: job["channels"]["training"].update(mode="Pipe"),
    "spot needs checkpoints_s3_uri": lambda job: job.pop("checkpoints_s3_uri"),
    "at least max_run_seconds = 86400": lambda job: job.update(max_wait_seconds=100),
    "output_s3_uri lies within channel training": lambda job: job["channels"]["training"].update(
        s3_uri="s3://YOUR-BUCKET/duologue"
    ),
    "checkpoints_s3_uri lies within channel prompts": lambda job: job.update(
        checkpoints_s3_uri="s3://YOUR-BUCKET/duologue/prompts/"
    ),
    "does not go with spot": lambda job: job["instances"].update(keep_alive_seconds=600),
    "the toolkit sets already": lambda job: job.update(mpi_options="-mca pml ucx"),
    "a shell would read": lambda job: job.update(mpi_options="-x A=$HOME"),
    "not a multiple of the job's 20 ranks": lambda job: job["instances"].update(count=5),
    "config = 'bse' is none of base, big, demo, small_cpu; did you mean 'base'": lambda job: job["hyperparameters"].update(
        config="bse"
    ),
    "config = 'sagemaker_config' is none of": lambda job: job["hyperparameters"].update(config="sagemaker_config"),
    "config = '/opt/ml/input/data/other/my.json' is none of": lambda job: job["hyperparameters"].update(
        config="/opt/ml/input/data/other/my.json"
    ),
}


@pytest.mark.parametrize("message", REFUSED_DESCRIPTIONS)
def test_a_wrong_description_is_refused_by_name(tmp_path, message):
    with pytest.raises(JobError, match=message):
        job(tmp_path, REFUSED_DESCRIPTIONS[message])


WRONG_KINDS = {
    "ranks_per_host = 0 must be a whole number from 1": lambda job: job.update(ranks_per_host=0),
    'ranks_per_host = "4" must be a whole number': lambda job: job.update(ranks_per_host="4"),
    "ranks_per_host = true must be a whole number": lambda job: job.update(ranks_per_host=True),
    'train.micro_batches_per_step = "eight" must be a whole number': lambda job: job["hyperparameters"].update(
        {"train.micro_batches_per_step": "eight"}
    ),
    "train.micro_batches_per_step = 0 must be a whole number from 1": lambda job: job.update(
        ranks_per_host=None, hyperparameters={"train.micro_batches_per_step": 0}
    ),
    "channels = [] must be an object": lambda job: job.update(channels=[]),
    "channels.training must be an object with the keys s3_uri, mode": lambda job: job["channels"].update(training="s3://a"),
    "channels.training.s3_uri = 5 must be text": lambda job: job["channels"]["training"].update(s3_uri=5),
    "channels.prompts.mode = null must be text": lambda job: job["channels"]["prompts"].update(mode=None),
    "mpi_options = null must be text": lambda job: job.update(mpi_options=None),
    'max_run_seconds = "86400" must be a whole number': lambda job: job.update(max_run_seconds="86400"),
    "hyperparameters = [] must be an object": lambda job: job.update(hyperparameters=[]),
    "hyperparameters.train.epochs = null must be text, a number, true or false": lambda job: job.update(
        hyperparameters={"train.epochs": None}
    ),
    'hyperparameters.train = {"epochs": 3} must be text, a number, true or false; a section is written out: "train.epochs": 3': (
        lambda job: job.update(hyperparameters={"train": {"epochs": 3}})
    ),
    'region = "" must be text that is not empty': lambda job: job.update(region=""),
    "environment = 5 must be an object": lambda job: job.update(environment=5),
    'tags = ["a"] must be an object': lambda job: job.update(tags=["a"]),
    'instances.count = "2" must be a whole number from 1': lambda job: job["instances"].update(count="2"),
    "instances.volume_gb = 1.5 must be a whole number": lambda job: job["instances"].update(volume_gb=1.5),
    "instances = null must be an object": lambda job: job.update(instances=None),
    "spot = 1 must be true or false": lambda job: job.update(spot=1),
    'network.subnets = "subnet-1" must be a list of text': lambda job: job.update(
        network={"subnets": "subnet-1", "security_groups": []}
    ),
    "output_s3_uri = null must be text": lambda job: job.update(output_s3_uri=None),
}


@pytest.mark.parametrize("message", WRONG_KINDS)
def test_a_value_of_another_kind_is_refused_with_key_value_and_what_is_expected(tmp_path, message):
    with pytest.raises(JobError) as refusal:
        job(tmp_path, WRONG_KINDS[message])
    assert message in str(refusal.value)


def test_what_has_no_default_may_be_null(tmp_path):
    nothing = {"ranks_per_host": None, "checkpoints_s3_uri": None, "spot": False, "max_wait_seconds": None, "network": None}
    validate("CreateTrainingJob", build_request(job(tmp_path, lambda job: job.update(nothing)), "a"))


def test_a_configuration_may_come_with_a_channel(tmp_path):
    own = {"config": "/opt/ml/input/data/training/my.json"}
    request = build_request(job(tmp_path, lambda job: job.update(hyperparameters=own)), "a")
    assert request["HyperParameters"]["config"] == own["config"]


@pytest.mark.parametrize("name, value", [("epochs", 3), ("chat.prompts", "it's")])
def test_a_hyperparameter_that_would_not_arrive_is_refused(tmp_path, name, value):
    with pytest.raises(JobError, match=name):
        build_request(job(tmp_path, hyperparameters=[(name, value)]), "a")


REFUSED_REQUESTS = {
    "TrainingJobName = 'a_b' does not match": lambda r: r.update(TrainingJobName="a_b"),
    "TrainingJobName has 64 characters": lambda r: r.update(TrainingJobName="a" * 64),
    "InstanceType = 'ml.p99.xlarge' is none of": lambda r: r["ResourceConfig"].update(InstanceType="ml.p99.xlarge"),
    "RoleArn = 'role/duologue-training' does not match": lambda r: r.update(RoleArn="role/duologue-training"),
    "KeepAlivePeriodInSeconds = 99999 is not from 0 to 21600": lambda r: r["ResourceConfig"].update(
        KeepAlivePeriodInSeconds=99999
    ),
    "valid min value: 1": lambda r: r["StoppingCondition"].update(MaxRuntimeInSeconds=0),
    "MetricDefinitions has 41 entries": lambda r: r["AlgorithmSpecification"].update(
        MetricDefinitions=[{"Name": "a", "Regex": "b"}] * 41
    ),
    "HyperParameters has 101 entries": lambda r: r.update(HyperParameters={f"a{i}": "1" for i in range(101)}),
    "has 2501 characters": lambda r: r["HyperParameters"].update(config="a" * 2501),
    "Environment: the name = '1A' does not match": lambda r: r.update(Environment={"1A": "b"}),
    "Tags": lambda r: r.update(Tags=[{"Key": "a", "Value": "b#"}]),
    "Unknown parameter": lambda r: r.update(Spot=True),
    "Missing required parameter": lambda r: r.pop("OutputDataConfig"),
    "Invalid type for parameter": lambda r: r["ResourceConfig"].update(InstanceCount="1"),
}


@pytest.mark.parametrize("message", REFUSED_REQUESTS)
def test_what_the_service_would_refuse_is_refused_here(tmp_path, message):
    request = copy.deepcopy(request_of(tmp_path, REFUSED_REQUESTS[message]))
    with pytest.raises(JobError, match="would be refused") as refusal:
        validate("CreateTrainingJob", request)
    assert message in str(refusal.value)


def test_a_description_that_is_not_there_ends_the_client_with_4(tmp_path, capsys):
    assert launch.main(["--config", str(tmp_path / "job.json"), "--dry-run"]) == 4
    assert capsys.readouterr().err == f"launch.py: '{tmp_path}/job.json': No such file or directory\n"


def test_a_description_that_is_not_json_ends_the_client_with_2(tmp_path, capsys):
    file = tmp_path / "job.json"
    file.write_text("{")
    assert launch.main(["--config", str(file), "--dry-run"]) == 2
    assert "job.json' is not JSON: " in capsys.readouterr().err


def test_a_wrong_description_ends_the_client_with_2(tmp_path, capsys):
    file = tmp_path / "job.json"
    file.write_text("{}")
    assert launch.main(["--config", str(file), "--dry-run"]) == 2
    assert "lacks 'region'" in capsys.readouterr().err


def test_a_key_that_stands_twice_is_refused(tmp_path):
    file = tmp_path / "job.json"
    file.write_text('{"instances": {"count": 1, "count": 2}}')
    with pytest.raises(JobError, match="'count' stands twice"):
        read_job(file)


def test_the_nearest_instance_type_is_suggested(tmp_path):
    wrong = request_of(tmp_path, lambda r: r["ResourceConfig"].update(InstanceType="ml.g5.12xlrage"))
    with pytest.raises(JobError, match="did you mean 'ml.g5.12xlarge'"):
        validate("CreateTrainingJob", wrong)


def epochs_of(arguments, capsys):
    assert launch.main(["--dry-run", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["HyperParameters"]["train__epochs"]


def test_a_value_follows_its_option_with_or_without_an_equals_sign(capsys):
    assert epochs_of(["--train.epochs=3"], capsys) == "3"
    assert epochs_of(["--train.epochs", "3"], capsys) == "3"
    assert epochs_of(["--train.epochs=3", "--train.epochs=4"], capsys) == "4"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--train.epochs"], "--train.epochs needs a value"),
        (["--train.epochs", "--device.graphs=true"], "--train.epochs needs a value"),
        (["--dryrun"], "did you mean '--dry-run'"),
        (["small"], "'small' is neither an option of this program nor --section.key=VALUE"),
        (["--job", "first"], "add --wait, --stop or --download DIR"),
        (["--job", "first", "--wait", "--train.epochs=3"], "it takes no data and no options any more"),
        (["--stop"], "--stop needs --job NAME"),
    ],
)
def test_a_wrong_command_line_ends_the_client_with_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        launch.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_the_example_is_not_started_before_it_is_filled_in(capsys):
    assert launch.main([]) == 2
    assert "checkpoints_s3_uri still has a YOUR-... of the example" in capsys.readouterr().err
