"""The README's ModelTrainer snippet, run as it stands there, sends the same request as launch.py."""

import json
import re
from pathlib import Path

import botocore.client
import pytest

from service_model import validate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def snippet():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "sagemaker/README.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if "ModelTrainer" in block]
    return found


@pytest.fixture
def sent(monkeypatch):
    """Every call to AWS, answered here."""
    calls = []
    allowed = {"EvaluationResults": [{"EvalActionName": "a", "EvalDecision": "allowed"}]}
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/a"

    def answer(_, operation, parameters):
        calls.append((operation, parameters))
        return {
            "SimulatePrincipalPolicy": allowed,
            "GetRole": {"Role": {"Arn": parameters.get("RoleName", "")}},
            "GetCallerIdentity": {"Account": "123456789012", "Arn": arn},
            "CreateTrainingJob": {"TrainingJobArn": arn},
            "DescribeTrainingJob": {"TrainingJobName": "a", "TrainingJobArn": arn, "TrainingJobStatus": "InProgress"},
        }[operation]

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", answer)
    return calls


def test_the_snippet_sends_the_golden_request(sent, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(snippet(), "README.md", "exec"), {})
    (request,) = [parameters for operation, parameters in sent if operation == "CreateTrainingJob"]
    golden = json.loads((HERE / "golden_request.json").read_text())
    assert request["TrainingJobName"].startswith("duologue-base-")
    assert {**request, "TrainingJobName": golden["TrainingJobName"]} == golden
    validate("CreateTrainingJob", request)
