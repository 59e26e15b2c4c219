"""Files that are no weights, each told for what it is; and weights in the wrappings that people keep them in."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange.importing.configuration import configuration_of
from interp.interchange.importing.source import Claim
from interp.interchange.importing.sources import find_sources
from interp.models import initial_weights

WEIGHTS = initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3), 5)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def archive(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name in names:
            zipped.writestr(name, b"x")
    return file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 679160\n"
KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "page.pt": (
        lambda: b"\n<!DOCTYPE html>\n<html><head><title>GitHub - a/b:\n grok</title></head>",
        r"page.pt is a page of HTML \('GitHub - a/b:\? grok'\), saved in place of the weights: download",
    ),
    "page.safetensors": (lambda: b"<html><body>sign in</body></html>", "is a page of HTML, saved in place of the"),
    "error.pt": (
        lambda: b'{"error": "Repository not found"}',
        "error.pt is JSON, and no weights: 'Repository not found'; download it again",
    ),
    "list.bin": (lambda: b"[1, 2", "list.bin is JSON, and no weights; download it again"),
    "denied.npz": (lambda: b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is XML, as servers answer"),
    "half.pt": (
        lambda: saved(WEIGHTS)[:2000],
        r"half.pt is damaged: it is cut short: an archive of 2,000 bytes without",
    ),
    "half.safetensors": (
        lambda: safetensors.torch.save(WEIGHTS)[:-100],
        r"half.safetensors is damaged: it should have [\d,]+ bytes, and has",
    ),
    "head.safetensors": (lambda: safetensors.torch.save(WEIGHTS)[:50], "is damaged: its header should take"),
    "empty.safetensors": (lambda: b"", "empty.safetensors is empty: it has 0 bytes; was it cut off"),
    "pointer.npz": (lambda: POINTER, r"is a Git LFS pointer \(679,160 bytes are elsewhere\): .* git lfs pull"),
    "pointer.bin": (lambda: POINTER, r"is a Git LFS pointer \(679,160 bytes are elsewhere\): .* git lfs pull"),
    "script.pt": (
        lambda: archive("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py"),
        "script.pt is a TorchScript archive .*, which holds code; nothing of it was executed. .*torch.jit.load",
    ),
    "net.keras": (lambda: archive("config.json", "model.weights.h5"), "net.keras is a Keras archive, .*np.savez"),
    "net.h5": (lambda: b"\x89HDF\r\n\x1a\n rest", "net.h5 is an HDF5 file .*h5py"),
    "net.bin": (lambda: b"\x89HDF\r\n\x1a\n rest", "net.bin is an HDF5 file .*h5py"),
    "net.onnx": (lambda: b"\x08\x07\x12\x07pytorch", "net.onnx is an ONNX graph, .*state_dict"),
    "net.msgpack": (lambda: b"\x81\xa6params", r"net.msgpack is a Flax checkpoint \(msgpack\), .*np.savez"),
    "net.gguf": (lambda: b"GGUF\x03\x00", "net.gguf is a GGUF file"),
    "net.pt.gz": (
        lambda: b"\x1f\x8b\x08\x00 rest",
        "is compressed with gzip, which is not read here; unpack it: gunzip",
    ),
    "net.pkl": (lambda: b"\x80\x02N.", "net.pkl is a pickle, .* nothing is unpickled here"),
    "W_E.npy": (lambda: b"\x93NUMPY\x01\x00", "W_E.npy is one array; name the folder that has one for every tensor"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_holds_no_weights_is_told_for_what_it_is(name: str):
    make, expected = KINDS[name]
    Path(name).write_bytes(make())
    with pytest.raises(InputError, match=expected) as caught:
        find_sources([Path(name)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0x7B, 0x5B, 0x8B1F, 0x3C, 0x20, 0x4B50])
def test_a_header_whose_length_looks_like_something_else(length: int):
    """The first bytes of safetensors are a length: 0x7B is a brace, 0x8B1F the mark of gzip."""
    plain = safetensors.torch.save({"W": torch.ones(2, 2), "V": torch.ones(2, 2)})
    size = int.from_bytes(plain[:8], "little")
    header = plain[8 : 8 + size].rstrip()
    while length < len(header):
        length += 0x10000
    Path("net.safetensors").write_bytes(length.to_bytes(8, "little") + header.ljust(length) + plain[8 + size :])
    [source] = find_sources([Path("net.safetensors")])
    assert source.load()["W"].tolist() == [[1, 1], [1, 1]]


def test_a_folder_called_like_a_file():
    Path("net.pt").mkdir()
    with pytest.raises(InputError, match=r"net.pt: there are no files of weights"):
        find_sources([Path("net.pt")])
    torch.save(WEIGHTS, "net.pt/step_3.pt")
    assert [source.step for source in find_sources([Path("net.pt")])] == [3]


# ---- wrappings -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_lightning():
    torch.save(
        {
            "epoch": 7,
            "global_step": 3000,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": {f"model.{name}": tensor for name, tensor in WEIGHTS.items()},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(4, 4), "exp_avg_sq": torch.ones(4, 4)}}}],
            "lr_schedulers": [],
            "callbacks": {"ModelCheckpoint": {"best": {"a": torch.ones(2, 2), "b": torch.ones(2, 2)}}},
            "hparams_name": "kwargs",
            "hyper_parameters": {"p": 5, "act_fn": "relu", "data_seed": 598},
        },
        "epoch=7.ckpt",
    )
    [source] = find_sources([Path("epoch=7.ckpt")])
    assert (source.taken, source.step) == ("state_dict", 3000)
    assert configuration_of(source) == ({"p": 5}, {"activation": "relu"}, "the file of weights")
    assert source.beside["seeds"] == {"data_seed": 598}


@pytest.mark.parametrize(
    ("content", "taken", "step"),
    [
        ({"state_dict": {"state_dict": WEIGHTS}, "epoch": 3}, "state_dict.state_dict", 3),
        ({"checkpoint": {"model": WEIGHTS, "step": 9}, "epoch": 3}, "checkpoint.model", 9),
        ({"a": {"b": {"c": WEIGHTS}}}, "a.b.c", -1),
        ({"model": WEIGHTS, "ema": WEIGHTS, "optimizer": {"m": WEIGHTS}, "step": 4}, "model", 4),
        ({"net_of_mine": WEIGHTS, "optimizer_state": {"m": WEIGHTS}}, "net_of_mine", -1),
        ({**WEIGHTS, "epoch": 12, "loss": 0.5}, "", 12),
    ],
)
def test_state_dicts_in_dictionaries_in_dictionaries(content: dict, taken: str, step: int):
    torch.save(content, "net.pt")
    [source] = find_sources([Path("net.pt")])
    assert (source.taken, source.step) == (taken, step)
    assert source.load().keys() == WEIGHTS.keys()


def test_what_is_said_beside_weights_of_one_dictionary():
    torch.save({**WEIGHTS, "epoch": 12, "loss": 0.5, "train_indices": torch.arange(4), "config": {"p": 5}}, "net.pt")
    [source] = find_sources([Path("net.pt")])
    assert source.claims == (Claim("loss", "train", "loss", 0.5),)
    assert configuration_of(source)[0] == {"p": 5}
    assert source.beside["train_indices"].tolist() == [0, 1, 2, 3]


def test_curves_are_no_state_dict():
    torch.save({"mine": WEIGHTS, "curves": {"train": torch.ones(9), "test": torch.ones(9)}}, "net.pt")
    assert find_sources([Path("net.pt")])[0].taken == "mine"
    torch.save({"state": {0: {"exp_avg": torch.ones(2, 2)}}, "param_groups": []}, "optimizer.pt")
    with pytest.raises(InputError, match=r"optimizer.pt has no state dict .* holds the state of an optimizer"):
        find_sources([Path("optimizer.pt")])


def test_dictionaries_that_hold_each_other_a_thousand_times_end_soon():
    inner: dict[str, Any] = {"x": 1}
    for _ in range(6):
        inner = {str(place): inner for place in range(300)}
    torch.save(inner, "net.pt")
    with pytest.raises(InputError, match=r"net.pt has no state dict"):
        find_sources([Path("net.pt")])
