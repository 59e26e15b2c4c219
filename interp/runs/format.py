"""What the files of a run are called, and what their headers hold. `checkpoints/README.md` is the specification."""

import contextlib
import hashlib
import operator
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError, check_integer
from interp.experiment import Examples, ModelConfig, TrainingConfig, hash_of, recorded_section
from interp.machine import refusals_as

FORMAT = 1
FIRST_STEP, LAST_STEP = -99_999_999, 999_999_999  # what nine characters hold; −1 is an import whose step is not known
_STEP_FILE = re.compile(r"step_([0-9]{9}|-(?!0{8})[0-9]{8})\.safetensors")
_TYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}


def as_step(value: Any) -> int:
    """A step, as Python's integer. Raises InputError for what is none.

    >>> as_step(torch.tensor(310))
    310
    >>> as_step(310.0)
    Traceback (most recent call last):
        ...
    interp.errors.InputError: step must be an integer, got 310.0
    """
    with contextlib.suppress(TypeError):  # numpy's integers, and torch's; others are told what is expected
        value = value if isinstance(value, bool) else operator.index(value)
    check_integer("step", value, FIRST_STEP, LAST_STEP)
    return int(value)


def step_name(step: int) -> str:
    """The file name of a step's checkpoint or state.

    >>> step_name(3000)
    'step_000003000.safetensors'
    """
    return f"step_{step:09d}.safetensors"


def step_header(experiment_hash: str, step: int) -> dict[str, Any]:
    """The metadata of a step file: of one width for every step, so that all headers of a run have one length."""
    return {"experiment": experiment_hash, "format": FORMAT, "step": f"{step:09d}"}


def steps_in(folder: Path) -> list[int]:
    """The steps that have a file in `steps/` or `state/`, ascending."""
    with refusals_as(f"cannot read {folder}"):
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(_STEP_FILE.fullmatch, names) if match)


def description(task: Examples, model: ModelConfig, training: TrainingConfig | None) -> dict[str, Any]:
    """The JSON of what a run is; `training` is null for a run that was not trained here."""
    values = {"task": recorded_section(task), "model": recorded_section(model)}
    return values | {"training": recorded_section(training) if training is not None else None}


def run_info(
    task: Examples, model: ModelConfig, training: TrainingConfig | None, initial: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    """What run.json holds."""
    content = description(task, model, training)
    given = {"initial_weights": weights_digest(initial)} if initial is not None else {}
    return given | {
        "format": FORMAT,
        "hash": hash_of(content),
        "experiment": content,
        "split_digest": weights_digest(split_tensors(task)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("interp", "torch", "numpy", "safetensors")},
        "host": {
            "python": platform.python_version(),
            "system": platform.platform(terse=True),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """16 hex digits of the SHA-256 over names, shapes and bytes, in the order of the names.

    >>> from interp.models import initial_weights
    >>> weights = {"layer": torch.zeros(2, 2)}
    >>> weights_digest(weights), weights_digest({"layer": torch.zeros(2, 2), "bias": torch.zeros(2)})
    ('6271d7aad2a2b8a0', 'd3833d6440976609')
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(f"{name} {_TYPE_NAMES.get(tensor.dtype, tensor.dtype)} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def check_header(path: Path, header: dict[str, Any], experiment_hash: str, step: int) -> None:
    """Raises InputError unless a step file's metadata is that of this step of this experiment."""
    if header != step_header(experiment_hash, step):
        seen = f"step {header.get('step')} of experiment {header.get('experiment')} in format {header.get('format')}"
        raise InputError(
            f"{path} holds {seen}, expected step {step:09d} of {experiment_hash} in format {FORMAT}; is it of "
            "another run?"
        )


def split_tensors(task: Examples) -> dict[str, Tensor]:
    """What split.safetensors holds."""
    return {"train_indices": torch.from_numpy(task.train_indices), "labels": torch.from_numpy(task.labels)}
