#!/usr/bin/env python3
"""The trainer's options: makes trainer_options.json of what the programs' --help says, and checks a job's values by it.

trainer_options.py BIN_FOLDER, the folder of the built programs, writes the file anew.
"""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from job_kinds import JobError, nearest

FILE = Path(__file__).with_name("trainer_options.json")
# train.sh and trainer_sm.py set these; a second value would be refused, or point somewhere else.
OF_THE_CONTAINER = ("data.path", "output.path", "train.stop_file", "preprocess.output", "preprocess.workers")


def entries(help_text):
    """Each option's name, what follows it directly, and its description, which may go over several lines."""
    for block in re.split(r"\n(?=\s*-|\s*\n|\S)", help_text):
        found = re.match(r"\s*(?:-\w,)?--([\w.-]+)(\S*)\s*(.*)", block, re.DOTALL)
        if found:
            yield found[1], found[2], " ".join(found[3].split())


def number(text):
    value = float(text)
    return int(value) if value.is_integer() else value


def kind_of(words):
    """`an integer from 1 to 5`, `a or b`, `true or false` ... as an entry of the file; anything else may be any text."""
    whole = "integer" if "integer" in words else "number"
    if found := re.fullmatch(r"an? \w+ from (\S+) to (\S+)", words):
        return {"type": whole, "least": number(found[1]), "most": number(found[2])}
    if found := re.fullmatch(r"an? \w+ of at least (\S+)", words):
        return {"type": whole, "least": number(found[1])}
    choices = re.split(r" or |, |\|", words)
    if sorted(choices) == ["false", "true"]:
        return {"type": "switch"}
    if len(choices) > 1 and all(re.fullmatch(r"[\w-]+", choice) for choice in choices):
        return {"type": "choice", "choices": choices}
    return {"type": "text"}


def trainer_options(help_text):
    """`--train.epochs=10   passes over the data (an integer from 0 to 1000000000)`"""
    for name, default, description in entries(help_text):
        if "." in name:
            words = re.findall(r"\(([^()]*)\)", description) or [""]
            yield name, {**kind_of(words[-1]), "default": json.loads(default.removeprefix("="))}


def preprocess_kind(description):
    """`INT=1 rarer words ...`, or choices in braces, each perhaps with what it stands for: `{keep->0,drop->1}`."""
    if re.match(r"U?INT\b", description):
        return {"type": "integer", "least": 0}
    if braces := re.search(r"\{(.*?)\}", description):
        return {"type": "choice", "choices": [choice.split("->")[0].strip() for choice in braces[1].split(",")]}
    return {"type": "text"}


def preprocess_options(help_text):
    """`--min-count INT=1   rarer words become <unk>`"""
    for name, _, description in entries(help_text):
        if name != "help":
            yield f"preprocess.{name.replace('-', '_')}", preprocess_kind(description)


def help_of(*command):
    return subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout


def file_text(bin_folder):
    """What the file has to hold, an option a line."""
    options = dict(trainer_options(help_of(bin_folder / "duologue", "train")))
    options.update(preprocess_options(help_of(bin_folder / "duologue-preprocess")))
    lines = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in options.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


@cache
def known_options():
    return json.loads(FILE.read_text())


def as_number(text):
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if type(value) in (int, float) else None


def expected(option):
    if option["type"] == "choice":
        return "one of " + ", ".join(option["choices"])
    if option["type"] == "switch":
        return "true or false"
    whole = "a whole number" if option["type"] == "integer" else "a number"
    return f"{whole} from {option['least']}" + (f" to {option['most']}" if "most" in option else "")


def takes(option, text):
    if option["type"] == "text":
        return True
    if option["type"] == "choice":
        return text in option["choices"]
    if option["type"] == "switch":
        return text in ("true", "false", "True", "False")  # the container makes the second form the first
    value = as_number(text)
    if value is None or not option["least"] <= value <= option.get("most", value):
        return False
    return option["type"] == "number" or value % 1 == 0


def check_option(name, value):
    """JobError where the trainer (or, for preprocess.KEY, duologue-preprocess) would refuse `value` for `name`."""
    option = known_options().get(name)
    if name in OF_THE_CONTAINER:
        raise JobError(f"hyperparameters.{name}: the container sets this itself; leave it out")
    if option is None:
        near = nearest(name, [known for known in known_options() if known not in OF_THE_CONTAINER])
        raise JobError(f"hyperparameters.{name}: the trainer has no such option{near}")
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    if not takes(option, text):
        raise JobError(f"hyperparameters.{name} = {json.dumps(value)} must be {expected(option)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: trainer_options.py BIN_FOLDER")
    FILE.write_text(file_text(Path(sys.argv[1])))
