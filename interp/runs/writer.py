"""Writing a run: one writer at a time, every file whole, and after a kill at any moment a run that opens, verifies and
resumes."""

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Examples, Experiment, ModelConfig, TrainingConfig
from interp.machine import Folder, refusals_as, tensor_bytes
from interp.models import Snapshot, check_weights
from interp.runs.beginning import begin_run, new_run
from interp.runs.digests import weights_digest
from interp.runs.format import (
    FIRST_STEP,
    as_step,
    step_file,
    step_header,
    step_name,
    steps_in,
    with_sum,
)
from interp.runs.info import RUN_JSON
from interp.runs.lines import METRICS, finite, line_bytes, sum_of
from interp.runs.run import Run, open_run
from interp.runs.state import parts_of_state, read_state, state_tensors
from interp.runs.thinning import correct_note

_CLOSED, OBSERVATIONS = -1, "observations"


class RunWriter:
    """Appends checkpoints and metrics to a run; also for your own training loop:

        with RunWriter.create("checkpoints/mine", task, model) as writer:
            writer.append(step, weights, {"train_loss": loss})

    Steps ascend. The folder is locked while the writer is open; `create` and `reopen` raise InputError when another
    process has it.

    >>> import interp
    >>> from interp.models import initial_weights
    >>> from tempfile import TemporaryDirectory
    >>> task, model = interp.Task(7), interp.ModelConfig(d_model=8, d_mlp=4)
    >>> with TemporaryDirectory() as folder:
    ...     with RunWriter.create(f"{folder}/mine", task, model) as writer:
    ...         writer.append(0, initial_weights(model, 7), {"train_loss": 1.9})
    ...     interp.open_run(f"{folder}/mine").steps
    [0]
    """

    def __init__(self, run: Run, folder: Folder) -> None:
        self.run, self.folder, self._metrics = run, folder, _CLOSED
        self.last_step: int | None = None  # of the lines
        try:
            self._open_metrics()
        except BaseException:
            self._close_files()
            raise

    @classmethod
    def create(
        cls,
        path: str | Path,
        task: Examples | Experiment,
        model: ModelConfig | None = None,
        training: TrainingConfig | None = None,
        *,
        initial: Mapping[str, Tensor] | None = None,
        overwrite: bool = False,
        noted: Mapping[str, Any] | None = None,
    ) -> "RunWriter":
        """A new run in the folder `path`, which must not exist, or be empty, or be a run that may be overwritten. What
        it is of is told by an experiment, or by its task, its model, and, for a run that interp trains, its training.

        The run appears at once and locked; until then, and when anything goes wrong, what was there is untouched. Of
        `initial`, the weights that training starts from where they are not drawn from model.seed, run.json notes the
        digest, and what else is `noted`. Of several processes that make one at the same path one succeeds.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.run.task.title, writer.run.steps
        ('add modulo 7', [])
        """
        if isinstance(task, Experiment) and model is None and training is None:
            task, model, training = task.task, task.model, task.training
        if model is None or isinstance(task, Experiment):
            raise InputError("expected an experiment alone, or a task and a model: RunWriter.create(path, task, model)")
        path = Path(path)
        target = Path(os.path.realpath(path))
        with contextlib.ExitStack() as on_failure:
            with new_run(path, overwrite) as fresh:
                begin_run(fresh, task, model, training, initial=initial, noted=noted or {})
                folder = on_failure.enter_context(fresh.twin())
            # `path` is no longer the way to it when it is the folder that we stand in, `.`.
            folder.path = path if folder.is_at(path) else target
            run = open_run(folder.path)
            on_failure.pop_all()
        return cls(run, folder)

    @classmethod
    def reopen(cls, path: str | Path) -> "RunWriter":
        """A writer that continues a run. Temporary files and an unfinished last line of metrics.jsonl, which a killed
        writer leaves, are removed.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.log(0, {"train_loss": 1.9})
        ...     with RunWriter.reopen(f"{folder}/mine") as writer:
        ...         writer.log(10, {"train_loss": 1.2})
        ...     [row["step"] for row in writer.run.rows]
        [0, 10]
        """
        run = open_run(path)
        with contextlib.ExitStack() as on_failure:
            folder = on_failure.enter_context(run.folder())
            folder.lock()
            for name in ("steps", "state"):
                folder.make(name)
            for name in (".", "steps", "state", "results", f"{OBSERVATIONS}/gradients"):
                folder.remove_leftovers(name)
            run = open_run(path)  # nobody writes it now
            on_failure.pop_all()
        return cls(run, folder)

    def append(self, step: int, weights: Mapping[str, Tensor], metrics: Mapping[str, Any] | None = None) -> None:
        """Save the weights after exactly `step` updates and, in metrics.jsonl, the metrics of those same weights.

        >>> import interp
        >>> from interp.models import initial_weights
        >>> from tempfile import TemporaryDirectory
        >>> model = ModelConfig(d_model=8, d_mlp=4)
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), model) as writer:
        ...         writer.append(0, initial_weights(model, 7), {"train_loss": 1.9})
        ...     writer.run.steps, writer.run.rows[0]["train_loss"]
        ([0], 1.9)
        """
        step = self._next(step)
        check_weights(weights, self.run.model, self.run.task.sizes)
        stored = {name: weight.detach().to("cpu", torch.float32) for name, weight in weights.items()}
        digest = weights_digest(stored)
        row = {"step": step, "weights": digest} | finite(metrics or {})
        self.folder.write(step_file(step), tensor_bytes(stored, self._header(step, weights=digest)))
        self._write_row(row)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write the metrics of a step without a checkpoint to metrics.jsonl.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.log(0, {"train_loss": torch.tensor(1.5)})
        ...     writer.run.rows, writer.run.steps
        ([{'step': 0, 'train_loss': 1.5}], [])
        """
        self._write_row({"step": self._next(step)} | finite(metrics))

    def log_divergence(self, step: int) -> None:
        """Record that training stopped at `step` because its loss there is not finite: a line whose training loss is
        null.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.log_divergence(70)
        ...     writer.run.rows
        [{'step': 70, 'train_loss': None}]
        """
        self.log(step, {"train_loss": math.nan})

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot of training: always its metrics, and a checkpoint where `snapshot.kept`.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> training = TrainingConfig(steps=2, log_every=1)
        >>> mine = interp.Experiment(interp.Task(7), ModelConfig(d_model=8, d_mlp=4), training)
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", mine.task, mine.model, training) as writer:
        ...         for snapshot in interp.train(mine):
        ...             writer.write(snapshot)
        ...     writer.run.steps, [row["step"] for row in writer.run.rows]
        ([0, 2], [0, 1, 2])
        """
        if snapshot.kept:
            self.append(snapshot.step, snapshot.weights, snapshot.metrics)
        else:
            self.log(snapshot.step, snapshot.metrics)

    def finish(self, **noted: Any) -> None:
        """Note in run.json that no line follows the last one, so that a line which is lost is missed; and what else is
        `noted` there.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.log(0, {"train_loss": 1.9})
        ...         writer.finish()
        ...     interp.open_run(f"{folder}/mine").info["end"]["step"]
        0
        """
        end = {"step": self.last_step if self.last_step is not None else FIRST_STEP - 1, "sum": self._sum}
        self.note(**({"end": end} if self.run.format > 1 else {}), **noted)

    def note(self, **noted: Any) -> None:
        """Write something more into run.json.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.note(recorder={"layout": None})
        ...     interp.open_run(f"{folder}/mine").info["recorder"]
        {'layout': None}
        """
        self._check_open()
        self.run.info.update(noted)
        if self.run.format > 1:
            self.folder.write(RUN_JSON, with_sum(self.run.info))
            self.run.info["sum"] = json.loads(with_sum(self.run.info))["sum"]
        else:
            self.folder.write(RUN_JSON, json.dumps(self.run.info, indent=2).encode() + b"\n")

    def _header(self, step: int, **sums: str) -> dict[str, Any]:
        return step_header(self.run.hash, step, self.run.format, **sums)

    def _write_row(self, row: dict[str, Any]) -> None:
        content, total = line_bytes(row, self._sum, self.run.format)
        with refusals_as(f"cannot write {self.run.path / METRICS}"):
            end = os.fstat(self._metrics).st_size
            try:
                if os.write(self._metrics, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._metrics, end)
                raise
        self.last_step, self._sum = row["step"], total

    def _check_open(self) -> None:
        """Raises InputError when nothing can be written any more."""
        if self._metrics == _CLOSED:
            raise InputError(f"this writer of {self.run.path} is closed; RunWriter.reopen gives another")
        if not self.folder.is_at_its_path():
            raise InputError(
                f"{self.run.path} is no longer the folder that this process was writing to: it was moved, replaced or "
                "removed, so writing stops"
            )

    def _next(self, step: Any) -> int:
        """The step, if it can be written now."""
        self._check_open()
        step = as_step(step)
        if self.last_step is not None and step <= self.last_step:
            raise InputError(f"{self.run.path} is at step {self.last_step}, so step {step} cannot follow; steps ascend")
        training = self.run.training
        if training is not None and "recorder" not in self.run.info and step > training.steps:
            raise InputError(f"the training of {self.run.path} ends at step {training.steps}, got step {step}")
        return step

    def _open_metrics(self) -> None:
        with refusals_as(f"cannot write {self.run.path / METRICS}"):
            if (found := self.folder.stat(METRICS)) is not None and stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                # A copy of hard links: what is appended here must not appear in the other run.
                self.folder.write(METRICS, self.folder.read(METRICS))
            opened = self.folder.append_to(METRICS)
            if self._metrics != _CLOSED:
                os.close(self._metrics)
            self._metrics = opened
            lines = self.run.lines
            # A line that a kill left unfinished would swallow the next one.
            os.ftruncate(opened, lines[-1].end if lines else 0)
        self.last_step = lines[-1].step if lines else None
        self._sum = sum_of(lines, self.run.hash)

    # ---- exact resume ------------------------------------------------------------------------------------------------

    def save_state(self, snapshot: Snapshot) -> None:
        """Everything needed to go on from a snapshot to the last bit; replaces the state saved before.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> training = TrainingConfig(steps=2)
        >>> mine = interp.Experiment(interp.Task(7), ModelConfig(d_model=8, d_mlp=4), training)
        >>> start, end = interp.train(mine)
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", mine.task, mine.model, training) as writer:
        ...         writer.save_state(start)
        ...         [again] = interp.train(mine, resume=writer.load_state())
        >>> weights_digest(again.weights) == weights_digest(end.weights)
        True
        """
        self._check_open()
        self.write_state(step_name(snapshot.step), snapshot.step, state_tensors(snapshot))
        for older in steps_in(self.folder, "state"):
            if older != snapshot.step:
                self.folder.remove(f"state/{step_name(older)}")

    def write_state(self, name: str, step: int, tensors: Mapping[str, Tensor]) -> None:
        """A file in `state/`, with the sums of its tensors and of the lines that lead up to it.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.write_state("mine.safetensors", 10, {"moments": torch.ones(2)})
        ...         writer.folder.names("state")
        ['mine.safetensors']
        """
        with refusals_as(f"cannot write to {self.run.path / 'state'}"):
            os.fsync(self._metrics)  # first: a state must not outlive its lines
        before = self._sum
        if self.last_step is not None and step < self.last_step:
            before = sum_of([line for line in self.run.lines if line.step <= step], self.run.hash)
        header = self._header(step, lines=before, tensors=weights_digest(tensors))
        self.folder.write(f"state/{name}", tensor_bytes(tensors, header))

    def load_state(self) -> Snapshot | None:
        """The newest saved state, with metrics.jsonl cut back to its step: what came later will be written again, bit
        for bit.

        None, with all of metrics.jsonl gone, when no state was saved: training starts over.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.load_state() is None  # no state was saved
        True
        """
        self._check_open()
        steps = steps_in(self.folder, "state")
        snapshot = self._read_state(steps[-1]) if steps else None
        self._keep_rows(snapshot.step if snapshot else FIRST_STEP - 1)
        return snapshot

    def cut_back(self, step: int) -> None:
        """Remove what was written of later steps, checkpoints and lines, where a loop goes on from `step`.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.log(0, {"train_loss": 1.9})
        ...         writer.log(10, {"train_loss": 1.2})
        ...         writer.cut_back(5)
        ...         [row["step"] for row in writer.run.rows]
        [0]
        """
        self._check_open()
        self._keep_rows(step)
        for later in (saved for saved in steps_in(self.folder, "steps") if saved > step):
            self.folder.remove(step_file(later))

    def _keep_rows(self, last: int) -> None:
        """Cut metrics.jsonl back to the lines up to step `last`; later steps, which will be written again, are no
        longer noted as removed on purpose."""
        kept = [line.end for line in self.run.lines if line.step <= last]
        self.folder.write(METRICS, self.folder.read(METRICS)[: kept[-1] if kept else 0])
        self._open_metrics()
        correct_note(self.run, self.folder)  # last: a kill in between is mended by who goes on, and comes by here again

    def _read_state(self, step: int) -> Snapshot:
        path = self.run.path / "state" / step_name(step)
        _, tensors = read_state(self.run, step_name(step), step)
        weights, state = parts_of_state(tensors, where=str(path))
        check_weights(weights, self.run.model, self.run.task.sizes, where=str(path))
        return Snapshot(step, weights, {}, state, kept=False)

    def close(self) -> None:
        """Flush metrics.jsonl to disk and release the lock. Closing twice does nothing more.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     writer = RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4))
        ...     writer.close()
        ...     RunWriter.reopen(f"{folder}/mine").close()
        """
        if self._metrics == _CLOSED:
            return
        try:
            with refusals_as(f"cannot write {self.run.path / 'metrics.jsonl'}"):
                os.fsync(self._metrics)
        finally:
            self._close_files()

    def _close_files(self) -> None:
        if self._metrics != _CLOSED:
            os.close(self._metrics)
        self._metrics = _CLOSED
        self.folder.close()

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        # What was refused first, and what it says of going on, is told; on a full disk the last flush is refused too.
        with contextlib.suppress(*[InputError] * isinstance(error, InputError)):
            self.close()
