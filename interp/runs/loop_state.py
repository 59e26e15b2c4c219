"""What somebody's own training loop needs to go on, kept with the run: nested dictionaries, lists and tuples of tensors
and plain values, to the last bit. Nothing is pickled."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import InputError
from interp.runs.run import Run
from interp.runs.state import read_state
from interp.runs.writer import RunWriter

LARGEST_STATE = 1 << 40  # bytes; what a loop keeps is known to nobody else
_TREE = "tree"
_FILE = "loop.safetensors"


def save_loop_state(writer: RunWriter, step: int, state: Mapping[str, Any]) -> None:
    """Keep a state dict of any depth as that of `step`, in place of the one kept before.

    Raises InputError, naming the place, for a value that is neither a tensor nor plain (None, a number, a word, or
    dictionaries, lists and tuples of these).

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/mine", interp.Task(7), interp.ModelConfig(d_mlp=4)) as writer:
    ...         save_loop_state(writer, 10, {"betas": (0.9, 0.98), "moments": {0: torch.ones(2)}})
    ...         load_loop_state(writer.run)
    (10, {'betas': (0.9, 0.98), 'moments': {0: tensor([1., 1.])}})
    """
    write_loop_state(writer, step, loop_state_tensors(state))


def loop_state_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """What is kept of a state, which is written only when the lines that lead up to it are; raises InputError as
    `save_loop_state`.

    >>> loop_state_tensors({"x": object()})
    Traceback (most recent call last):
        ...
    interp.errors.InputError: the state['x'] is a object, which cannot be kept exactly; give tensors, numbers, words, \
and dictionaries and lists of these
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_encoded(state, "the state", tensors)).encode()
    tensors[_TREE] = torch.from_numpy(np.frombuffer(tree, dtype=np.uint8).copy())
    return tensors


def write_loop_state(writer: RunWriter, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Keep such tensors as the state of `step`, in place of the one kept before.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/mine", interp.Task(7), interp.ModelConfig(d_mlp=4)) as writer:
    ...         write_loop_state(writer, 10, loop_state_tensors({"lr": 0.1}))
    ...     load_loop_state(writer.run)
    (10, {'lr': 0.1})
    """
    writer.write_state(_FILE, step, tensors)


def load_loop_state(run: Run) -> tuple[int, dict[str, Any]] | None:
    """The step and the state that were kept last; None where none was. Raises InputError for a file that is damaged or
    of another run, and where lines that lead up to it are missing.

    >>> import interp
    >>> load_loop_state(interp.open_run(interp.reference_path())) is None
    True
    """
    with run.folder() as folder:
        if folder.stat(f"state/{_FILE}") is None:
            return None
    step, tensors = read_state(run, _FILE, None, most=LARGEST_STATE)
    try:
        return step, _decoded(json.loads(tensors[_TREE].numpy().tobytes()), tensors)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        raise InputError(
            f"{run.path / 'state' / _FILE} is damaged: it does not hold the state of a training loop"
        ) from None


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
