"""Every field is an option and a key of a file, and preset < file < options."""

import json
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from interp.cli import main
from interp.cli.commands.training import Train
from interp.cli.options import _one_line, value_of
from interp.errors import flag
from interp.experiment import SECTIONS, Experiment, preset
from interp.runs import open_run

# Every field there is, with a value that is not its default.
EVERY_FIELD = {
    "task": {
        "p": 11,
        "operation": "random",
        "train-fraction": 0.45,
        "train-pairs": 40,
        "split": [0, 5, 7, 60, 100],
        "label-noise": 0.2,
        "symmetric": True,
        "seed": 3,
        "validation-fraction": 0.25,
        "augmentation": "mirror",
    },
    "model": {
        "family": "transformer",
        "n-layers": 2,
        "d-model": 12,
        "n-heads": 3,
        "d-head": 6,
        "d-mlp": 9,
        "activation": "gelu",
        "prompt": "ab",
        "causal": False,
        "attention-rate": 0.25,
        "vocabularies": "two",
        "inputs": "sum",
        "embedding": "none",
        "answer-at": 0,
        "biases": True,
        "initialization-scale": 0.5,
        "tied": True,
        "norm": {"kind": "rms", "order": "post", "at": ["mlp", "final"], "learned": False, "epsilon": 0.001},
        "attention": {"rotary-base": 50.0},
        "mlp": {"gated": True},
        "seed": 4,
    },
    "training": {
        "steps": 8,
        "optimizer": "adam",
        "lr": 0.003,
        "weight-decay": 0.5,
        "betas": [0.8, 0.95],
        "eps": 1e-7,
        "momentum": 0.6,
        "warmup": 2,
        "batch-size": 4,
        "checkpoint-every": 4,
        "checkpoint-log": 3,
        "checkpoint-steps": [3, 7],
        "log-every": 1,
        "seed": 6,
        "loss": "stablemax",
        "loss-precision": "float32",
        "label-smoothing": 0.1,
        "filter": {"kind": "ma", "strength": 5.0, "memory": 0.98, "window": 3, "orthogonal": True},
        "regularizers": {
            "l2": 0.0,  # which with Adam is weight decay
            "l1": 0.01,
            "l1-form": "subgradient",
            "dropout": 0.1,
            "weight-noise": 0.01,
            "gradient-noise": 0.001,
            "norm": "tensors",
        },
        "decay": {"embedding": 0.5, "attention": 2.0, "mlp": 0.0, "unembedding": 1.5},
    },
}


# Fields that cannot be set beside the others: of an MLP alone, of cross-entropy alone, and without mirrors and noise.
BESIDE = ("initialization", "zero_sum", "one_pass")


def as_flags(values: dict[str, dict]) -> list[str]:
    """The spelling of fields on the command line."""
    flags = []
    for section, content in values.items():
        for name, value in content.items():
            if isinstance(value, dict):
                flags += as_flags({f"{section}.{name}": value})
            elif isinstance(value, bool):
                flags.append(f"--{section}.{'' if value else 'no-'}{name}")
            else:
                flags += [f"--{section}.{name}", *map(str, value if isinstance(value, list) else [value])]
    return flags


def as_toml(values: dict[str, dict]) -> str:
    """The same fields in a TOML file; JSON's scalars and lists are TOML's."""
    lines = []
    for section, content in values.items():
        tables = {f"{section}.{name}": value for name, value in content.items() if isinstance(value, dict)}
        plain = {name: value for name, value in content.items() if not isinstance(value, dict)}
        lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in plain.items())]
        lines += [as_toml(tables)] if tables else []
    return "\n".join(lines)


def with_flags(values: dict) -> dict:
    """The same fields, spelt as flags, nested ones too."""
    return {flag(name): with_flags(value) if isinstance(value, dict) else value for name, value in values.items()}


def test_the_list_of_fields_is_complete_and_changes_every_default():
    defaults = Experiment()
    for section, kind in SECTIONS.items():
        options = [field for field in fields(kind) if field.metadata.get("option", True) and field.name not in BESIDE]
        assert [flag(field.name) for field in options] == list(EVERY_FIELD[section])
        for field in options:
            of_mlp = section == "model" and field.name in ("family", "inputs", "embedding")
            assert of_mlp or EVERY_FIELD[section][flag(field.name)] != getattr(getattr(defaults, section), field.name)


def test_every_field_is_an_option_and_a_key_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("every.toml").write_text(as_toml(EVERY_FIELD))
    assert tomllib.loads(Path("every.toml").read_text()) == EVERY_FIELD
    assert main(["train", *as_flags(EVERY_FIELD), "--out", "flags"]) == 0
    assert main(["train", "--config", "every.toml", "--out", "file"]) == 0
    for folder in ("flags", "file"):
        stored = json.loads(Path(folder, "run.json").read_text())["experiment"]
        assert with_flags(stored) == EVERY_FIELD
    assert open_run("flags").steps == [0, 1, 3, 4, 7, 8]


def test_what_was_recorded_of_a_module_is_no_option(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--help"]) == 0
    assert "model.module" not in capsys.readouterr().out
    assert main(["train", "--model.module.neurons", "4"]) == 2
    assert "unknown option --model.module.neurons" in capsys.readouterr().err
    assert main(["train", "--model.family", "module", "--out", "never"]) == 2
    assert "train it in its own loop" in capsys.readouterr().err


def test_the_fields_of_an_mlp_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fields_of_mlp = {
        "model": {"family": "mlp", "inputs": "concatenated", "embedding": "tied", "d-model": 8, "d-mlp": 9}
    }
    Path("mlp.toml").write_text(as_toml(fields_of_mlp | {"training": {"steps": 2}}))
    assert main(["train", *as_flags(fields_of_mlp), "--task.p", "5", "--training.steps", "2", "--out", "flags"]) == 0
    assert main(["train", "--config", "mlp.toml", "--task.p", "5", "--out", "file"]) == 0
    assert open_run("flags").model == open_run("file").model
    assert main(["verify", "flags"]) == 0
    assert main(["train", "--model.family", "mlp", "--model.prompt", "ab", "--out", "wrong"]) == 2


def test_the_field_of_one_pass_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    size = ["--model.d-model", "8", "--model.n-heads", "2", "--model.d-mlp", "8", "--task.p", "7"]
    training = {"training": {"steps": 2, "batch-size": 4, "one-pass": True}}
    Path("once.toml").write_text(as_toml(training))
    assert main(["train", *size, *as_flags(training), "--out", "flags"]) == 0
    assert main(["train", *size, "--config", "once.toml", "--out", "file"]) == 0
    assert open_run("flags").training == open_run("file").training
    assert open_run("flags").training.one_pass


def test_preset_then_file_then_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        as_toml({"model": {"d-model": 8, "d-mlp": 8}, "training": {"steps": 20, "lr": 0.02, "warmup": 3}})
    )
    flags = ["--task.p=7", "--training.lr", "0.03", "--model.n-heads", "2"]
    assert main(["train", "--preset", "nanda", "--config=mine.toml", *flags, "--out", "run"]) == 0
    run = open_run("run")
    assert (
        run.training.checkpoint_every
        == preset("nanda").training.checkpoint_every
        != preset("quick").training.checkpoint_every
    )
    assert (run.training.warmup, run.training.steps, run.model.d_mlp) == (3, 20, 8)
    assert (run.training.lr, run.task.p, run.model.n_heads) == (0.03, 7, 2)


def test_no_preset_means_quick():
    assert Train.defaults([]).training == preset("quick").training
    assert Train.defaults(["--preset=nanda"]).training == preset("nanda").training


def test_the_last_of_two_values_of_an_option_counts():
    assert value_of("--preset", ["--preset", "quick", "--preset=nanda"]) == "nanda"
    assert value_of("--preset", ["--config", "x", "--preset"]) is None


BOXED = """╭─ Missing argument ──────────────────────────────────────╮
│ Missing value for argument '--sort'. Expected 1 values. │
│ ─────────────────────────────────────────────────────── │
│ For full helptext, run interp list --help               │
╰─────────────────────────────────────────────────────────╯
"""
IN_ASCII = """ Required options
 ---------------------------------------------------------------------------
  Missing from interp list:
      RUN
          The folder of the run. (required)
      --keep-every INT
          Keep the checkpoints whose step is a multiple of this. (required)
  ---------------------------------------------------------------------------
  For full helptext, run:
      interp list --help
"""


def test_a_complaint_is_one_line_whatever_letters_the_terminal_has():
    assert _one_line(BOXED, "interp list") == "sort needs a value"
    spaces = BOXED.translate(str.maketrans("╭╮╰╯│─", "      "))
    in_ascii = spaces.replace("\n", f"\n {'-' * 57} \n", 1)
    assert _one_line(in_ascii, "interp list") == "sort needs a value"
    assert _one_line(IN_ASCII, "interp thin") == "interp thin needs RUN and --keep-every INT; see interp thin --help"
