# The trainer's own configuration file, with its defaults, as the peer needs it.
import json
from types import SimpleNamespace

DEFAULTS = {
    "data": {"max_context_tokens": 128, "max_reply_tokens": 40, "micro_batch_tokens": 4096},
    "model": {
        "width": 256,
        "heads": 4,
        "hidden": 1024,
        "encoder_layers": 3,
        "decoder_layers": 3,
        "norm": "post",
        "activation": "relu",
        "dropout": 0.1,
        "attention_dropout": 0.0,
    },
    "train": {
        "micro_batches_per_step": 4,
        "schedule": "paper",
        "learning_rate": 0.0,
        "warmup_steps": 4000,
        "beta1": 0.9,
        "beta2": 0.98,
        "epsilon": 1e-9,
        "clip_norm": 1.0,
        "label_smoothing": 0.1,
        "seed": 1,
    },
}


def load_settings(path, overrides):
    """`overrides`: texts like train.warmup_steps=400. Options that only the trainer has are left out."""
    with open(path) as file:
        given = json.load(file)
    for override in overrides:
        key, _, value = override.removeprefix("--").partition("=")
        section, _, name = key.partition(".")
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            pass  # a word
        given.setdefault(section, {})[name] = value
    sections = {}
    for section, defaults in DEFAULTS.items():
        values = {name: given.get(section, {}).get(name, default) for name, default in defaults.items()}
        sections[section] = SimpleNamespace(**values)
    settings = SimpleNamespace(**sections)
    model, train = settings.model, settings.train
    if (model.norm, model.activation, train.schedule) != ("post", "relu", "paper") or train.learning_rate != 0.0:
        raise SystemExit("the peer knows norm=post, activation=relu and the paper's schedule only")
    return settings


def learning_rate(settings, step):
    """Vaswani et al. 2017, eq. 3; `step` counts from 1."""
    warmup = settings.train.warmup_steps
    return settings.model.width**-0.5 * min(step**-0.5, step * warmup**-1.5)
