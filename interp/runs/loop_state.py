"""What somebody's own training loop needs to go on, kept with the run: nested dictionaries, lists and tuples of tensors
and plain values, to the last bit. Nothing is pickled."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import InputError
from interp.machine import read_tensors, refusals_as, tensor_bytes, write_atomically
from interp.runs.format import check_header, step_header
from interp.runs.run import Run

_TREE = "tree"


def save_loop_state(run: Run, step: int, state: Mapping[str, Any]) -> None:
    """Keep a state dict of any depth as that of `step`, in place of the one kept before.

    Raises InputError, naming the place, for a value that is neither a tensor nor plain (None, a number, a word, or
    dictionaries, lists and tuples of these).

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/mine", interp.Task(7), interp.ModelConfig(d_mlp=4)) as writer:
    ...         save_loop_state(writer.run, 10, {"betas": (0.9, 0.98), "moments": {0: torch.ones(2)}})
    ...         load_loop_state(writer.run)
    (10, {'betas': (0.9, 0.98), 'moments': {0: tensor([1., 1.])}})
    """
    write_loop_state(run, loop_state_bytes(run, step, state))


def loop_state_bytes(run: Run, step: int, state: Mapping[str, Any]) -> bytes:
    """The file of a state, which is written only when what leads up to it is; raises InputError as `save_loop_state`.

    >>> import interp
    >>> loop_state_bytes(interp.open_run(interp.reference_path()), 10, {"x": object()})
    Traceback (most recent call last):
        ...
    interp.errors.InputError: the state['x'] is a object, which cannot be kept exactly; give tensors, numbers, words, \
and dictionaries and lists of these
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_encoded(state, "the state", tensors)).encode()
    tensors[_TREE] = torch.from_numpy(np.frombuffer(tree, dtype=np.uint8).copy())
    return tensor_bytes(tensors, step_header(run.hash, step))


def write_loop_state(run: Run, content: bytes) -> None:
    """Keep such a file in place of the one kept before.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/mine", interp.Task(7), interp.ModelConfig(d_mlp=4)) as writer:
    ...         write_loop_state(writer.run, loop_state_bytes(writer.run, 10, {"lr": 0.1}))
    ...     load_loop_state(writer.run)
    (10, {'lr': 0.1})
    """
    with refusals_as(f"cannot write to {run.path}"), (run.path / "metrics.jsonl").open("rb") as lines:
        os.fsync(lines.fileno())  # first: a state must not outlive the lines that lead up to it
    write_atomically(_path(run), content)


def load_loop_state(run: Run) -> tuple[int, dict[str, Any]] | None:
    """The step and the state that were kept last; None where none was. Raises InputError for a file that is damaged or
    of another run.

    >>> import interp
    >>> load_loop_state(interp.open_run(interp.reference_path())) is None
    True
    """
    path = _path(run)
    if not os.path.lexists(path):
        return None
    tensors, header = read_tensors(path)
    try:
        step = int(header.get("step", ""))
        check_header(path, header, run.hash, step)
        return step, _decoded(json.loads(tensors[_TREE].numpy().tobytes()), tensors)
    except (KeyError, TypeError, ValueError, IndexError):
        raise InputError(f"{path} is damaged: it does not hold the state of a training loop") from None


def _path(run: Run) -> Path:
    return run.path / "state" / "loop.safetensors"


def _encoded(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """JSON: plain values as they are, [kind, …] for everything else."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
            kind = "sparse, quantized, complex or on device meta"
            raise InputError(f"{where} is a tensor that is not plain ({kind}), which cannot be kept")
        tensors[name := str(len(tensors))] = value.detach().to("cpu").contiguous().clone()
        return ["tensor", name]
    if isinstance(value, Mapping):
        pairs = [
            [_encoded(key, where, tensors), _encoded(one, f"{where}[{key!r}]", tensors)] for key, one in value.items()
        ]
        return ["dict", *pairs]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, *(_encoded(one, f"{where}[{place}]", tensors) for place, one in enumerate(value))]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else ["float", repr(value)]
    raise InputError(
        f"{where} is a {type(value).__name__}, which cannot be kept exactly; give tensors, numbers, words, and "
        "dictionaries and lists of these"
    )


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, *parts = value
    if kind == "tensor":
        return tensors[parts[0]]
    if kind == "float":
        return float(parts[0])
    if kind == "dict":
        return {_decoded(key, tensors): _decoded(one, tensors) for key, one in parts}
    if kind not in ("list", "tuple"):
        raise ValueError(kind)
    decoded = [_decoded(one, tensors) for one in parts]
    return decoded if kind == "list" else tuple(decoded)
