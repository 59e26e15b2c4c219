"""What dense checkpoints cost: writing them beside training, writing and reading one, a trajectory of many, and
analyzing them all.

    python -m benchmarks.checkpointing [--checkpoints 1000] [--rounds 5]

At the canonical sizes one checkpoint is 0.9 MB. `torch.save` and `torch.load` stand beside ours; they neither bring a
file to the disk before they return nor check what they read. A peer's trajectory is read from 100 files, and told for
as many as ours.
"""

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.sizes import add_sizes, arguments, sized
from benchmarks.table import Row, seconds
from interp.analysis import analyze
from interp.experiment import Experiment
from interp.machine import keep_freed_memory
from interp.models import Weights, initial_weights
from interp.runs import Run, RunWriter, open_run
from interp.sweeps import run_experiment
from interp.training import (
    METRICS,
    Batch,
    WeightUpdater,
    loss_and_gradient,
    tables_are_faster,
    threads_of_torch,
    worker_threads,
)

EVERY = 10  # steps, between one checkpoint, with all its metrics, and the next
# The fastest ones, and among them the one with by far the largest result: memory is what is asked here, not time.
ANALYSES = ("learning_curves", "embedding_spectrum", "neuron_periodicity", "weight_norms")


def bare_steps(experiment: Experiment) -> float:
    """The seconds of a step that leaves nothing behind."""
    weights, batch = initial_weights(experiment.model, experiment.task.p), Batch.of(experiment.task, "train")
    updater, by_tables = WeightUpdater([weights], experiment.training), tables_are_faster(experiment)

    def step(number: int) -> None:
        with threads_of_torch(experiment.model):
            _, _, gradient = loss_and_gradient(weights, experiment.model, batch, each, by_tables=by_tables)
            updater.update(number, [gradient])

    with worker_threads() as each:
        step(0)  # loads code
        return seconds(lambda: [step(number) for number in range(1, experiment.training.steps)]) / (
            experiment.training.steps - 1
        )


def recorded_steps(experiment: Experiment, folder: Path) -> float:
    """The seconds of a step, of a run that is written to disk."""
    times: list[float] = []
    run_experiment(experiment, folder, overwrite=True, report=lambda snapshot: times.append(time.perf_counter()))
    return (times[-1] - times[1]) / (experiment.training.steps - EVERY)  # the first interval loads code


def dense(experiment: Experiment, rounds: int, folder: Path) -> tuple[float, float]:
    """The median seconds of a bare step, and of one of a run with metrics and a checkpoint every ten steps, in
    turns."""
    bare, recorded = [], []
    for _ in range(rounds):
        bare.append(bare_steps(experiment))
        recorded.append(recorded_steps(experiment, folder))
    return statistics.median(bare), statistics.median(recorded)


def many_checkpoints(experiment: Experiment, n_checkpoints: int, folder: Path) -> list[float]:
    """A run whose checkpoints are the initial weights, perturbed at random; the seconds that each took to write."""
    generator, times = torch.Generator().manual_seed(0), []
    start = initial_weights(experiment.model, experiment.task.p)
    with RunWriter.create(folder, experiment.task, experiment.model) as writer:
        for step in range(n_checkpoints):
            weights = {
                name: weight + 0.01 * torch.randn(weight.shape, generator=generator) for name, weight in start.items()
            }
            metrics = dict.fromkeys(METRICS, 1.0)
            times.append(
                seconds(lambda step=step, weights=weights, metrics=metrics: writer.append(step, weights, metrics))
            )
    return times


def torch_saved(run: Run, steps: Sequence[int], folder: Path) -> list[float]:
    """The same weights by torch.save."""
    folder.mkdir()
    times = []
    for step in steps:
        weights = run[step].weights
        times.append(seconds(lambda step=step, weights=weights: torch.save(weights, folder / f"{step}.pt")))
    return times


def torch_loaded(folder: Path, step: int) -> Weights:
    """One of them."""
    return torch.load(folder / f"{step}.pt", weights_only=True)


def torch_trajectory(folder: Path, name: str) -> Tensor:
    """One tensor of all of them."""
    return torch.stack([torch_loaded(folder, step)[name] for step in range(len(list(folder.iterdir())))])


def peak_memory(command: Sequence[str]) -> tuple[float, float]:
    """The seconds and the highest memory, in bytes, that a command of this file itself reports."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.checkpointing", *command], check=True, stdout=subprocess.PIPE, text=True
    )
    time_taken, memory = done.stdout.split()[-2:]
    return float(time_taken), float(memory)


def report_peak(began: float) -> None:
    """What a process has to say at its end."""
    print(time.perf_counter() - began, own_peak_memory())


def own_peak_memory() -> int:
    """The highest memory of this process in bytes. On Linux `ru_maxrss` would count what its parent had when it was
    started."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """For the table of all benchmarks."""
    experiment = sized(options, steps=5 * EVERY + 1, checkpoint_every=EVERY, log_every=EVERY)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        bare, recorded = dense(experiment, options.rounds, folder / "dense")
        what = f"a step with test loss and checkpoint every {EVERY} steps"
        yield Row(
            what,
            f"{1e3 * recorded:.1f} ms",
            f"bare step {1e3 * bare:.1f} ms: {recorded / bare - 1:+.0%}",
            "≤ 12 % more",
        )

        n = options.checkpoints
        written = statistics.median(many_checkpoints(experiment, n, folder / "many"))
        run = open_run(folder / "many")
        sample = range(min(n, 100))
        saved = statistics.median(torch_saved(run, sample, folder / "torch"))
        yield Row(
            "writing a checkpoint, onto the disk",
            f"{1e3 * written:.1f} ms",
            f"torch.save, into the cache {1e3 * saved:.1f} ms",
            "",
        )
        read = statistics.median(seconds(lambda step=step: run[step].weights) for step in sample)
        loaded = statistics.median(seconds(lambda step=step: torch_loaded(folder / "torch", step)) for step in sample)
        yield Row("reading it, warm", f"{1e3 * read:.1f} ms", f"torch.load {1e3 * loaded:.1f} ms", "")
        ours = min(seconds(lambda: run.trajectory("embed.W_E")) for _ in range(4))
        theirs = seconds(lambda: torch_trajectory(folder / "torch", "embed.W_E")) * n / len(sample)
        yield Row(
            f"one tensor of {n:,} checkpoints, warm",
            f"{ours:.2f} s",
            f"torch.load {theirs:.2f} s ({theirs / ours:.1f}×); ours reads whole checkpoints, for their sums",
            "≤ 0.2 s",
        )
        took, memory = peak_memory(["--analyze", str(folder / "many"), *options.analyses])
        what = f"highest memory, {len(options.analyses)} analyses of {n:,} checkpoints"
        yield Row(what, f"{memory / 1e6:.0f} MB", f"in {took:.0f} s", "≤ 1 GB of 2,000")
        took, memory = peak_memory(["--train", str(folder / "trained"), *arguments(options)])
        yield Row(
            "highest memory, training", f"{memory / 1e6:.0f} MB", f"{took:.0f} s with the start of Python", "≤ 600 MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    add_sizes(parser)
    parser.add_argument("--analyze", nargs="+", metavar="RUN", help=argparse.SUPPRESS)
    parser.add_argument("--train", metavar="RUN", help=argparse.SUPPRESS)
    options = parser.parse_args()
    began = time.perf_counter()
    keep_freed_memory()
    if options.analyze:
        analyze(open_run(options.analyze[0]), options.analyze[1:] or ["all"])
        report_peak(began)
    elif options.train:
        run_experiment(sized(options, steps=5 * EVERY, checkpoint_every=EVERY, log_every=EVERY), options.train)
        report_peak(began)
    else:
        for row in rows(options):
            print(f"{row.what:<56} {row.ours:>10}   {row.beside}" + (f"   goal: {row.goal}" if row.goal else ""))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--rounds", type=int, default=5, help="of training, bare and recorded in turns (default: 5)")
    parser.add_argument("--checkpoints", type=int, default=1000, help="to read and to analyze (default: 1000)")
    parser.add_argument(
        "--analyses", nargs="*", default=ANALYSES, help=f"by name, or none for all (default: {' '.join(ANALYSES)})"
    )
    parser.add_argument(
        "--folder", type=Path, help="where to write (default: the system's temporary folder); the disk decides"
    )


if __name__ == "__main__":
    main()
