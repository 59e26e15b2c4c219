"""What the files of a run are called, and what their headers hold. `checkpoints/README.md` is the specification."""

import contextlib
import hashlib
import json
import math
import operator
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.errors import InputError, check_integer
from interp.experiment import Examples, ModelConfig, TrainingConfig, hash_of, recorded_section
from interp.machine import Folder

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
FORMATS = (1, 2)  # that are read, and gone on with; the first has no sums
FIRST_STEP, LAST_STEP = -99_999_999, 999_999_999  # what nine characters hold; −1 is an import whose step is not known
_STEP_FILE = re.compile(r"step_([0-9]{9}|-(?!0{8})[0-9]{8})\.safetensors")


def as_step(value: Any) -> int:
    """A step, as Python's integer. Raises InputError for what is none.

    >>> as_step(np.array(310))
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


def step_file(step: int) -> str:
    """Where the checkpoint of a step is, below a run.

    >>> step_file(3000)
    'steps/step_000003000.safetensors'
    """
    return f"steps/{step_name(step)}"


def step_header(experiment_hash: str, step: int, version: int = FORMAT, **sums: str) -> dict[str, Any]:
    """The metadata of a step file: of one width for every step, so that all headers of a run have one length. `sums`
    are the digests that belong there; the first format has none."""
    return {"experiment": experiment_hash, "format": version, "step": f"{step:09d}"} | (sums if version > 1 else {})


def steps_in(folder: Folder, name: str) -> list[int]:
    """The steps that have a file in `steps/` or `state/`, ascending."""
    return sorted(int(match[1]) for match in map(_STEP_FILE.fullmatch, folder.names(name)) if match)


def largest_step_file(model: ModelConfig, sizes: int | tuple[int, ...], times: int = 1) -> int:
    """Bytes that a checkpoint can have at most, or a state of so many `times` the weights."""
    from interp.models import weight_shapes

    shapes = weight_shapes(model, sizes)
    return times * (4 * sum(map(math.prod, shapes.values())) + 1024 * len(shapes)) + 65_536


def with_sum(values: Mapping[str, Any]) -> bytes:
    """A JSON file of the run: an object, and over all of it a sum.

    >>> json.loads(with_sum({"steps": [10]}))
    {'steps': [10], 'sum': 'f19aca8c1649bd9c'}
    """
    content = {name: value for name, value in values.items() if name != "sum"}
    return json.dumps(content | {"sum": hash_of(content)}, indent=2).encode() + b"\n"


def note_of_thinned(steps: Iterable[int], version: int = FORMAT) -> bytes:
    """What thinned.json holds.

    >>> note_of_thinned({20, 10}, version=1)
    b'[10, 20]\\n'
    """
    noted = sorted(steps)
    return json.dumps(noted).encode() + b"\n" if version == 1 else with_sum({"steps": noted})


def check_sum(path: Path, values: Mapping[str, Any]) -> None:
    """Raises InputError unless the sum of a JSON file is that of its content.

    >>> check_sum(Path("thinned.json"), {"steps": [10], "sum": "f19aca8c1649bd9c"})
    """
    content = {name: value for name, value in values.items() if name != "sum"}
    if values.get("sum") != (found := hash_of(content)):
        raise InputError(f"{path} was altered: its content has the sum {found}, and it says {values.get('sum')!r:.40}")


def description(task: Examples, model: ModelConfig, training: TrainingConfig | None) -> dict[str, Any]:
    """The JSON of what a run is; `training` is null for a run that was not trained here."""
    values = {"task": recorded_section(task), "model": recorded_section(model)}
    return values | {"training": recorded_section(training) if training is not None else None}


def run_info(
    task: Examples, model: ModelConfig, training: TrainingConfig | None, initial: "Mapping[str, Tensor] | None"
) -> dict[str, Any]:
    """What run.json holds."""
    import torch

    from interp.runs.digests import weights_digest

    content = description(task, model, training)
    given = {"initial_weights": weights_digest(initial)} if initial is not None else {}
    return given | {
        "format": FORMAT,
        "hash": hash_of(content),
        "experiment": content,
        "split_digest": split_digest(split_arrays(task)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("interp", "torch", "numpy", "safetensors")},
        "host": {
            "python": platform.python_version(),
            "system": platform.platform(terse=True),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


# How a network was trained where it was not by products on a CPU: what run.json has as `arithmetic`.
TOKEN_TABLES, ON_GPU, ON_GPU_TF32 = "token tables", "a GPU, in float32", "a GPU, in TF32"


def digest_of(entries: Iterable[tuple[str, str, Sequence[int], Any]]) -> str:
    """16 hex digits of the SHA-256 over (name, type, shape, bytes) of arrays, in the order given.

    >>> digest_of([("layer", "F32", (2, 2), bytes(16))])
    '6271d7aad2a2b8a0'
    """
    digest = hashlib.sha256()
    for name, kind, shape, content in entries:
        digest.update(f"{name} {kind} {list(shape)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def split_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The digest of what split.safetensors holds, all of it int64: that of `weights_digest`, without torch.

    >>> split_digest({"labels": np.zeros(2, np.int64)})
    '8856461763651e3f'
    """
    return digest_of((name, "I64", arrays[name].shape, arrays[name].tobytes()) for name in sorted(arrays))


def check_header(path: Path, header: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raises InputError unless a step file's metadata is that of this step of this experiment, with the sums that it
    shall have, whatever they are."""
    same = ("experiment", "format", "step")
    if header.keys() != expected.keys() or any(header[name] != expected[name] for name in same):
        seen = [str(header.get(name))[:20] for name in ("step", "experiment", "format")]
        raise InputError(
            f"{path} holds step {seen[0]} of experiment {seen[1]} in format {seen[2]}, expected step "
            f"{expected['step']} of {expected['experiment']} in format {expected['format']}; is it of another run?"
        )


def split_arrays(task: Examples) -> dict[str, np.ndarray]:
    """What split.safetensors holds; `validation_indices` where some are chosen on."""
    held = {"train_indices": task.train_indices, "labels": task.labels}
    if (validation := np.flatnonzero(task.mask("validation"))).size:
        held["validation_indices"] = validation
    return held
