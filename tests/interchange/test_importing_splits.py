"""The training pairs of an import: drawn as published code draws them, read from files, stored beside the weights, or
unknown."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from interp.errors import InputError
from interp.experiment import Task
from interp.interchange import import_run
from interp.testing import circuit_checkpoint, circuit_neurons

P = 7


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a network that adds, in the folder we stand in."""
    monkeypatch.chdir(tmp_path)
    weights = circuit_checkpoint(
        Task(P), circuit_neurons([1, 2, 3], per_frequency=16, circuit="clock"), strength=0.2
    ).weights
    torch.save({name: weight.float() for name, weight in weights.items()}, "net.pt")
    return Path("net.pt")


def test_splits_are_drawn_as_published_code_draws_them(network: Path):
    torch.manual_seed(598)
    expected = torch.randperm(P * P)[: int(P * P * 0.3)].sort().values.tolist()
    run = import_run(network, "a", split="torch-randperm:598", train_fraction=0.3)
    assert run.task.train_indices.tolist() == expected
    pairs = [(i, j, P) for i in range(P) for j in range(P)]
    random.seed(3)
    random.shuffle(pairs)
    run = import_run(network, "b", split="python-shuffle:3", train_fraction=0.3)
    assert run.task.train_indices.tolist() == sorted(i * P + j for i, j, _ in pairs[: int(0.3 * len(pairs))])


def test_splits_from_files(network: Path):
    flat = [3, 0, 48, 17]
    Path("flat.json").write_text(json.dumps(flat))
    Path("pairs.json").write_text(json.dumps([divmod(index, P) for index in flat]))
    np.save("flat.npy", np.array(flat))
    safetensors.torch.save_file({"train_indices": torch.tensor(flat)}, "flat.safetensors")
    for number, name in enumerate(("flat.json", "pairs.json", "flat.npy", "flat.safetensors")):
        assert import_run(network, f"run{number}", split=f"file:{name}").task.train_indices.tolist() == [0, 3, 17, 48]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (
            "torch-randperm",
            "--split must be torch-randperm:SEED, python-shuffle:SEED, file:PATH, infer or none, got 'torch-randperm'",
        ),
        ("torch-randperm:x", "--split must be"),
        ("python-shuffle:1", "also needs the share of pairs trained on: --train-fraction"),
        ("torch-randperm:1 0", "--train-fraction must be greater than 0, got 0"),
        ("torch-randperm:1 nan", "--train-fraction must be finite, got nan"),
        ("none 2", "--train-fraction must be at most 1, got 2"),
        ("file:none.json", "there is no file none.json"),
        ("file:bad.json", "bad.json holds no list of indices or pairs"),
        ("file:large.json", "large.json holds 0 to 49, expected indices a·p \\+ b below 49"),
        ("file:twice.json", "twice.json names a pair twice"),
        ("file:text.json", "text.json must hold integers"),
        ("file:deep.json", "deep.json has shape"),
        ("file:bad.npy", "bad.npy is damaged"),
    ],
)
def test_splits_that_cannot_be(split: str, expected: str, network: Path):
    files = {
        "bad.json": "[1,",
        "large.json": "[0, 49]",
        "twice.json": "[1, 1]",
        "text.json": '["a"]',
        "deep.json": "[[[1]]]",
        "bad.npy": "x",
    }
    for name, text in files.items():
        Path(name).write_text(text)
    way, _, fraction = split.partition(" ")
    with pytest.raises(InputError, match=expected):
        import_run(network, "run", split=way, train_fraction=float(fraction) if fraction else None)


def test_pairs_stored_beside_the_weights_are_taken(network: Path):
    weights = torch.load(network, weights_only=True)
    torch.save({"model": weights, "train_indices": torch.tensor([5, 2])}, network)
    assert import_run(network, "run").task.split == (2, 5)
    assert import_run(network, "other", split="none").task.split == "unknown"
    torch.save({"model": weights, "train_indices": [5, 5]}, network)
    with pytest.raises(
        InputError, match=r"cannot be used \(train_indices names a pair twice\); give --split, or --split none"
    ):
        import_run(network, "third")


def test_the_pairs_of_published_code_lie_beside_the_first_weights(network: Path):
    """Nanda et al.'s code saves (a, b, p) with init.pth, and no split with the others."""
    weights = torch.load(network, weights_only=True)
    Path("theirs").mkdir()
    torch.save({"model": weights, "train_data": [(0, 5, P), (0, 2, P), (6, 6, P)], "test_data": []}, "theirs/init.pth")
    torch.save({"model": weights, "epoch": 100}, "theirs/100.pth")
    run = import_run("theirs", "run")
    assert run.task.split == (2, 5, 48)
    assert run.info["imported"]["split"] == "train_data beside the weights"
    torch.save({"model": weights, "train_data": [(0, 5, P + 1)]}, "theirs/init.pth")
    assert import_run("theirs", "other").task.split == "unknown"
