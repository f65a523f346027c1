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
    """Each option's name and the rest of its entry, which may go over several lines."""
    for block in re.split(r"\n(?=\s*--?[a-z]|\s*\n|\S)", help_text):
        if found := re.match(r"\s*--([\w.-]+)\s+(.*)", block, re.DOTALL):
            yield found[1], " ".join(found[2].split())


def number(text):
    value = float(text)
    return int(value) if value.is_integer() else value


def option_of(entry):
    """`INTEGER what it is for [1 to 9; default 3]` as an entry of the file; a type that is not known here takes any text."""
    word = entry.split(" ")[0]
    choices = word.split("|")
    option = {"type": {"INTEGER": "integer", "NUMBER": "number", "true|false": "switch"}.get(word, "text")}
    if option["type"] == "text" and len(choices) > 1:
        option = {"type": "choice", "choices": choices}
    facts = re.search(r"\[([^\[\]]*)\]$", entry)
    for fact in facts[1].split("; ") if facts else []:
        if found := re.fullmatch(r"(\S+) to (\S+)", fact):
            option.update(least=number(found[1]), most=number(found[2]))
        elif found := re.fullmatch(r"at least (\S+)", fact):
            option["least"] = number(found[1])
        elif found := re.fullmatch(r"default (.*)", fact):
            option["default"] = found[1]
    return option


def options_of(help_text, prefix=""):
    """Those that a job can set; the keys of the configuration have a dot already."""
    for name, entry in entries(help_text):
        if prefix and name not in ("help", "version") or "." in name:
            yield prefix + name.replace("-", "_"), option_of(entry)


def help_of(*command):
    return subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout


def file_text(bin_folder):
    """What the file has to hold, an option a line."""
    options = dict(options_of(help_of(bin_folder / "duologue", "train")))
    options.update(options_of(help_of(bin_folder / "duologue-preprocess"), "preprocess."))
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
    if option["type"] == "text":
        return "text that is not empty"
    if option["type"] == "choice":
        return "one of " + ", ".join(option["choices"])
    if option["type"] == "switch":
        return "true or false"
    whole = "a whole number" if option["type"] == "integer" else "a number"
    return whole + (f" from {option['least']}" if "least" in option else "") + (f" to {option['most']}" if "most" in option else "")


def whole_number(text, digits_only):
    """The number as the programs read it, in 64 bits; the trainer also takes a whole float, as far as floats count by one."""
    if digits_only:
        value = int(text) if re.fullmatch("[0-9]{1,100}", text) else None
    else:
        value = as_number(text)
    if isinstance(value, float):
        value = int(value) if abs(value) <= 2**53 and value.is_integer() else None
    return value if value is None or value < 2**64 else None


def takes(option, text, of_preprocessing):
    """Whether the program would: the trainer reads values as its configuration's, duologue-preprocess as plain words."""
    if option["type"] == "text":
        return text != "" or not of_preprocessing
    if option["type"] == "choice":
        return text in option["choices"]
    if option["type"] == "switch":
        return text in ("true", "false", "True", "False")  # the container makes the second form the first
    value = whole_number(text, of_preprocessing) if option["type"] == "integer" else as_number(text)
    return value is not None and option.get("least", value) <= value <= option.get("most", value)


def check_option(name, value):
    """JobError where the trainer (or, for preprocess.KEY, duologue-preprocess) would refuse `value` for `name`."""
    option = known_options().get(name)
    if name in OF_THE_CONTAINER:
        raise JobError(f"hyperparameters.{name}: the container sets this itself; leave it out")
    if option is None:
        near = nearest(name, [known for known in known_options() if known not in OF_THE_CONTAINER])
        program = "duologue-preprocess" if name.startswith("preprocess.") else "the trainer"
        raise JobError(f"hyperparameters.{name}: {program} has no such option{near}")
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    if not takes(option, text, of_preprocessing=name.startswith("preprocess.")):
        raise JobError(f"hyperparameters.{name} = {json.dumps(value)} must be {expected(option)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: trainer_options.py BIN_FOLDER")
    FILE.write_text(file_text(Path(sys.argv[1])))
