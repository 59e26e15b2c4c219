"""Running experiments: training on one side, runs on disk on the other, with progress, interruption and exact
resume."""

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from interp.training import check_device, together

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
        # As they are trained and stored.
        initial = {name: weight.detach().to("cpu", torch.float32) for name, weight in initial.items()}
    with RunWriter.create(
        out, experiment.task, experiment.model, experiment.training, initial=initial, overwrite=overwrite
    ) as writer:
        return _drive_one(writer, experiment, report, device, initial=initial)


def resume_run(path: str | Path, *, device: str = "cpu", report: Report = lambda snapshot: None) -> Run:
    """Go on with an interrupted run to its end; the result is the same, to the last bit, as without the interruption,
    where all of it is trained on the CPU."""
    check_device(device)
    with RunWriter.reopen(path) as writer:
        run = writer.run
        if "recorder" in run.info:
            raise InputError(
                f"{path} was recorded by a training loop of its own, which alone can go on with it: "
                "interp.Recorder(…, resume=True)"
            )
        experiment = run.experiment
        if experiment is None:
            raise InputError(f"{path} was not trained by interp, so there is nothing to resume")
        if run.is_complete:
            raise InputError(f"{path} is complete: it has reached step {experiment.training.steps}")
        # The order in which threads add up is part of the result.
        torch.set_num_threads(int(run.info["host"]["threads"]))
        state = writer.load_state()
        initial = _initial_weights(run) if state is None and "initial_weights" in run.info else None
        return _drive_one(writer, experiment, report, device, initial=initial, resume=state)


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


def _drive_one(
    writer: RunWriter,
    experiment: Experiment,
    report: Report,
    device: str,
    *,
    initial: Mapping[str, Tensor] | None = None,
    resume: Snapshot | None = None,
) -> Run:
    path = writer.run.path
    diverged = drive(
        [experiment],
        [writer],
        report,
        device,
        initial=[initial] if initial is not None else None,
        resume=[resume] if resume is not None else None,
        at_the_end=f"its last step; {path} is complete",
        before=f"go on with: interp resume {path}",
    )
    for error in diverged.values():
        raise InputError(f"{error}; the checkpoints before it are in {path}")
    return writer.run


def drive(
    experiments: Sequence[Experiment],
    writers: Sequence[RunWriter],
    report: Report,
    device: str,
    *,
    at_the_end: str,
    before: str,
    initial: Sequence[Mapping[str, Tensor]] | None = None,
    resume: Sequence[Snapshot] | None = None,
) -> dict[int, DivergedError]:
    """Train experiments that differ in their seeds alone, each into its run; `report` sees the mean of their metrics.
    Returns why which of them did not come to the end.

    After Ctrl-C or SIGTERM every state is saved, and InterruptedTrainingError says `at_the_end` or `before`.
    """
    n_steps, diverged = experiments[0].training.steps, dict[int, DivergedError]()
    last = dict(enumerate(resume or ()))
    saved, saved_at = dict(last), time.monotonic()

    def save() -> None:
        for place, snapshot in last.items():
            if snapshot is not saved.get(place):
                writers[place].save_state(snapshot)
                saved[place] = snapshot

    moments = together(experiments, initial=initial, resume=resume, device=device)
    try:
        # Training goes on while a snapshot is written: a disk can take as long to answer as ten steps.
        with signals_interrupt(), computed_ahead(moments) as ready:
            for moment in ready:
                for place, snapshot in moment.items():
                    if isinstance(snapshot, DivergedError):
                        writers[place].log_divergence(snapshot.step)
                        diverged[place] = snapshot
                        last.pop(place, None)
                    else:
                        writers[place].write(snapshot)
                        last[place] = snapshot
                shown = [snapshot for snapshot in moment.values() if isinstance(snapshot, Snapshot)]
                if shown:
                    if time.monotonic() - saved_at > STATE_INTERVAL_SECONDS or shown[0].step == n_steps:
                        save()
                        saved_at = time.monotonic()
                    report(_mean(shown))
    except KeyboardInterrupt:
        save()
        steps = {snapshot.step for snapshot in last.values()}
        if steps == {n_steps} and not diverged:
            raise InterruptedTrainingError(f"interrupted after {at_the_end}") from None
        at = f"at step {max(steps)}" if steps else "before its first checkpoint"
        raise InterruptedTrainingError(f"interrupted {at}; {before}") from None
    return diverged


def _mean(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Of one snapshot itself; of several the mean of every metric, for a person to watch."""
    if len(snapshots) == 1:
        return snapshots[0]
    metrics = {
        name: math.fsum(one.metrics[name] for one in snapshots) / len(snapshots) for name in snapshots[0].metrics
    }
    return Snapshot(snapshots[0].step, {}, metrics, {}, kept=False)


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
