"""Writing a run: one writer at a time, every file whole, and after a kill at any moment a run that opens, verifies and
resumes."""

import contextlib
import errno
import json
import math
import numbers
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Examples, ModelConfig, TrainingConfig
from interp.machine import (
    built_beside,
    lock_folder,
    read_bytes,
    read_tensors,
    refusals_as,
    remove_leftovers,
    tensor_bytes,
    write_atomically,
)
from interp.models import Snapshot, check_weights
from interp.runs.format import (
    FIRST_STEP,
    FORMAT,
    as_step,
    check_header,
    run_info,
    split_tensors,
    step_header,
    step_name,
    steps_in,
    weights_digest,
)
from interp.runs.run import Run, open_run

_CLOSED = -1


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

    def __init__(self, run: Run, lock: int) -> None:
        self.run, self._lock, self._metrics = run, lock, _CLOSED
        try:
            self._open_metrics()
        except BaseException:
            self._close_files()
            raise

    @classmethod
    def create(
        cls,
        path: str | Path,
        task: Examples,
        model: ModelConfig,
        training: TrainingConfig | None = None,
        *,
        initial: Mapping[str, Tensor] | None = None,
        overwrite: bool = False,
    ) -> "RunWriter":
        """A new run in the folder `path`, which must not exist, or be empty, or be a run that may be overwritten.

        The run appears at once and locked; until then, and when anything goes wrong, what was there is untouched. Of
        `initial`, the weights that training starts from where they are not drawn from model.seed, run.json notes the
        digest.

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with RunWriter.create(f"{folder}/mine", interp.Task(7), ModelConfig(d_mlp=4)) as writer:
        ...         writer.run.task.title, writer.run.steps
        ('add modulo 7', [])
        """
        path = Path(path)
        target = Path(os.path.realpath(path))
        with contextlib.ExitStack() as on_failure:
            with new_run(path, overwrite) as fresh:
                (fresh / "steps").mkdir()
                (fresh / "state").mkdir()
                (fresh / "metrics.jsonl").touch()
                write_atomically(fresh / "split.safetensors", tensor_bytes(split_tensors(task), {"format": FORMAT}))
                write_atomically(
                    fresh / "run.json", json.dumps(run_info(task, model, training, initial), indent=2).encode() + b"\n"
                )
                lock = lock_folder(fresh)
                on_failure.callback(os.close, lock)
            # `path` is no longer the way to it when it is the folder that we stand in, `.`.
            run = open_run(path if (path / "run.json").exists() else target)
            on_failure.pop_all()
        return cls(run, lock)

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
        lock = lock_folder(run.path)
        with contextlib.ExitStack() as on_failure, refusals_as(f"cannot write to {run.path}"):
            on_failure.callback(os.close, lock)
            for folder in (run.path, run.path / "steps", run.path / "state"):
                folder.mkdir(exist_ok=True)
                remove_leftovers(folder)
            # An analysis needs no lock, and may be saving its result at this moment.
            remove_leftovers(run.path / "results", of_the_dead_only=True)
            on_failure.pop_all()
        return cls(run, lock)

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
        row = {"step": step, "weights": weights_digest(stored)} | _finite(metrics or {})
        write_atomically(
            self.run.path / "steps" / step_name(step), tensor_bytes(stored, step_header(self.run.hash, step))
        )
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
        self._write_row({"step": self._next(step)} | _finite(metrics))

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

    def _write_row(self, row: dict[str, Any]) -> None:
        content = (json.dumps(row) + "\n").encode()
        with refusals_as(f"cannot write {self.run.path / 'metrics.jsonl'}"):
            end = os.fstat(self._metrics).st_size
            try:
                if os.write(self._metrics, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._metrics, end)
                raise
        self._last_step = row["step"]

    def _next(self, step: Any) -> int:
        """The step, if it can be written now."""
        if self._metrics == _CLOSED:
            raise InputError(f"this writer of {self.run.path} is closed; RunWriter.reopen gives another")
        step = as_step(step)
        if self._last_step is not None and step <= self._last_step:
            raise InputError(
                f"{self.run.path} is at step {self._last_step}, so step {step} cannot follow; steps ascend"
            )
        return step

    def _open_metrics(self) -> None:
        path = self.run.path / "metrics.jsonl"
        with refusals_as(f"cannot write {path}"):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if self._metrics != _CLOSED:
                os.close(self._metrics)
            self._metrics = opened
            # A line that a kill left unfinished would swallow the next one.
            os.ftruncate(opened, read_bytes(path).rfind(b"\n") + 1)
        rows = self.run.rows
        self._last_step: int | None = rows[-1]["step"] if rows else None

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
        tensors = {f"weights|{name}": weight for name, weight in snapshot.weights.items()}
        tensors |= {f"optimizer|{name}": value for name, value in snapshot.state.items()}
        folder = self.run.path / "state"
        with refusals_as(f"cannot write to {folder}"):
            os.fsync(self._metrics)  # first: a state must not outlive the lines that lead up to it
            write_atomically(
                folder / step_name(snapshot.step), tensor_bytes(tensors, step_header(self.run.hash, snapshot.step))
            )
            for older in steps_in(folder):
                if older != snapshot.step:
                    (folder / step_name(older)).unlink()

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
        steps = steps_in(self.run.path / "state")
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
        self._keep_rows(step)
        for later in (saved for saved in steps_in(self.run.path / "steps") if saved > step):
            (self.run.path / "steps" / step_name(later)).unlink()

    def _keep_rows(self, last: int) -> None:
        """Cut metrics.jsonl back to the lines up to step `last`."""
        kept = "".join(json.dumps(row) + "\n" for row in self.run.rows if row["step"] <= last)
        write_atomically(self.run.path / "metrics.jsonl", kept.encode())
        self._open_metrics()

    def _read_state(self, step: int) -> Snapshot:
        path = self.run.path / "state" / step_name(step)
        tensors, header = read_tensors(path)
        check_header(path, header, self.run.hash, step)
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}}
        for full_name, tensor in tensors.items():
            part, _, name = full_name.partition("|")
            if part not in parts:
                raise InputError(f"{path}: unexpected tensor {full_name!r}; names begin with weights| or optimizer|")
            parts[part][name] = tensor
        check_weights(parts["weights"], self.run.model, self.run.task.sizes, where=str(path))
        return Snapshot(step, parts["weights"], {}, parts["optimizer"], kept=False)

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
        os.close(self._lock)
        self._metrics = self._lock = _CLOSED

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def new_run(path: Path, overwrite: bool) -> Iterator[Path]:
    """A folder for what is to be the run at `path`, see `built_beside`. One that it replaces is locked meanwhile:
    nobody is writing there, and none can begin to.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with new_run(Path(folder, "mine"), overwrite=False) as fresh:
    ...         RunWriter.create(fresh, interp.Task(7), ModelConfig(d_mlp=4)).close()
    ...     open_run(Path(folder, "mine")).task.title
    'add modulo 7'
    """
    with contextlib.ExitStack() as held, refusals_as(f"cannot write {path}"):
        if is_run_to_replace(path, overwrite):
            held.callback(os.close, lock_folder(path))
        yield held.enter_context(built_beside(path))


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


def _finite(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity: they become null."""
    for name in ("step", "weights"):
        if name in metrics:
            raise InputError(f"a metric cannot be named {name!r}: metrics.jsonl has its own")
    values = {name: _number(name, value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor | np.ndarray):
        if len(value.shape) and math.prod(value.shape) != 1:
            raise InputError(f"the metric {name!r} is a tensor of shape {list(value.shape)}, expected one number")
        value = value.item() if not isinstance(value, Tensor) or not value.is_meta else None
    if not isinstance(value, numbers.Real | np.bool_):
        raise InputError(f"the metric {name!r} is {value!r:.60}, expected a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf
