"""Runs on disk: written step by step, readable at any moment, also while training goes on. `checkpoints/README.md` is the specification."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from interp.checkpoint import Checkpoint
from interp.errors import InputError, unknown_name
from interp.experiment import Experiment, ModelConfig, TrainingConfig, hash_of, section_from_dict, section_to_dict
from interp.files import read_json, read_lines, read_stacked, read_tensors
from interp.model import bridge
from interp.task import Task
from interp.weights import weight_shapes

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

FORMAT = 1
_STEP_FILE = re.compile(r"step_(\d{9}|-\d{8})\.safetensors")


def step_name(step: int) -> str:
    return f"step_{step:09d}.safetensors"


def description(task: Task, model: ModelConfig, training: TrainingConfig | None) -> dict[str, Any]:
    """The JSON of what a run is; `training` is null for a run that was not trained here."""
    values = {"task": section_to_dict(task), "model": section_to_dict(model)}
    return values | {"training": section_to_dict(training) if training is not None else None}


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """16 hex digits of the SHA-256 over names, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def open_run(path: str | Path) -> "Run":
    """The run in a folder. Raises InputError when there is none, or one of a format that this version does not know."""
    return Run(Path(path))


class Run:
    """A run on disk, read only.

    `run[step]` and `run.at(index)` give checkpoints, `run.trajectory(name)` one tensor at every checkpoint, `run.metrics` what training
    logged, `run.result(analysis)` what an analysis says of it. The listing of steps is read anew each time: a run may be growing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise InputError(f"there is no run at {path}; `interp list` shows those under a folder")
        if not (path / "run.json").is_file():
            raise InputError(f"{path} is not a run: it has no run.json")
        self.info = read_json(path / "run.json")
        version = self.info.get("format") if isinstance(self.info, dict) else None
        if version != FORMAT:
            raise InputError(f"{path / 'run.json'} has format version {version!r}; this version of interp reads {FORMAT}")
        try:
            values = self.info["experiment"]
            self.task: Task = section_from_dict("task", values["task"])
            self.model: ModelConfig = section_from_dict("model", values["model"])
            self.training: TrainingConfig | None = None
            if values["training"] is not None:
                self.training = section_from_dict("training", values["training"])
        except (KeyError, TypeError, AttributeError):
            raise InputError(f"{path / 'run.json'} is damaged: it does not describe a task, a model and a training") from None
        except InputError as error:
            raise InputError(f"{path / 'run.json'} is damaged: {error}") from None
        self.hash = hash_of(description(self.task, self.model, self.training))
        if self.info.get("hash") != self.hash:
            raise InputError(f"{path / 'run.json'} is damaged: it says hash {self.info.get('hash')!r}, its experiment has {self.hash!r}")
        self._check_split()

    def _check_split(self) -> None:
        """The stored split and labels are the truth; a generator that would draw others must not go unnoticed."""
        tensors, _ = read_tensors(self.path / "split.safetensors")
        for name, drawn in {"train_indices": self.task.train_indices, "labels": self.task.labels}.items():
            if name not in tensors or not np.array_equal(tensors[name].numpy(), drawn):
                raise InputError(f"{self.path / 'split.safetensors'}: {name} differ from those of the task in run.json; one of them was altered")

    @property
    def experiment(self) -> Experiment | None:
        """The experiment, for a run that was trained here."""
        return Experiment(self.task, self.model, self.training) if self.training is not None else None

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        folder = self.path / "steps"
        names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
        return sorted(int(match[1]) for match in map(_STEP_FILE.fullmatch, names) if match)

    def __getitem__(self, step: int) -> Checkpoint:
        """The checkpoint of a step. Raises InputError, naming the nearest, for a step that was not saved."""
        path = self.path / "steps" / step_name(step)
        if not path.exists():
            steps = self.steps
            if not steps:
                raise InputError(f"{self.path} has no checkpoints yet")
            nearest = min(steps, key=lambda saved: abs(saved - step))
            raise InputError(f"{self.path} has no checkpoint of step {step}; the nearest is {nearest}")
        weights, header = read_tensors(path)
        if header.get("experiment") != self.hash or header.get("step") != f"{step:09d}":
            seen = f"step {header.get('step')} of experiment {header.get('experiment')}"
            raise InputError(f"{path} holds {seen}, expected step {step:09d} of {self.hash}: it belongs to another run")
        ordered = {name: weights.pop(name) for name in weight_shapes(self.model, self.task.p) if name in weights}
        return Checkpoint(step, ordered | weights, self.task, self.model, where=str(path))

    def at(self, index: int = -1) -> Checkpoint:
        """The checkpoint by its place in `steps`; −1 is the last."""
        steps = self.steps
        if not -len(steps) <= index < len(steps):
            raise InputError(f"{self.path} has {len(steps)} checkpoints; there is none at index {index}")
        return self[steps[index]]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Checkpoint]:
        return (self[step] for step in self.steps)

    def trajectory(self, name: str) -> Float[Tensor, "checkpoint ..."]:
        """One tensor at every checkpoint, in the order of `steps`."""
        known = weight_shapes(self.model, self.task.p)
        if name not in known:
            raise unknown_name("tensor", name, known)
        return read_stacked([self.path / "steps" / step_name(step) for step in self.steps], name)

    # ---- what is known of it -----------------------------------------------------------------------------------------

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: step, metrics, and the digest of the weights where a checkpoint was kept."""
        path = self.path / "metrics.jsonl"
        rows = read_lines(path) if path.exists() else []
        for row in rows:
            if not isinstance(row.get("step"), int):
                raise InputError(f"{path} is damaged: a line without a step")
        return rows

    @property
    def metrics(self) -> xr.Dataset:
        """What training logged, one variable per metric over `step`; NaN where a step has none."""
        rows = self.rows
        names = sorted({name for row in rows for name in row} - {"step", "weights"})
        data = {name: ("step", [_number(row.get(name)) for row in rows]) for name in names}
        return xr.Dataset(data, coords={"step": ("step", np.array([row["step"] for row in rows], dtype=np.int32))})

    @property
    def thinned(self) -> set[int]:
        """The steps whose checkpoints were removed on purpose."""
        path = self.path / "thinned.json"
        return set(read_json(path)) if path.exists() else set()

    @property
    def is_complete(self) -> bool:
        """Whether training reached its last step; always true of a run that was not trained here."""
        return self.training is None or self.training.steps in self.steps

    @cached_property
    def _last(self) -> dict[int, Checkpoint]:
        return {}

    @property
    def last(self) -> Checkpoint:
        """The last checkpoint, kept, so that what follows from it is computed once."""
        step = self.at(-1).step if not self.steps else self.steps[-1]
        if step not in self._last:
            self._last.clear()
            self._last[step] = self[step]
        return self._last[step]

    @property
    def key_frequencies(self) -> list[int]:
        """The key frequencies of the last checkpoint: those that measures of earlier checkpoints refer to."""
        return self.last.key_frequencies

    def result(self, analysis: str) -> xr.Dataset:
        """The result of an analysis, computed if it is missing or stale."""
        # The one door upward: a notebook asks the run, and the run asks `interp.analysis`.
        from interp.analysis import analyze

        return analyze(self, [analysis])[analysis]

    def bridge(self, step: int | None = None) -> "TransformerBridge":
        """The network at a step (default: the last) as a TransformerLens `TransformerBridge`, ready for `run_with_cache` and hooks."""
        checkpoint = self[step] if step is not None else self.last
        return bridge(checkpoint.weights, self.model)

    def __repr__(self) -> str:
        steps = self.steps
        span = f"{len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}" if steps else "no checkpoints yet"
        return f"Run({str(self.path)!r}: {self.task.operation} mod {self.task.p}, {span})"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def split_tensors(task: Task) -> dict[str, Tensor]:
    """What split.safetensors holds."""
    return {"train_indices": torch.from_numpy(task.train_indices), "labels": torch.from_numpy(task.labels)}
