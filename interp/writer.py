"""Writing a run: one writer at a time, every file whole, and after a kill at any moment a run that opens, verifies and resumes."""

import fcntl
import json
import math
import os
import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import ModelConfig, TrainingConfig, hash_of
from interp.files import read_tensors, sync_folder, tensor_bytes, write_atomically
from interp.store import FORMAT, Run, description, open_run, split_tensors, step_name, weights_digest
from interp.task import Task
from interp.training import Snapshot
from interp.weights import check_weights


class RunWriter:
    """Appends checkpoints and metrics to a run; also for your own training loop:

        with RunWriter.create("checkpoints/mine", task, model) as writer:
            writer.append(step, weights, {"train_loss": loss})

    Steps ascend. The folder is locked while the writer is open; `create` and `reopen` raise InputError when another process has it.
    """

    def __init__(self, run: Run, lock: int) -> None:
        self.run, self._lock = run, lock
        try:
            self._metrics = os.open(run.path / "metrics.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            os.close(lock)
            raise InputError(f"cannot write {run.path / 'metrics.jsonl'}: {error.strerror}") from None

    @classmethod
    def create(
        cls, path: str | Path, task: Task, model: ModelConfig, training: TrainingConfig | None = None, *, overwrite: bool = False
    ) -> "RunWriter":
        """A new run in the folder `path`, which must not exist, or be empty, or be a run that may be overwritten."""
        path = Path(path)
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            if not overwrite:
                raise InputError(f"{path} already exists; choose another --out, or give --overwrite to replace it")
            if not (path / "run.json").is_file():
                raise InputError(f"{path} is not a run, so it is not overwritten")
            os.close(_lock_folder(path))  # refuses while another process is writing there
        content = description(task, model, training)
        info = {
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
        fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            (fresh / "steps").mkdir(parents=True)
            (fresh / "state").mkdir()
            write_atomically(fresh / "split.safetensors", tensor_bytes(split_tensors(task), {"format": FORMAT}))
            write_atomically(fresh / "run.json", json.dumps(info, indent=2).encode() + b"\n")
            if path.exists():
                shutil.rmtree(path)
            os.rename(fresh, path)
            sync_folder(path.parent)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return cls(open_run(path), _lock_folder(path))

    @classmethod
    def reopen(cls, path: str | Path) -> "RunWriter":
        """Go on with a run. What a kill left half-done is put away."""
        run = open_run(path)
        lock = _lock_folder(run.path)
        for folder in (run.path, run.path / "steps", run.path / "state", run.path / "results"):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()
        return cls(run, lock)

    def append(self, step: int, weights: Mapping[str, Tensor], metrics: Mapping[str, float] | None = None) -> None:
        """Save the weights after exactly `step` updates and, in metrics.jsonl, the metrics of those same weights."""
        check_weights(weights, self.run.model, self.run.task.p)
        stored = {name: weight.detach().to("cpu", torch.float32) for name, weight in weights.items()}
        header = {"experiment": self.run.hash, "format": FORMAT, "step": f"{step:09d}"}
        write_atomically(self.run.path / "steps" / step_name(step), tensor_bytes(stored, header))
        self._write_row({"step": step, "weights": weights_digest(stored)} | _finite(metrics or {}))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a step that keeps no checkpoint."""
        self._write_row({"step": step} | _finite(metrics))

    def write(self, snapshot: Snapshot) -> None:
        """A snapshot of training: a checkpoint where it is to be kept, its metrics in any case."""
        if snapshot.kept:
            self.append(snapshot.step, snapshot.weights, snapshot.metrics)
        else:
            self.log(snapshot.step, snapshot.metrics)

    def _write_row(self, row: dict[str, Any]) -> None:
        content = (json.dumps(row) + "\n").encode()
        end = os.fstat(self._metrics).st_size
        try:
            if os.write(self._metrics, content) != len(content):
                raise OSError(28, "No space left on device")
        except OSError as error:
            os.ftruncate(self._metrics, end)
            raise InputError(f"cannot write {self.run.path / 'metrics.jsonl'}: {error.strerror}") from None

    # ---- exact resume ------------------------------------------------------------------------------------------------

    def save_state(self, snapshot: Snapshot) -> None:
        """Everything needed to go on from a snapshot to the last bit; replaces the state saved before."""
        os.fsync(self._metrics)
        tensors = {f"weights|{name}": weight for name, weight in snapshot.weights.items()}
        tensors |= {f"optimizer|{name}": value for name, value in snapshot.state.items()}
        folder = self.run.path / "state"
        header = {"experiment": self.run.hash, "format": FORMAT, "step": f"{snapshot.step:09d}"}
        write_atomically(folder / step_name(snapshot.step), tensor_bytes(tensors, header))
        for older in folder.glob("step_*.safetensors"):
            if older.name != step_name(snapshot.step):
                older.unlink()

    def load_state(self) -> Snapshot | None:
        """The newest saved state, with metrics.jsonl cut back to its step: what came later will be written again, bit for bit."""
        found = sorted((self.run.path / "state").glob("step_*.safetensors"))
        tensors, header = read_tensors(found[-1]) if found else ({}, {})
        if found and header.get("experiment") != self.run.hash:
            raise InputError(f"{found[-1]} belongs to experiment {header.get('experiment')}, not to {self.run.hash}")
        step = int(header["step"]) if found else -1
        kept_rows = [json.dumps(row) + "\n" for row in self.run.rows if row["step"] <= step]
        write_atomically(self.run.path / "metrics.jsonl", "".join(kept_rows).encode())
        os.close(self._metrics)
        self._metrics = os.open(self.run.path / "metrics.jsonl", os.O_WRONLY | os.O_APPEND)
        if not found:
            return None
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}}
        for full_name, tensor in tensors.items():
            part, _, name = full_name.partition("|")
            parts[part][name] = tensor
        return Snapshot(step, parts["weights"], {}, parts["optimizer"], kept=False)

    def close(self) -> None:
        """Give the lock back."""
        os.fsync(self._metrics)
        os.close(self._metrics)
        os.close(self._lock)

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def thin(run: Run, keep_every: int) -> int:
    """Remove the checkpoints whose step is not a multiple of `keep_every`; the first and the last stay. Returns how many went."""
    if keep_every < 1:
        raise InputError(f"--keep-every must be at least 1, got {keep_every}")
    lock = _lock_folder(run.path)
    try:
        removed = [step for step in run.steps[1:-1] if step % keep_every]
        # First the note that they are gone on purpose, then the files: a kill in between leaves a run that verifies.
        write_atomically(run.path / "thinned.json", json.dumps(sorted(run.thinned | set(removed))).encode() + b"\n")
        for step in removed:
            (run.path / "steps" / step_name(step)).unlink()
        return len(removed)
    except OSError as error:
        raise InputError(f"cannot thin {run.path}: {error.strerror}") from None
    finally:
        os.close(lock)


def _lock_folder(path: Path) -> int:
    """An exclusive lock, which the system gives back when the process ends, however it ends."""
    try:
        lock = os.open(path / ".lock", os.O_WRONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise InputError(f"{path} is being written by another process") from None
    return lock


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity: they become null."""
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
