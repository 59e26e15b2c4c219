"""What dense checkpoints cost: writing them, reading a trajectory of them, and analyzing them all.

    python benchmarks/checkpointing.py [--checkpoints 1000] [--training-steps 200]

At the canonical sizes (p = 113, d_model 128, 4 heads, d_mlp 512) one checkpoint is 0.9 MB. The goals are those of the project: saving
every 10 steps costs under 5 % of training; analyzing 1,000 checkpoints stays under 1.5 GB.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from interp.analysis import analyze
from interp.experiment import Experiment, ModelConfig, TrainingConfig
from interp.memory import keep_freed_memory
from interp.store import open_run
from interp.task import Task
from interp.training import METRICS, train
from interp.weights import initial_weights
from interp.writer import RunWriter

GOAL_SAVING, GOAL_MEMORY = 0.05, 1.5e9
SAVE_EVERY = 10
# The fastest ones, and among them the one with by far the largest result: memory is what is asked here, not time.
ANALYSES = ("learning_curves", "embedding_spectrum", "neuron_periodicity", "weight_norms")


def saving(experiment: Experiment, folder: Path) -> None:
    """Train, keeping every tenth step, with a clock around the writer."""
    computing: list[float] = []
    writing: list[float] = []
    with RunWriter.create(folder, experiment.task, experiment.model, experiment.training) as writer:
        before = time.perf_counter()
        for snapshot in train(experiment):
            computed = time.perf_counter()
            writer.write(snapshot)
            written = time.perf_counter()
            computing.append(computed - before)
            writing.append(written - computed)
            before = written
    # The first interval is not ten steps long, and loads code.
    interval, save = statistics.median(computing[1:]), statistics.median(writing[1:])
    size = next((folder / "steps").iterdir()).stat().st_size
    share, of_all = save / interval, sum(writing) / sum(computing)
    print(f"saving      {1e3 * save:.2f} ms for {size / 1e6:.2f} MB; {1e3 * interval:.1f} ms for {SAVE_EVERY} steps and their metrics")
    print(f"            {share:.1%} of training (goal: under {GOAL_SAVING:.0%}); {of_all:.1%} when every second is counted")


def many_checkpoints(experiment: Experiment, n_checkpoints: int, folder: Path) -> None:
    """A run whose checkpoints are the initial weights, perturbed at random."""
    generator = torch.Generator().manual_seed(0)
    start = initial_weights(experiment.model, experiment.task.p)
    began = time.perf_counter()
    with RunWriter.create(folder, experiment.task, experiment.model) as writer:
        for step in range(n_checkpoints):
            weights = {name: weight + 0.01 * torch.randn(weight.shape, generator=generator) for name, weight in start.items()}
            writer.append(step, weights, dict.fromkeys(METRICS, 1.0))
    size = sum(path.stat().st_size for path in (folder / "steps").iterdir())
    print(f"wrote       {n_checkpoints} checkpoints, {size / 1e6:.0f} MB, in {time.perf_counter() - began:.1f} s")


def reading(folder: Path) -> None:
    """Every embedding of the run, twice: what is warm is in the system's cache."""
    run, seconds = open_run(folder), []
    for _ in range(4):
        began = time.perf_counter()
        trajectory = run.trajectory("embed.W_E")
        seconds.append(time.perf_counter() - began)
    print(f"trajectory  {list(trajectory.shape)}: first {seconds[0]:.3f} s, warm {min(seconds[1:]):.3f} s")


def analyzing(folder: Path, names: Sequence[str]) -> None:
    """The analyses, in a process of their own, whose highest memory is then known."""
    command = [sys.executable, __file__, "--analyze", str(folder), *names]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout, end="")


def analyze_here(folder: Path, names: list[str]) -> None:
    """What the process of `analyzing` does."""
    began = time.perf_counter()
    results = analyze(open_run(folder), names or None)
    seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(f"analyzing   {', '.join(results)}")
    print(f"            {seconds:.1f} s; highest memory {peak / 1e9:.2f} GB (goal: under {GOAL_MEMORY / 1e9} GB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=1000, help="to read and to analyze (default: 1000)")
    parser.add_argument("--training-steps", type=int, default=200, help="to save during (default: 200)")
    parser.add_argument("--analyses", nargs="*", default=ANALYSES, help=f"by name, or none for all (default: {' '.join(ANALYSES)})")
    parser.add_argument(
        "--folder", type=Path, help="where to write (default: the system's temporary folder); the disk decides what saving costs"
    )
    for name, value in {"p": 113, "d-model": 128, "n-heads": 4, "d-mlp": 512}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--analyze", nargs="+", metavar="RUN", help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()
    if options.analyze:
        analyze_here(Path(options.analyze[0]), options.analyze[1:])
        return
    model = ModelConfig(d_model=options.d_model, n_heads=options.n_heads, d_mlp=options.d_mlp)
    training = TrainingConfig(steps=options.training_steps, checkpoint_every=SAVE_EVERY, log_every=SAVE_EVERY)
    experiment = Experiment(Task(p=options.p), model, training)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        saving(experiment, Path(temporary) / "saving")
        many = Path(temporary) / "many"
        many_checkpoints(experiment, options.checkpoints, many)
        reading(many)
        analyzing(many, options.analyses)


if __name__ == "__main__":
    main()
