"""What a run says it is, in run.json, and which examples it is about, in split.safetensors."""

import math
from typing import Any, NamedTuple, cast

import numpy as np

from interp.errors import InputError
from interp.experiment import ModelConfig, Task, TrainingConfig, hash_of, section_from_dict
from interp.machine import Folder, read_arrays
from interp.runs.format import FORMATS, check_sum, split_arrays, split_digest

RUN_JSON, SPLIT = "run.json", "split.safetensors"
MOST_THREADS = 4096  # a resumption starts as many


class RunInfo(NamedTuple):
    """The content of run.json, and what it means."""

    info: dict[str, Any]
    format: int
    hash: str
    task: Task
    model: ModelConfig
    training: TrainingConfig | None


def read_info(folder: Folder) -> RunInfo:
    """What run.json says. Raises InputError for a version that is not known, where it says what cannot be, and where it
    was altered."""
    path, info = folder.path / RUN_JSON, folder.read_json(RUN_JSON)
    version = info.get("format") if isinstance(info, dict) else None
    if type(version) is not int or version not in FORMATS or (version == 1 and "sum" in info):
        raise InputError(
            f"{path} has format version {version!r:.40}; this version of interp reads {' and '.join(map(str, FORMATS))}"
        )
    if version > 1:
        check_sum(path, info)
    try:
        values = info["experiment"]
        task, model = section_from_dict("task", values["task"]), section_from_dict("model", values["model"])
        training = None if values["training"] is None else section_from_dict("training", values["training"])
        if type(threads := info["host"]["threads"]) is not int or not 1 <= threads <= MOST_THREADS:
            raise InputError(f"host.threads must be an integer from 1 to {MOST_THREADS}, got {threads!r:.40}")
        end = info.get("end")
        if end is not None and not (type(end["step"]) is int and isinstance(end["sum"], str)):
            raise InputError("end must be a step and a sum")
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged: it does not describe a task, a model, a training and a host") from None
    except (InputError, OverflowError, RecursionError, MemoryError) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    # Of the values as they stand there: a field that a later version adds, with its default, must not disown older
    # runs.
    found = hash_of(values)
    if info.get("hash") != found:
        raise InputError(f"{path} is damaged: it says hash {info.get('hash')!r:.40}, its experiment has {found!r}")
    return RunInfo(info, version, found, cast(Task, task), model, training)


def check_split(folder: Folder, said: RunInfo) -> None:
    """Raises InputError where the stored split and labels, which are the truth, are not those that the task draws: a
    generator that would draw others must not go unnoticed."""
    path, labels = folder.path / SPLIT, 8 * math.prod(said.task.shape)
    with folder.open(SPLIT, most=2 * labels + 4096) as file:
        if file.size < labels:  # before a task of millions of pairs is drawn
            raise InputError(f"{path} is damaged: it has {file.size:,} bytes, and the labels of its task {labels:,}")
        arrays, header = read_arrays(file)
    expected = split_arrays(said.task)
    if arrays.keys() != expected.keys():
        told = ", ".join(sorted(arrays))
        raise InputError(f"{path} holds {told:.200}; expected {', '.join(sorted(expected))}")
    for name, drawn in expected.items():
        if arrays[name].dtype != drawn.dtype or not np.array_equal(arrays[name], drawn):
            raise InputError(f"{path}: {name} differ from those of the task in run.json; one of them was altered")
    if header != {"format": said.format}:
        raise InputError(f"{path} has the header {header!s:.80}, expected format {said.format}")
    if (recorded := said.info.get("split_digest")) != (digest := split_digest(arrays)):
        raise InputError(f"{path} has digest {digest}, run.json recorded {recorded!r:.40}; one of them was altered")
