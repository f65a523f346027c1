"""The client's list of the trainer's options is the built program's, and both refuse the same values."""

import subprocess

import pytest

from job_kinds import JobError
from trainer_options import FILE, check_option, file_text, options_of


def test_the_file_holds_what_the_built_programs_say(bin_folder):
    assert FILE.read_text() == file_text(bin_folder), "run sagemaker/trainer_options.py BIN_FOLDER"


TAKEN = [
    ("train.epochs", 3),
    ("train.epochs", "1e2"),
    ("train.micro_batches_per_step", 1048576),
    ("train.learning_rate", 0.0005),
    ("train.learning_rate", "5e-4"),
    ("train.epochs", 1e6),
    ("train.seed", 0),
    ("train.seed", 2.0**53),
    ("train.seed", 18446744073709551615),
    ("model.norm", "pre"),
    ("device.graphs", False),
    ("device.graphs", "true"),
    ("chat.prompts", "7"),
    ("chat.prompts", ""),
    ("preprocess.format", "topical-chat"),
    ("preprocess.vocabulary", "7"),
    ("preprocess.vocabulary_size", 32000),
    ("preprocess.vocabulary_size", "0032000"),
    ("preprocess.seed", 18446744073709551615),
]
REFUSED = [
    ("train.epochs", -1),
    ("train.epochs", 1.5),
    ("train.epochs", "three"),
    ("train.epochs", "007"),
    ("train.epochs", True),
    ("train.micro_batches_per_step", 1048577),
    ("train.learning_rate", "NaN"),
    ("train.learning_rate", 11),
    ("train.seed", "1e999"),
    ("train.seed", -1),
    ("train.seed", 1e17),
    ("train.seed", 18446744073709551616),
    ("model.norm", "Pre"),
    ("model.norm", ""),
    ("device.graphs", 1),
    ("device.graphs", "yes"),
    ("preprocess.format", "csv"),
    ("preprocess.lowercase", True),
    ("preprocess.min_count", 0),
    ("preprocess.vocabulary", ""),
    ("preprocess.vocabulary_size", "1e5"),
    ("preprocess.vocabulary_size", 100.0),
    ("preprocess.vocabulary_size", "+100"),
    ("preprocess.seed", "1e3"),
    ("preprocess.seed", 18446744073709551616),
    ("preprocess.seed", "1" * 5000),
]


def program_takes(bin_folder, folder, name, value):
    """Its status is 2 for an option, and another one for the data that are not there."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if name.startswith("preprocess."):
        option = name.removeprefix("preprocess.").replace("_", "-")
        command = ["duologue-preprocess", f"{folder}/none", f"--output={folder}/shards", f"--{option}={text}"]
    else:
        command = ["duologue", "train", f"--data.path={folder}/none", f"--output.path={folder}", f"--{name}={text}"]
    done = subprocess.run([bin_folder / command[0], *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.returncode != 2


@pytest.mark.parametrize("name, value", TAKEN)
def test_what_the_program_takes_is_taken(bin_folder, tmp_path, name, value):
    check_option(name, value)
    assert program_takes(bin_folder, tmp_path, name, value)


@pytest.mark.parametrize("name, value", REFUSED)
def test_what_the_program_refuses_is_refused_with_what_it_must_be(bin_folder, tmp_path, name, value):
    with pytest.raises(JobError, match=f"hyperparameters.{name} = .* must be .+"):
        check_option(name, value)
    assert not program_takes(bin_folder, tmp_path, name, value)


@pytest.mark.parametrize(
    "name, message",
    [
        ("train.epoch", "the trainer has no such option; did you mean 'train.epochs'"),
        ("epochs", "did you mean 'train.epochs'"),
        ("preprocess.vocabulary-size", "did you mean 'preprocess.vocabulary_size'"),
        ("nothing.like_it", "the trainer has no such option$"),
        ("output.path", "the container sets this itself"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(name, message):
    with pytest.raises(JobError, match=message):
        check_option(name, "1")


HELP = """usage: duologue train [OPTION...]
options:
  --help, -h     print this
  --config FILE  JSON file

train:
  --train.epochs INTEGER
      passes over the data, (as many as you like) [at
      least 1; default 10]
  --train.epsilon NUMBER  Adam [1e-12 to 1; default 1e-09]
  --train.norm a|b|c   x [default pre]
  --train.on true|false  x [default true]
  --train.file FILE  x

`duologue train` has examples in README.md
"""


def test_help_is_read_whatever_its_columns():
    assert dict(options_of(HELP)) == {
        "train.epochs": {"type": "integer", "least": 1, "default": "10"},
        "train.epsilon": {"type": "number", "least": 1e-12, "most": 1, "default": "1e-09"},
        "train.norm": {"type": "choice", "choices": ["a", "b", "c"], "default": "pre"},
        "train.on": {"type": "switch", "default": "true"},
        "train.file": {"type": "text"},
    }


def test_options_of_preprocessing_have_their_underscores():
    text = "  --version  print it\n  --min-count INTEGER   words [required; 1 to 9]\n  --to FILE  x\n"
    assert dict(options_of(text, "preprocess.")) == {
        "preprocess.min_count": {"type": "integer", "least": 1, "most": 9},
        "preprocess.to": {"type": "text"},
    }
