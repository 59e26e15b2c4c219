"""Small sound networks and the archives that torch makes of them, for tests that change them."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from interp.experiment import ModelConfig
from interp.models import Weights, initial_weights

MODEL = ModelConfig(d_model=4, n_heads=2, d_mlp=3)


def sound() -> Weights:
    """Initial weights modulo 5."""
    return initial_weights(MODEL, 5)


def saved(content: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def rezipped(
    content: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED, extra: str = ""
) -> bytes:
    """The archive again, every entry changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
        if extra:
            new.writestr(extra, b"x")
    return out.getvalue()


def network(seed: int) -> Weights:
    """Weights that differ by their seed."""
    return initial_weights(ModelConfig(d_model=4, n_heads=2, d_mlp=3, seed=seed), 5)


def save(path: str, content: Any) -> None:
    """A file of weights, with the folders that it is in."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    (safetensors.torch.save_file if path.endswith(".safetensors") else torch.save)(content, path)
