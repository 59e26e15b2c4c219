"""Where a run begins: a folder that appears whole, and in place of nothing that it must not replace."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Examples, ModelConfig, TrainingConfig
from interp.machine import Folder, built_beside, refusals_as, tensor_bytes
from interp.runs.format import FORMAT, run_info, split_arrays, with_sum
from interp.runs.info import RUN_JSON, SPLIT
from interp.runs.lines import METRICS


@contextlib.contextmanager
def new_run(path: Path, overwrite: bool) -> Iterator[Folder]:
    """A folder for what is to be the run at `path`, see `built_beside`; it stays locked while a twin of it is held. A
    run that it replaces is locked meanwhile: nobody is writing there, and none can begin to.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with new_run(Path(folder, "mine"), overwrite=False) as fresh:
    ...         begin_run(fresh, interp.Task(7), ModelConfig(d_mlp=4))
    ...     interp.open_run(Path(folder, "mine")).task.title
    'add modulo 7'
    """
    with contextlib.ExitStack() as held, refusals_as(f"cannot write {path}"):
        replaced = None
        if is_run_to_replace(path, overwrite):
            replaced = held.enter_context(Folder(path))
            replaced.lock()
        yield held.enter_context(built_beside(path, replaced, stays_locked=True))


def begin_run(
    fresh: Folder,
    task: Examples,
    model: ModelConfig,
    training: TrainingConfig | None = None,
    *,
    initial: Mapping[str, Tensor] | None = None,
    noted: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write into an empty folder what makes it a run without checkpoints (`RunWriter.create`).

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with Folder(Path(folder)) as fresh:
    ...         begin_run(fresh, interp.Task(7), ModelConfig(d_mlp=4))
    ...     interp.open_run(folder).steps
    []
    """
    fresh.make("steps")
    fresh.make("state")
    fresh.write(METRICS, b"")
    fresh.write(SPLIT, tensor_bytes(_tensors(split_arrays(task)), {"format": FORMAT}))
    fresh.write(RUN_JSON, with_sum({**noted, **run_info(task, model, training, initial)}))


def is_run_to_replace(path: Path, overwrite: bool) -> bool:
    """Whether there is a run at `path` that is to be replaced; raises InputError when there is something that must not
    be.

    >>> import interp
    >>> is_run_to_replace(interp.reference_path(), overwrite=True)
    True
    >>> is_run_to_replace(interp.reference_path() / "no-such-folder", overwrite=False)
    False
    """
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return False
    if not overwrite:
        raise InputError(f"{path} already exists; choose another --out, or give --overwrite to replace it")
    if not (path / "run.json").is_file():
        raise InputError(f"{path} is not a run, so it is not overwritten")
    return True


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in arrays.items()}
