"""Strict validation of a request: botocore's own checks, then the limits that botocore leaves to the service."""

import re

import botocore.session
from botocore.validate import ParamValidator

from job_kinds import JobError, nearest


def operation_input(operation):
    model = botocore.session.get_session().get_service_model("sagemaker")
    return model.operation_model(operation).input_shape


def matches(pattern, value):
    """The model's patterns are Java's: Python knows no classes of Unicode by letter, but has the same under other names."""
    for java, python in ((r"\p{L}", r"\w"), (r"\p{N}", r"\d"), (r"\p{Z}", r"\s")):
        pattern = pattern.replace(java, python)
    return re.fullmatch(pattern, value) is not None


def check_text(shape, value, path):
    limits = shape.metadata
    if len(value) > limits.get("max", len(value)):
        yield f"{path} has {len(value)} characters, at most {limits['max']} are allowed"
    if len(value) < limits.get("min", 0):
        yield f"{path} has {len(value)} characters, at least {limits['min']} are needed"
    if limits.get("enum") and value not in limits["enum"]:
        yield f"{path} = '{value}' is none of the {len(limits['enum'])} values that the service knows{nearest(value, limits['enum'])}"
    if limits.get("pattern") and not matches(limits["pattern"], value):
        yield f"{path} = '{value}' does not match {limits['pattern']}"


def check_number(shape, value, path):
    if not shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value):
        yield f"{path} = {value} is not from {shape.metadata.get('min')} to {shape.metadata.get('max')}"


def check_size(shape, value, path):
    if not shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", len(value)):
        yield f"{path} has {len(value)} entries, allowed: {shape.metadata.get('min', 0)} to {shape.metadata.get('max')}"


def check(shape, value, path):
    """What of `value` is outside of the limits of `shape`, as sentences."""
    kind = shape.type_name
    if kind == "structure":
        for name, member in value.items():
            yield from check(shape.members[name], member, f"{path}.{name}" if path else name)
    elif kind == "list":
        yield from check_size(shape, value, path)
        for index, member in enumerate(value):
            yield from check(shape.member, member, f"{path}[{index}]")
    elif kind == "map":
        yield from check_size(shape, value, path)
        for key, member in value.items():
            yield from check_text(shape.key, key, f"{path}: the name")
            yield from check(shape.value, member, f"{path}.{key}")
    elif kind == "string":
        yield from check_text(shape, value, path)
    elif kind in ("integer", "long", "float", "double"):
        yield from check_number(shape, value, path)


def validate(operation, request):
    """JobError with everything that the service would refuse in this request."""
    shape = operation_input(operation)
    report = ParamValidator().validate(request, shape)
    problems = [report.generate_report()] if report.has_errors() else list(check(shape, request, ""))
    if problems:
        raise JobError(f"{operation} would be refused: " + "; ".join(problems))
