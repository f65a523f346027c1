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
    for block in re.split(r"\n(?=\s*--?[a-z]|\s*\n|\S)", help_text):
        found = re.match(r"\s*(?:-\w,)?--([\w.-]+)(\S*)\s*(.*)", block, re.DOTALL)
        if found:
            yield found[1], found[2], " ".join(found[3].split())


def number(text):
    value = float(text)
    return int(value) if value.is_integer() else value


def option_of(default, description):
    """An entry of the file, of a help text in either of these forms; where it tells of no kind, any text will do.

    `=10   passes over the data (an integer from 0 to 9)`, ` INTEGER   passes over the data [0 to 9; default 10]`
    """
    told = re.findall(r"[(\[]([^()\[\]]*)[)\]]$", description)
    facts = [*re.findall(r"^\S*\{.*?\}|^\S+", description), *(fact for group in told for fact in group.split("; "))]
    option = {"type": "text"}
    for fact in facts:
        choices = [choice.split("->")[0].strip() for choice in re.split(r" or |, ?|\|", re.sub(r"^.*\{|\}", "", fact))]
        if re.match(r"(an integer|INTEGER|U?INT)\b", fact):
            option["type"] = "integer"
        elif re.match(r"(a number|NUMBER)\b", fact):
            option["type"] = "number"
        elif sorted(choices) == ["false", "true"]:
            option["type"] = "switch"
        elif len(choices) > 1 and all(re.fullmatch(r"[\w-]+", choice) for choice in choices):
            option.update(type="choice", choices=choices)
        if found := re.search(r"(\S+) to (\S+)$", fact):
            option.update(least=number(found[1]), most=number(found[2]))
        elif found := re.search(r"at least (\S+)$", fact):
            option.update(least=number(found[1]))
        elif fact.startswith("default "):
            default = fact.removeprefix("default")
    if default[1:].strip('"'):
        option["default"] = default[1:].strip('"')
    return option


def options_of(help_text, prefix=""):
    """Those that a job can set; the keys of the configuration have a dot already."""
    for name, default, description in entries(help_text):
        if prefix and name not in ("help", "version") or "." in name:
            yield prefix + name.replace("-", "_"), option_of(default, description)


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
    if option["type"] == "choice":
        return "one of " + ", ".join(option["choices"])
    if option["type"] == "switch":
        return "true or false"
    whole = "a whole number" if option["type"] == "integer" else "a number"
    return whole + (f" from {option['least']}" if "least" in option else "") + (f" to {option['most']}" if "most" in option else "")


def takes(option, text):
    if option["type"] == "text":
        return True
    if option["type"] == "choice":
        return text in option["choices"]
    if option["type"] == "switch":
        return text in ("true", "false", "True", "False")  # the container makes the second form the first
    value = as_number(text)
    if value is None or not option.get("least", value) <= value <= option.get("most", value):
        return False
    return option["type"] == "number" or value % 1 == 0


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
    if not takes(option, text):
        raise JobError(f"hyperparameters.{name} = {json.dumps(value)} must be {expected(option)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: trainer_options.py BIN_FOLDER")
    FILE.write_text(file_text(Path(sys.argv[1])))
