"""Objects that people keep beside their weights: their plain values are read, and their classes neither imported nor
made."""

import argparse
import collections
import pathlib
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange.importing.configuration import configuration_of
from interp.interchange.importing.pickles import load_pickled
from interp.interchange.importing.source import Claim
from interp.interchange.importing.sources import find_sources
from interp.models import initial_weights

WEIGHTS = initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3), 5)
MADE: list[str] = []


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    MADE.clear()


@dataclass
class TrainConfig:
    """As a training script keeps its own; that it is made, or its state set, would be seen."""

    p: int = 5
    layers: list[int] = field(default_factory=lambda: [1, 2])

    def __setstate__(self, state: dict) -> None:
        MADE.append("state")
        self.__dict__.update(state)

    def __new__(cls, *_: Any) -> "TrainConfig":
        MADE.append("made")
        return super().__new__(cls)


class AttributeDict(dict):
    """As Lightning keeps settings."""


class EvilConfig:
    """A name like that of settings, and a program."""

    def __reduce__(self) -> tuple:
        return Path.mkdir, (Path("executed"),)


def read(value: Any) -> Any:
    torch.save({"model": WEIGHTS, "value": value}, "net.pt")
    MADE.clear()
    return load_pickled(Path("net.pt"))["value"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: argparse.Namespace(p=113, out=pathlib.PurePosixPath("a/b")), {"p": 113, "out": "a/b"}),
        (lambda: types.SimpleNamespace(p=113, more={"lr": 0.1}), {"p": 113, "more": {"lr": 0.1}}),
        (TrainConfig, {"p": 5, "layers": [1, 2]}),
        (lambda: AttributeDict(p=5), {"p": 5}),
        (lambda: collections.defaultdict(list, {"a": [1]}), {"a": [1]}),
        (lambda: np.float64(0.5), 0.5),
        (lambda: np.float32(0.25), 0.25),
        (lambda: np.int64(7), 7),
        (lambda: np.bool_(True), True),
        (lambda: [np.int32(-1), {"x": np.float16(2)}], [-1, {"x": 2.0}]),
    ],
)
def test_plain_values_of_objects(make: Callable[[], Any], expected: Any):
    assert read(make()) == expected
    assert MADE == []


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i8", "|u1", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_numpy_become_tensors(kind: str, order: Any):
    values = np.array(np.arange(6).reshape(2, 3), dtype=kind, order=order)
    assert read({"inside": [values]})["inside"][0].tolist() == values.tolist()


def test_settings_and_numbers_beside_weights_are_used():
    args = argparse.Namespace(prime=5, act_fn="relu", seed=3)
    torch.save({"model": WEIGHTS, "args": args, "epoch": np.int64(12), "val_acc": np.float64(1.0)}, "net.pt")
    [source] = find_sources([Path("net.pt")])
    assert source.step == 12
    assert source.claims == (Claim("val_acc", "test", "accuracy", 1.0),)
    assert source.beside["seeds"] == {"seed": 3}
    assert configuration_of(source) == ({"p": 5}, {"activation": "relu"}, "the file of weights")


def test_a_state_dict_of_arrays_is_one_of_tensors():
    torch.save({name: weight.numpy() for name, weight in WEIGHTS.items()}, "net.pt")
    [source] = find_sources([Path("net.pt")])
    assert all(torch.equal(tensor, WEIGHTS[name]) for name, tensor in source.load().items())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (EvilConfig(), "would run '.*getattr', .*nothing of it was executed|would run 'pathlib"),
        (
            np.array([EvilConfig()], dtype=object),
            "would run '.*getattr', .*nothing of it was executed|would run 'pathlib",
        ),
        (np.array(["a"], dtype=object), "cannot be loaded: numpy's values of type 'O8' are not read"),
        (np.array("2020", dtype="M8[s]"), "cannot be loaded: numpy's values of type 'M8' are not read"),
    ],
)
def test_what_is_no_plain_value_is_refused(value: Any, expected: str):
    torch.save({"model": WEIGHTS, "value": value}, "net.pt")
    with pytest.raises(InputError, match=expected) as caught:
        load_pickled(Path("net.pt"))
    assert "weights_only" not in str(caught.value)
    assert not Path("executed").exists()


def test_a_class_by_its_name_alone_is_not_imported():
    assert read(EvilConfig) is not EvilConfig
