"""numpy's arrays: archives, folders of arrays, our own export and back; nothing unpickled, nothing larger than it
says."""

import io
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange import export_run, import_run
from interp.interchange.importing.source import Claim
from interp.interchange.importing.sources import find_sources
from interp.models import initial_weights

WEIGHTS = initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3), 5)
ARRAYS = {name: tensor.numpy() for name, tensor in WEIGHTS.items()}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def only(path: str) -> dict[str, torch.Tensor]:
    [source] = find_sources([Path(path)])
    tensors = source.load()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == source.shapes
    return tensors


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_of_arrays(save: Any):
    save("step_300.npz", **ARRAYS)
    tensors = only("step_300.npz")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in WEIGHTS.items())
    assert find_sources([Path("step_300.npz")])[0].step == 300


def test_what_an_archive_says_besides():
    np.savez("net.npz", **ARRAYS, step=7, train_loss=0.5, train_indices=np.arange(4), optimizer="adamw")
    [source] = find_sources([Path("net.npz")])
    assert source.step == 7
    assert source.claims == (Claim("train_loss", "train", "loss", 0.5),)
    assert source.beside["train_indices"].tolist() == [0, 1, 2, 3]
    assert source.shapes.keys() == WEIGHTS.keys()


def test_names_with_slashes_orders_and_types():
    changed = {name.replace(".", "/"): np.asfortranarray(array.astype(">f8")) for name, array in ARRAYS.items()}
    np.savez("net.npz", **changed)
    tensors = only("net.npz")
    assert all(torch.equal(tensors[name], tensor.double()) for name, tensor in WEIGHTS.items())


def test_a_folder_of_arrays():
    Path("net").mkdir()
    for name, array in ARRAYS.items():
        np.save(f"net/{name}.npy", array)
    tensors = only("net")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in WEIGHTS.items())
    Path("series/step_10").mkdir(parents=True)
    Path("net").rename("series/step_20")
    for name, array in ARRAYS.items():
        np.save(f"series/step_10/{name}.npy", array)
    assert [source.step for source in find_sources([Path("series")])] == [10, 20]


def test_arrays_beside_other_weights_are_no_network():
    torch.save(WEIGHTS, "5.pt")
    np.save("losses.npy", np.ones(100))
    assert [source.step for source in find_sources([Path()])] == [5]
    Path("logs").mkdir()
    np.save("logs/losses.npy", np.ones(100))
    with pytest.raises(InputError, match=r"no files of weights .*'\*.npy' was passed over: fewer than two"):
        find_sources([Path("logs")])


def test_our_own_arrays_come_back_whole():
    """Every checkpoint with its step and its numbers, the split, and what the last one is said to have."""
    reference = interp.open_run(interp.reference_path())
    export_run(reference, "numpy", "arrays")
    run = import_run("arrays", "run")
    assert run.steps == reference.steps
    assert run.task.train_indices.tolist() == reference.task.train_indices.tolist()
    assert (run.task.operation, run.task.p, run.model) == ("add", 43, replace(reference.model, seed=0))
    for name in WEIGHTS:
        assert torch.equal(run.trajectory(name), reference.trajectory(name))
    imported = run.info["imported"]
    assert imported["proof"]["verified"]
    assert {claim["name"]: claim["agrees"] for claim in imported["proof"]["claims"]} == dict.fromkeys(
        ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "logits as at export"), True
    )
    assert imported["split"] == "train_indices beside the weights"
    # An export from before there was a config.json in it.
    Path("arrays/config.json").unlink()
    assert import_run("arrays", "again").steps == reference.steps


def test_all_checkpoints_in_one_archive():
    stacked = {name: np.stack([array, 2 * array]) for name, array in ARRAYS.items()}
    np.savez("all.npz", **stacked, steps=np.array([5, 9]))
    first, second = find_sources([Path("all.npz")])
    assert (first.step, second.step) == (5, 9)
    assert torch.equal(second.load()["embed.W_E"], 2 * WEIGHTS["embed.W_E"])
    # A list of steps that belongs to something else makes no series.
    np.savez("net.npz", **ARRAYS, steps=np.arange(100))
    assert len(find_sources([Path("net.npz")])) == 1


# ---- hostile ---------------------------------------------------------------------------------------------------------


class Malicious:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def test_arrays_of_objects_are_refused_and_nothing_is_executed():
    hostile = np.array([Malicious()], dtype=object)
    np.savez("net.npz", **ARRAYS, extra=hostile)
    Path("net").mkdir()
    for name, array in {**ARRAYS, "extra": hostile}.items():
        np.save(f"net/{name}.npy", array)
    for path in ("net.npz", "net"):
        with pytest.raises(InputError, match=r"extra.* holds Python objects, .*; nothing of it was executed"):
            find_sources([Path(path)])
    # Beside weights, curves that somebody kept so are passed over.
    Path("run").mkdir()
    np.savez("run/step_1.npz", **ARRAYS)
    np.savez("run/history.npz", losses=hostile)
    [source] = find_sources([Path("run")])
    assert source.notes[0].startswith("'history.npz' was passed over: fewer than two of its arrays are matrices")
    assert not Path("executed").exists()


def header(shape: str, kind: str = "<f4") -> bytes:
    said = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    said += b" " * (63 - (len(said) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("(1000000, 100000)", "damaged: it claims 400,000,000,000 bytes|would unpack to 400,000,000,000"),
        ("(1000000000000, 100000)", "makes no sense"),
        ("(-1, 4)", "makes no sense"),
        ("(True, 4)", "^net"),
        ("'text'", "is damaged"),
        ("(" * 3000, "is damaged"),
        ("__import__('os').mkdir('executed')", "is damaged"),
    ],
)
def test_what_a_header_claims_is_checked_before_anything_is_allocated(shape: str, expected: str):
    content = header(shape) + bytes(64)
    with zipfile.ZipFile("net.npz", "w") as archive:
        archive.writestr("W.npy", content)
    Path("net").mkdir()
    Path("net/W.npy").write_bytes(content)
    for path in ("net.npz", "net"):
        with pytest.raises(InputError, match=expected) as caught:
            find_sources([Path(path)])[0].load()
        assert "\n" not in str(caught.value)
    assert not Path("executed").exists()


def test_an_archive_that_would_unpack_to_far_more_than_it_is():
    np.savez_compressed("bomb.npz", a=np.zeros((2000, 5000), np.float32), b=np.zeros((3000, 3000), np.float32))
    began = time.process_time()  # whatever else the machine is doing
    with pytest.raises(InputError, match=r"bomb.npz has [\d,]+ bytes and would unpack to 76,000,000; it may be built"):
        find_sources([Path("bomb.npz")])
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", ["|V2", "<f16", "<M8[s]"])
def test_numbers_that_nobody_computes_with(kind: str):
    with zipfile.ZipFile("net.npz", "w") as archive:
        archive.writestr("W.npy", header("(2, 2)", kind) + bytes(64))
    with pytest.raises(InputError, match=r"holds numbers of type .*; save them as float32|is damaged"):
        find_sources([Path("net.npz")])


def test_a_damaged_archive_is_told_when_it_is_read():
    np.savez("net.npz", **ARRAYS)
    content = bytearray(Path("net.npz").read_bytes())
    at = bytes(content).index(ARRAYS["embed.W_E"].tobytes())
    content[at] ^= 1
    Path("net.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"net.npz is damaged: Bad CRC-32"):
        find_sources([Path("net.npz")])[0].load()


def test_what_else_is_in_an_archive():
    file = io.BytesIO()
    np.savez(file, **ARRAYS)
    Path("net.npz").write_bytes(file.getvalue())
    with zipfile.ZipFile("net.npz", "a") as archive:
        archive.writestr("data.txt", b"x")
    with pytest.raises(InputError, match=r"net.npz is a zip archive, and no file of torch.save"):
        find_sources([Path("net.npz")])
