"""What kind of value each key of a job's description takes, and what is said to another one."""

import difflib
import json
from typing import Any, Callable, NamedTuple


class JobError(Exception):
    """What is wrong with a job's description, and what to write instead."""


def nearest(name, known):
    """The known name that was meant, as the end of a message; nothing where none is near."""
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


class Kind(NamedTuple):
    name: str
    holds: Callable[[Any], bool]
    each: Any = None  # of an object, the kind of its values


def whole_number(least):
    return Kind(f"a whole number from {least}", lambda value: type(value) is int and value >= least)


def is_texts(value):
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


TEXT = Kind("text", lambda value: isinstance(value, str))
NAME = Kind("text that is not empty", lambda value: isinstance(value, str) and value != "")
TEXTS = Kind("a list of text", is_texts)
SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
COUNT = whole_number(1)
SECONDS = whole_number(0)
PLAIN_VALUE = Kind("text, a number, true or false", lambda value: isinstance(value, (str, int, float, bool)))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
VALUES = Kind("an object", OBJECT.holds, each=PLAIN_VALUE)
OPTION_VALUE = Kind(f'{PLAIN_VALUE.name}; a section is written out: "train.epochs": 3', PLAIN_VALUE.holds)
OPTIONS = Kind("an object", OBJECT.holds, each=OPTION_VALUE)


def require(kind, value, key):
    """JobError where `value`, which stands at `key`, is of another kind."""
    if not kind.holds(value):
        raise JobError(f"{key} = {json.dumps(value)} must be {kind.name}")
    if kind.each:
        for name, item in value.items():
            require(kind.each, item, f"{key}.{name}")
