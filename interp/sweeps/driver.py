"""Running an experiment: training on one side, a run on disk on the other, with progress, interruption and exact
resume."""

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Experiment
from interp.machine import computed_ahead
from interp.models import DivergedError, Snapshot, check_weights, weight_shapes
from interp.runs import Run, RunWriter, open_run, weights_digest
from interp.training import check_device, train_stepwise

# The optimizer's state is saved this often, so a kill costs at most this much training, and saving it costs nothing
# that shows.
STATE_INTERVAL_SECONDS = 5.0

Report = Callable[[Snapshot], None]


class InterruptedTrainingError(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM; the run is whole and can be resumed."""


def size_on_disk(experiment: Experiment) -> int:
    """About how many bytes the run's checkpoints will take; counted, not listed: a slip of the finger can ask for a
    thousand million."""
    training = experiment.training
    n_kept = 2 + training.steps // (training.checkpoint_every or training.steps + 1)
    n_kept += min(training.checkpoint_log or 0, training.steps) + len(training.checkpoint_steps)
    per_checkpoint = _weight_bytes(experiment) + 2048
    return per_checkpoint * (n_kept + 3)  # and the state: weights and two moments


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    initial: Mapping[str, Tensor] | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    report: Report = lambda snapshot: None,
) -> Run:
    """Train into a new run in the folder `out`, on `device`; `report` sees every snapshot after it was written.

    Training starts from the weights drawn from model.seed, or from `initial`, whose digest run.json then notes. Raises
    InputError when the folder is taken, the disk too small or the loss no longer finite, and InterruptedTrainingError
    after Ctrl-C or SIGTERM; in the last two cases everything up to then is kept.
    """
    out = Path(out)
    check_device(device)
    check_room(out, experiment)
    if initial is not None:
        check_weights(initial, experiment.model, experiment.task.sizes, where="initial weights")
        initial = {
            name: weight.detach().to("cpu", torch.float32) for name, weight in initial.items()
        }  # as they are trained and stored
    with RunWriter.create(
        out, experiment.task, experiment.model, experiment.training, initial=initial, overwrite=overwrite
    ) as writer:
        return _drive(writer, experiment, train_stepwise(experiment, initial, device=device), None, report)


def resume_run(path: str | Path, *, device: str = "cpu", report: Report = lambda snapshot: None) -> Run:
    """Go on with an interrupted run to its end; the result is the same, to the last bit, as without the interruption,
    where all of it is trained on the CPU."""
    check_device(device)
    with RunWriter.reopen(path) as writer:
        run = writer.run
        experiment = run.experiment
        if experiment is None:
            raise InputError(f"{path} was not trained by interp, so there is nothing to resume")
        if run.is_complete:
            raise InputError(f"{path} is complete: it has reached step {experiment.training.steps}")
        # The order in which threads add up is part of the result.
        torch.set_num_threads(int(run.info["host"]["threads"]))
        state = writer.load_state()
        initial = _initial_weights(run) if state is None and "initial_weights" in run.info else None
        return _drive(
            writer, experiment, train_stepwise(experiment, initial, resume=state, device=device), state, report
        )


def _initial_weights(run: Run) -> Mapping[str, Tensor]:
    """The weights that a run was given to start from: those of its first checkpoint."""
    if 0 not in run.steps:
        raise InputError(
            f"{run.path} was stopped before the weights it was to start from were saved; train it anew, with "
            "--overwrite"
        )
    initial = open_run(run.path)[0].weights
    if (digest := weights_digest(initial)) != (noted := run.info["initial_weights"]):
        raise InputError(
            f"{run.path} began with weights of digest {noted}, and its checkpoint of step 0 has {digest}; it was "
            "altered"
        )
    return initial


def _drive(
    writer: RunWriter,
    experiment: Experiment,
    steps: Generator[Snapshot | None],
    resume: Snapshot | None,
    report: Report,
) -> Run:
    written, saved_step, saved_at = resume, resume.step if resume else -1, time.monotonic()
    try:
        # Training goes on while a snapshot is written: a disk can take as long to answer as ten steps.
        with signals_interrupt(), computed_ahead(steps) as snapshots:
            for snapshot in snapshots:
                writer.write(snapshot)
                written = snapshot
                if time.monotonic() - saved_at > STATE_INTERVAL_SECONDS or snapshot.step == experiment.training.steps:
                    writer.save_state(snapshot)
                    saved_step, saved_at = snapshot.step, time.monotonic()
                report(snapshot)
    except KeyboardInterrupt:
        if written is not None and written.step > saved_step:
            writer.save_state(written)
        if written is not None and written.step == experiment.training.steps:
            raise InterruptedTrainingError(f"interrupted after its last step; {writer.run.path} is complete") from None
        at = f"at step {written.step}" if written is not None else "before its first checkpoint"
        raise InterruptedTrainingError(f"interrupted {at}; go on with: interp resume {writer.run.path}") from None
    except DivergedError as error:
        writer.log_divergence(error.step)
        raise InputError(f"{error}; the checkpoints before it are in {writer.run.path}") from None
    return writer.run


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM (a cluster's way to say stop) acts like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_room(out: Path, experiment: Experiment, n_runs: int = 1) -> None:
    """Raises InputError, before anything is written, for what this machine cannot hold of so many runs at once."""
    folder = next(parent for parent in (out, *out.absolute().parents) if os.path.exists(parent))
    if not os.path.isdir(folder):
        raise InputError(f"cannot write to {out}: {folder} is a file")
    needed, free = n_runs * size_on_disk(experiment), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the checkpoints need about {megabytes(needed)} and {folder} has {megabytes(free)} left; "
            "raise training.checkpoint-every, or choose another --out"
        )
    needed, memory = n_runs * _least_memory(experiment), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise InputError(
            f"training needs more than {megabytes(needed)} of memory and this machine has {megabytes(memory)}; "
            "use a smaller model"
        )
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise InputError(f"cannot write to {folder}: Permission denied")


def _least_memory(experiment: Experiment) -> int:
    """Bytes that training cannot do without: weights and gradient, and the neurons and float64 logits of a batch."""
    model, n_examples = experiment.model, experiment.training.batch_size or len(experiment.task.train_indices)
    return 2 * _weight_bytes(experiment) + n_examples * (4 * model.d_mlp + 8 * experiment.task.n_classes)


def _weight_bytes(experiment: Experiment) -> int:
    return 4 * sum(map(math.prod, weight_shapes(experiment.model, experiment.task.sizes).values()))


def megabytes(n_bytes: int) -> str:
    """A size for a person, rounded up; any size, also one that no float holds."""
    return f"{-(-n_bytes // 10**6):,} MB"
