"""Runs on disk: written step by step, readable at any moment, also while training goes on. `checkpoints/README.md` is
the specification."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.errors import InputError, unknown_name
from interp.experiment import Experiment, Task, TrainingConfig
from interp.figures import notebook
from interp.machine import Folder, refusals_as
from interp.runs.asking import Asked, folder_of, where_instead
from interp.runs.curves import logged_curves
from interp.runs.format import (
    check_header,
    check_sum,
    largest_step_file,
    step_file,
    step_header,
    steps_in,
)
from interp.runs.info import RUN_JSON, check_split, read_info
from interp.runs.lines import METRICS, Line, read_metrics, sum_of

if TYPE_CHECKING:
    import xarray as xr
    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from interp.runs.checkpoint import Checkpoint


THINNED = "thinned.json"
MOST_LOOKED_AT = 64  # in search of the last checkpoint that has a circuit


def open_run(path: str | Path) -> "Run":
    """The run in a folder. Raises InputError when there is none, or one of a format that this version does not know.

    >>> import interp
    >>> open_run(interp.reference_path()).task.title
    'add modulo 43'
    """
    return Run(folder_of(path))


class Run(Asked):
    """A run on disk, read only.

    `run[step]` and `run.at(index)` give checkpoints, `run.trajectory(name)` one tensor at every checkpoint,
    `run.metrics` what training logged, `run.results` the results of analyses; `run.explain()`, `run.report()` and
    `run.plot(name)` say and show what happened. The steps are listed anew each
    time, because a run may be growing.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> run.hash == run.experiment.hash, len(run.steps), run.is_complete
    (True, 53, True)
    >>> run.last.step, run.key_frequencies
    (3000, [3, 11, 12])
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with refusals_as(f"cannot read {path}"):
            if not path.is_dir():
                raise InputError(f"there is no run at {path}; {where_instead(path)}")
        with Folder(path) as folder:
            if folder.stat(RUN_JSON) is None:
                hint = "".join(f"; it holds runs, such as {run.parent}" for run in sorted(path.glob("*/run.json"))[:1])
                raise InputError(f"{path} is not a run: it has no run.json{hint}")
            said = read_info(folder)
            check_split(folder, said)
        self.info, self.format, self.hash = said.info, said.format, said.hash
        self.task: Task = said.task
        self.model, self.training = said.model, said.training
        self._lines: tuple[Any, list[Line], dict[int, str]] = (None, [], {})
        self._last: dict[int, Checkpoint] = {}
        self._last_circuit: tuple[list[int], Checkpoint | None] | None = None

    def folder(self) -> Folder:
        """The folder of the run, held open: through it no link inside the run is followed.

        >>> import interp
        >>> with open_run(interp.reference_path()).folder() as folder:
        ...     "step_000003000.safetensors" in folder.names("steps")
        True
        """
        return Folder(self.path)

    @property
    def experiment(self) -> Experiment | None:
        """The experiment, for a run that was trained here.

        >>> import interp
        >>> open_run(interp.reference_path()).experiment == interp.preset("reference")
        True
        """
        return Experiment(self.task, self.model, self.training) if self.training is not None else None

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending.

        >>> import interp
        >>> open_run(interp.reference_path()).steps[-3:]
        [2800, 2900, 3000]
        """
        with self.folder() as folder:
            return steps_in(folder, "steps")

    def __getitem__(self, step: int) -> "Checkpoint":
        """The checkpoint of a step. Raises InputError, naming the nearest, for a step that was not saved, and naming
        the file for one that is damaged or no longer has the digest that metrics.jsonl recorded.

        >>> import interp
        >>> run = open_run(interp.reference_path())
        >>> run[100].step
        100
        >>> run[101]
        Traceback (most recent call last):
            ...
        interp.errors.InputError: ... has no checkpoint of step 101; the nearest is 100
        """
        import torch  # here, and not for who only asks what a run is

        from interp.machine import read_tensors
        from interp.models import weight_shapes
        from interp.runs.checkpoint import Checkpoint
        from interp.runs.digests import weights_digest

        if not isinstance(step, int | np.integer):
            raise InputError(
                f"a run is asked for a checkpoint by its step, as in run[{(self.steps or [0])[-1]}], not by {step!r}; "
                'one tensor at every checkpoint is run.trajectory("embed.W_E"), a result run.results.NAME'
            )
        path = self.path / step_file(step)
        with self.folder() as folder:
            if folder.stat(step_file(step)) is None:
                raise self._no_checkpoint(step)
            with folder.open(step_file(step), most=largest_step_file(self.model, self.task.sizes)) as file:
                weights, header = read_tensors(file)
        check_header(path, header, step_header(self.hash, step, self.format, weights=""))
        ordered = {name: weights.pop(name) for name in weight_shapes(self.model, self.task.sizes) if name in weights}
        for name, weight in ordered.items():
            if weight.dtype != torch.float32:
                raise InputError(f"{path}: tensor {name!r} has type {weight.dtype}, expected torch.float32")
        checkpoint = Checkpoint(step, ordered | weights, self.task, self.model, training=self.training, where=str(path))
        digest = weights_digest(checkpoint.weights)
        noted = {"its header": header.get("weights", digest), "metrics.jsonl": self.digests.get(step, digest)}
        for where, recorded in noted.items():
            if recorded != digest:
                raise InputError(
                    f"{path} was altered: its weights have digest {digest}, {where} recorded {recorded!s:.40}"
                )
        return checkpoint

    def _no_checkpoint(self, step: int) -> InputError:
        if step in self.digests and step not in self.thinned:
            return InputError(f"{self.path / step_file(step)} is missing, though metrics.jsonl records it")
        steps = self.steps
        if not steps:
            return InputError(f"{self.path} has no checkpoints{': they were removed' if self.thinned else ' yet'}")
        if step < 0:
            return InputError(
                f"{self.path} has no checkpoint of step {step}; run.last is the last, and run.at({step}) counts from "
                "the end"
            )
        nearest = min(steps, key=lambda saved: abs(saved - step))
        return InputError(f"{self.path} has no checkpoint of step {step}; the nearest is {nearest}")

    def at(self, index: int = -1) -> "Checkpoint":
        """The checkpoint by its place in `steps`; −1 is the last.

        >>> import interp
        >>> run = open_run(interp.reference_path())
        >>> run.at(0).step, run.at(-1).step
        (0, 3000)
        """
        steps = self.steps
        if not -len(steps) <= index < len(steps):
            raise InputError(f"{self.path} has {len(steps)} checkpoints; there is none at index {index}")
        return self[steps[index]]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> "Iterator[Checkpoint]":
        return (self[step] for step in self.steps)

    def trajectory(self, name: str) -> 'Float[Tensor, "checkpoint ..."]':
        """One tensor at every checkpoint, in the order of `steps`.

        >>> import interp
        >>> run = open_run(interp.reference_path())
        >>> run.trajectory("embed.W_E").shape  # checkpoint, residues and `=`, d_model
        torch.Size([53, 44, 32])
        """
        from interp.models import weight_shapes

        known = weight_shapes(self.model, self.task.sizes)
        if name not in known:
            raise unknown_name("tensor", name, known)
        steps = self.steps
        if not steps:
            raise self._no_checkpoint(0)
        stacked = None
        for row, step in enumerate(steps):
            weight = self[step].weights[name]
            if stacked is None:  # only now is it known that the files really have this many bytes
                stacked = weight.new_empty(len(steps), *weight.shape)
            stacked[row] = weight
        assert stacked is not None
        return stacked

    # ---- what is known of it -----------------------------------------------------------------------------------------

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: step, metrics, and the digest of the weights where a checkpoint was kept.

        >>> import interp
        >>> row = open_run(interp.reference_path()).rows[0]
        >>> row["step"], row["weights"]
        (0, 'a1946ef1423a341e')
        """
        return [dict(line.row) for line in self.lines]

    @property
    def lines(self) -> list[Line]:
        """The same with the sum of every line and the place where it ends, read again when the file has changed. Do not
        write to it.

        >>> import interp
        >>> open_run(interp.reference_path()).lines[0].step
        0
        """
        with self.folder() as folder:
            found = folder.stat(METRICS)
            signature = None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)
            if signature is None or self._lines[0] != signature:
                lines = read_metrics(folder, self.hash, self.format, self._own_training)
                digests = {line.step: line.row["weights"] for line in lines if "weights" in line.row}
                self._lines = signature, lines, digests
        lines, end = self._lines[1], self.info.get("end")
        if end is not None and sum_of(lines, self.hash) != end["sum"]:
            at = f"ends at step {lines[-1].step}" if lines else "has no lines" if signature else "is missing"
            raise InputError(
                f"{self.path / METRICS} {at}, and run.json says that it ended at step {end['step']} with other sums: "
                "lines are missing, or it is of another run"
            )
        return lines

    @property
    def digests(self) -> dict[int, str]:
        """The digest of the weights of every step, as metrics.jsonl recorded it. Do not write to it.

        >>> import interp
        >>> from interp.runs import weights_digest
        >>> run = open_run(interp.reference_path())
        >>> run.digests[3000] == weights_digest(run[3000].weights)
        True
        """
        _ = self.lines  # reads them again where they have changed
        return self._lines[2]

    @property
    def metrics(self) -> "xr.Dataset":
        """What training logged, one variable per metric over `step`; NaN where a step has none.

        >>> import interp
        >>> metrics = open_run(interp.reference_path()).metrics
        >>> [round(float(metrics.test_accuracy.sel(step=step)), 2) for step in (0, 3000)]
        [0.02, 1.0]
        """
        import xarray as xr  # half a second, for which training need not wait

        rows = self.rows
        names = sorted({name for row in rows for name in row} - {"step", "weights"})
        data = {
            name: ("step", [math.nan if row.get(name) is None else float(row[name]) for row in rows]) for name in names
        }
        return xr.Dataset(data, coords={"step": ("step", np.array([row["step"] for row in rows], dtype=np.int32))})

    @property
    def curves(self) -> "xr.Dataset":
        """The learning curves that training logged, `loss` and `accuracy` [step, split] of train, test, unmirrored and
        held-out pairs, and of validation pairs where there are any (`Task.mask`); NaN where nothing is known.

        >>> import interp
        >>> curves = open_run(interp.reference_path()).curves
        >>> curves.accuracy.sel(split="held_out", step=[0, 3000]).values.round(2).tolist()
        [0.02, 1.0]
        """
        return logged_curves(self.metrics, self.task, self.training)

    @property
    def thinned(self) -> set[int]:
        """The steps whose checkpoints were removed on purpose.

        >>> import interp
        >>> open_run(interp.reference_path()).thinned
        set()
        """
        path = self.path / THINNED
        with self.folder() as folder:
            if folder.stat(THINNED) is None:
                return set()
            noted = folder.read_json(THINNED)
        if self.format > 1:
            if isinstance(noted, dict) and "steps" in noted:
                check_sum(path, noted)
            noted = noted.get("steps") if isinstance(noted, dict) else None
        if not isinstance(noted, list) or not all(type(step) is int for step in noted):
            raise InputError(f"{path} is damaged: it is not a list of steps")
        return set(noted)

    @property
    def state_step(self) -> int | None:
        """The step that training would go on from; None where no state was saved, and it would begin anew.

        >>> import interp
        >>> open_run(interp.reference_path()).state_step is None  # the package leaves it out
        True
        """
        with self.folder() as folder:
            return max(steps_in(folder, "state"), default=None)

    @property
    def is_complete(self) -> bool:
        """Whether training reached its last step; always true of a run that was not trained here."""
        if self.training is None:
            return True
        rows = self.rows  # a checkpoint is followed by its line: a kill between the two leaves work to do
        return bool(rows) and rows[-1]["step"] == self.training.steps and rows[-1].get("train_loss", 0.0) is not None

    @property
    def diverged_at(self) -> int | None:
        """The step where training ended because its loss is not finite, if it did.

        >>> import interp
        >>> open_run(interp.reference_path()).diverged_at is None
        True
        """
        lines = self.lines
        return lines[-1].step if lines and self._own_training is not None and lines[-1].is_divergence else None

    @property
    def _own_training(self) -> TrainingConfig | None:
        return None if "recorder" in self.info else self.training  # whose schedule the lines follow

    @property
    def last(self) -> "Checkpoint":
        """The last checkpoint. It stays in memory, so that its activations, losses and spectrum are computed once."""
        step = self.at(-1).step if not self.steps else self.steps[-1]
        if step not in self._last:
            self._last.clear()
            self._last[step] = self[step]
        return self._last[step]

    @property
    def last_circuit(self) -> "Checkpoint | None":
        """The last checkpoint that has a circuit (`Spectrum.has_circuit`), so that a run which lost it still names the
        one that it had; None where there is none. Of more than MOST_LOOKED_AT checkpoints so many are looked at, evenly
        spaced, from the last on.

        >>> import interp
        >>> open_run(interp.reference_path()).last_circuit.step
        3000
        """
        from interp.models import are_finite

        steps = self.steps
        if self._last_circuit is None or self._last_circuit[0] != steps:
            places = np.unique(np.round(np.linspace(len(steps) - 1, 0, min(len(steps), MOST_LOOKED_AT))).astype(int))
            looked_at = (self.last if place == len(steps) - 1 else self[steps[place]] for place in places[::-1])
            found = (one for one in looked_at if are_finite(one.weights) and one.spectrum.has_circuit)
            self._last_circuit = steps, next(found, None)
        return self._last_circuit[1]

    @property
    def key_frequencies(self) -> list[int]:
        """The key frequencies of `last_circuit`: those that measures of other checkpoints refer to. Empty where no
        checkpoint has a circuit.

        >>> import interp
        >>> open_run(interp.reference_path()).key_frequencies
        [3, 11, 12]
        """
        checkpoint = self.last_circuit
        return [] if checkpoint is None else checkpoint.key_frequencies

    def bridge(self, step: int | None = None) -> "TransformerBridge":
        """The network at a step (default: the last) as a TransformerLens `TransformerBridge`, ready for
        `run_with_cache` and hooks.

        >>> import interp
        >>> import torch
        >>> run = open_run(interp.reference_path())
        >>> run.bridge()(torch.tensor([[20, 30, 43]]))[0, -1].argmax().item()  # 20 + 30 modulo 43
        7
        """
        from interp.models import bridge

        return bridge((self[step] if step is not None else self.last).weights, self.model)

    _repr_html_ = notebook.of_run

    def __repr__(self) -> str:
        steps = self.steps
        span = f"{len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}" if steps else "no checkpoints"
        return f"Run({str(self.path)!r}: {self.task.title}, {span})"
