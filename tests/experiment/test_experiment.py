"""Experiments: one hash for one experiment, files that say what is wrong in them, and schedules."""

import json
import math
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.errors import InputError, flag
from interp.experiment import (
    SECTIONS,
    Attention,
    DecayFactors,
    Experiment,
    GradientFilter,
    Mlp,
    ModelConfig,
    Norm,
    Regularizers,
    Task,
    TrainingConfig,
    experiment_from_dict,
    experiment_from_toml,
    hash_of,
    json_values,
    preset,
    section_from_dict,
    section_to_dict,
)

# For every field a value that is not its default.
OTHER: dict[str, dict[str, Any]] = {
    "task": {
        "p": 97,
        "operation": "random",
        "train_fraction": 0.4,
        "train_pairs": 500,
        "split": (3, 1, 4),
        "label_noise": 0.1,
        "symmetric": True,
        "seed": 5,
        "validation_fraction": 0.5,
        "augmentation": "mirror",
    },
    "model": {
        "family": "mlp",
        "n_layers": 2,
        "d_model": 64,
        "n_heads": 2,
        "d_head": 8,
        "d_mlp": 100,
        "activation": "gelu",
        "prompt": "ab",
        "causal": False,
        "attention_rate": 0.5,
        "vocabularies": "two",
        "inputs": "concatenated",
        "embedding": "tied",
        "answer_at": 1,
        "biases": True,
        "initialization": "uniform",
        "initialization_scale": 0.5,
        "tied": True,
        "norm": Norm(kind="layer"),
        "attention": Attention(rotary_base=100.0),
        "mlp": Mlp(gated=True),
        "seed": 5,
    },
    "training": {
        "steps": 10,
        "optimizer": "sgd",
        "lr": 0.003,
        "weight_decay": 0.3,
        "betas": (0.8, 0.95),
        "eps": 1e-6,
        "momentum": 0.5,
        "warmup": 0,
        "batch_size": 64,
        "checkpoint_every": None,
        "checkpoint_log": 7,
        "checkpoint_steps": (3, 5),
        "log_every": 2,
        "seed": 5,
        "loss": "stablemax",
        "loss_precision": "float32",
        "label_smoothing": 0.1,
        "zero_sum": True,
        "filter": GradientFilter(kind="ema"),
        "regularizers": Regularizers(l1=0.1),
        "decay": DecayFactors(mlp=0.5),
        "one_pass": True,
    },
}


OF_AN_MLP = {"family": "mlp"}
NEEDED = {
    "symmetric": {"operation": "random"},
    "inputs": OF_AN_MLP,
    "embedding": OF_AN_MLP,
    "initialization": OF_AN_MLP,
    "one_pass": {"batch_size": 10, "steps": 100},
}


def changed(section: str, name: str) -> Experiment:
    values = {name: OTHER[section][name]} | NEEDED.get(name, {})
    return replace(Experiment(), **{section: SECTIONS[section](**values)})


ONE_FIELD_CHANGED = [changed(section, name) for section, values in OTHER.items() for name in values]


# ---- values and hashes -----------------------------------------------------------------------------------------------


def test_every_field_is_covered_here() -> None:
    assert {section: list(values) for section, values in OTHER.items()} == {
        # What was recorded of a module is no experiment (tests/models/test_recording.py).
        section: [field.name for field in fields(kind) if field.metadata.get("option", True)]
        for section, kind in SECTIONS.items()
    }


def test_every_field_changes_the_hash_and_equal_experiments_share_it() -> None:
    hashes = [experiment.hash for experiment in [Experiment(), *ONE_FIELD_CHANGED]]
    assert len(set(hashes)) == len(hashes)
    assert Experiment().hash == Experiment(Task(), ModelConfig(), TrainingConfig()).hash
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in hashes)


def test_an_integer_in_a_float_field_is_the_same_experiment() -> None:
    integers = Experiment(
        Task(train_fraction=1, label_noise=0), ModelConfig(attention_rate=1), TrainingConfig(lr=1, betas=(0, 0))
    )
    floats = Experiment(Task(train_fraction=1.0), ModelConfig(), TrainingConfig(lr=1.0, betas=(0.0, 0.0)))
    assert integers == floats
    assert integers.hash == floats.hash
    assert json.dumps(integers.to_dict()) == json.dumps(floats.to_dict())


def test_a_hash_does_not_depend_on_the_order_of_names() -> None:
    values = Experiment().to_dict()
    backwards = {section: dict(reversed(content.items())) for section, content in reversed(values.items())}
    assert list(backwards) != list(values)
    assert hash_of(backwards) == hash_of(values) == Experiment().hash


@pytest.mark.parametrize("experiment", ONE_FIELD_CHANGED)
def test_round_trip_through_json(experiment: Experiment) -> None:
    again = experiment_from_dict(json.loads(json.dumps(experiment.to_dict())))
    assert again == experiment
    assert again.hash == experiment.hash


def test_every_field_is_written_out() -> None:
    for kind in SECTIONS.values():
        assert set(section_to_dict(kind())) == {field.name for field in fields(kind)}


def test_experiments_are_values() -> None:
    with pytest.raises(FrozenInstanceError):
        Experiment().model.d_model = 3
    assert len({Experiment(), Experiment(), changed("task", "p")}) == 2


@pytest.mark.parametrize(("prompt", "n_ctx"), [("ab", 2), ("ab=", 3)])
@pytest.mark.parametrize("d_model", [8, 60, 128])
def test_sizes_follow_from_sizes(d_model: int, prompt: str, n_ctx: int) -> None:
    model = ModelConfig(d_model=d_model, n_heads=4, prompt=prompt)
    assert (model.head_size, model.n_ctx) == (d_model // 4, n_ctx)
    assert replace(model, d_head=5).head_size == 5


# ---- schedules -------------------------------------------------------------------------------------------------------


def test_kept_steps_are_the_union_of_the_schedules_with_the_first_and_the_last() -> None:
    training = TrainingConfig(steps=25, checkpoint_every=10, checkpoint_steps=(7, 3))
    assert training.kept_steps() == [0, 3, 7, 10, 20, 25]
    assert TrainingConfig(steps=25, checkpoint_every=None).kept_steps() == [0, 25]
    assert TrainingConfig(steps=0, checkpoint_log=5).kept_steps() == [0]


def test_log_spaced_steps_have_one_ratio() -> None:
    training = TrainingConfig(steps=10_000, checkpoint_every=None, checkpoint_log=5)
    assert training.kept_steps() == [0, 1, 10, 100, 1000, 10_000]
    assert TrainingConfig(steps=10_000, checkpoint_every=None, checkpoint_log=1).kept_steps() == [0, 1, 10_000]
    dense = TrainingConfig(steps=50, checkpoint_every=None, checkpoint_log=200).kept_steps()
    assert dense == list(range(51))


# ---- files -----------------------------------------------------------------------------------------------------------


def toml(folder: Path, text: str) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        "[task]\np = 97\n[model]\nd-model = 64\nd_mlp = 100\n[training]\nlr = 1\nbetas = [0, "
        "0.9]\ncheckpoint-steps = [3]",
    )
    expected = Experiment(
        Task(p=97), ModelConfig(d_model=64, d_mlp=100), TrainingConfig(lr=1.0, betas=(0.0, 0.9), checkpoint_steps=(3,))
    )
    assert experiment_from_toml(path) == expected
    on_nanda = experiment_from_toml(path, preset("nanda"))
    assert (on_nanda.training.steps, on_nanda.training.lr, on_nanda.task.p) == (40_000, 1.0, 97)
    assert experiment_from_toml(toml(tmp_path, "")) == Experiment()


def test_every_field_can_be_written_in_a_file() -> None:
    not_together = {"train_pairs", *NEEDED} - {"symmetric"} | {"family", "zero_sum"}
    for section, fields_of_section in OTHER.items():
        values = {name: value for name, value in fields_of_section.items() if name not in not_together}
        as_toml = {
            flag(name): section_to_dict(value)
            if is_dataclass(value)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in values.items()
        }
        assert section_from_dict(section, as_toml) == SECTIONS[section](**values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[task]\nmodulus = 7", r"unknown field in \[task\] 'modulus'"),
        ("[model]\nd-modle = 7", r"unknown field in \[model\] 'd-modle'; did you mean 'd-model'"),
        ("[trainig]\nlr = 1", "unknown section 'trainig'; did you mean 'training'"),
        ("lr = 1", "unknown section 'lr'"),
        ("task = 3", "task must be a table of fields, got 3"),
        ('[task]\np = "7"', "task.p: .*integer, got '7'"),
        ("[task]\np = 7.0", "task.p: .*integer, got 7.0"),
        ("[training]\nlr = true", "training.lr: .*number, got True"),
        ("[training]\nlr = nan", "training.lr must be finite"),
        ("[training]\nbetas = [0.9]", "training.betas: .*got"),
        ('[model]\nactivation = "rellu"', "model.activation: .*'relu'.*got 'rellu'"),
        ("[task]\np = 1", "task.p must be at least 2"),
        ('[task]\nsplit = "unknown"', "task.split is unknown"),
        ("[task\np = 1", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        experiment_from_toml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the configuration .*absent.toml: No such file"):
        experiment_from_toml(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="cannot read the configuration"):
        experiment_from_toml(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"latin.toml is not valid TOML"):
        experiment_from_toml(tmp_path / "latin.toml")


# ---- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_layers": 0}, "model.n-layers must be at least 1, got 0"),
        ({"d_model": -5}, "model.d-model must be at least 1, got -5"),
        ({"n_heads": 2.0}, "model.n-heads must be an integer"),
        ({"d_mlp": 0}, "model.d-mlp must be at least 1"),
        ({"d_head": 0}, "model.d-head must be at least 1"),
        ({"d_model": 130}, "model.d-model 130 is not a multiple of model.n-heads 4; give model.d-head"),
        ({"activation": "rellu"}, "unknown model.activation 'rellu'; did you mean 'relu'"),
        ({"prompt": "a+"}, "model.prompt must have a and b, each once"),
        ({"attention_rate": 1.1}, "model.attention-rate must be at most 1"),
        ({"attention_rate": math.nan}, "model.attention-rate must be finite"),
        ({"seed": -1}, "model.seed must be at least 0"),
    ],
)
def test_a_model_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": -1}, "training.steps must be at least 0"),
        ({"steps": 10**9}, "training.steps must be at most"),
        ({"optimizer": "sdg"}, "unknown training.optimizer 'sdg'; did you mean 'sgd'"),
        ({"lr": 0}, "training.lr must be greater than 0"),
        ({"lr": math.inf}, "training.lr must be finite"),
        ({"weight_decay": -1}, "training.weight-decay must be at least 0"),
        ({"betas": (0.9,)}, "training.betas must be two numbers"),
        ({"betas": (0.9, 1.0)}, "training.betas must be less than 1"),
        ({"eps": 0}, "training.eps must be greater than 0"),
        ({"momentum": 1}, "training.momentum must be less than 1"),
        ({"warmup": -1}, "training.warmup must be at least 0"),
        ({"batch_size": 0}, "training.batch-size must be at least 1"),
        ({"checkpoint_every": 0}, "training.checkpoint-every must be at least 1"),
        ({"checkpoint_log": 0}, "training.checkpoint-log must be at least 1"),
        ({"checkpoint_steps": (3, 2001)}, "training.checkpoint-steps must be at most 2000, got 2001"),
        ({"log_every": 0}, "training.log-every must be at least 1"),
        ({"seed": 2**32}, "training.seed must be at most"),
    ],
)
def test_a_training_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingConfig(**values)


def test_an_experiment_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"task.split is unknown: .* needs its training pairs"):
        Experiment(Task(split="unknown"))
    with pytest.raises(InputError, match=r"training.batch-size 15 is larger than the training set of 14 pairs"):
        Experiment(Task(p=7), training=TrainingConfig(batch_size=15))
    assert Experiment(Task(p=7), training=TrainingConfig(batch_size=14)).training.batch_size == 14


def test_plain_data_becomes_json() -> None:
    plain = {1: math.nan, "b": (np.float32(0.5), np.int64(3), np.bool_(True)), "c": [{"d": -math.inf}, "e", None, 2]}
    expected = {"1": None, "b": [0.5, 3, True], "c": [{"d": None}, "e", None, 2]}
    assert json.dumps(json_values(plain), allow_nan=False) == json.dumps(expected)
