"""How long it takes to grok: from the start of the process to sustained 99 % test accuracy, of a preset and a few seeds.

    python -m benchmarks.grokking [--preset quick] [--seeds 0 1 2 3 4]

Sustained: not below again in the hundred steps after. Beside it the published recipe (lr 1e-3, Nanda et al. 2023) as it is run today: the
steps that it takes to get there, of our preset `nanda`, times a step of the TransformerLens bridge with its test loss, measured here.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.sizes import add_sizes, sized
from benchmarks.table import Row, seconds
from benchmarks.training_step import module_step
from interp.experiment import Experiment, preset
from interp.model import bridge
from interp.training import Batch, train
from interp.weights import initial_weights

GOALS = {"quick": "≤ 12 s", "fastest": "≤ 6 s"}
ACCURACY, SUSTAINED = 0.99, 100
STEPS_OF_THE_PUBLISHED_RECIPE = 7410  # of the preset `nanda`, seed 0, to sustained 99 %


def time_to_grok(name: str, seed: int) -> tuple[float, int]:
    """Seconds and steps, in a process of its own; infinite if it does not happen."""
    command = [sys.executable, "-m", "benchmarks.grokking", "--preset", name, "--train", str(seed)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reached: tuple[float, int] | None = None
        for line in process.stdout:
            step, accuracy = int(line.split()[0]), float(line.split()[1])
            if accuracy < ACCURACY:
                reached = None
            elif reached is None:
                reached = time.monotonic() - began, step
            elif step >= reached[1] + SUSTAINED:
                break
        process.kill()
    return reached or (float("inf"), -1)


def published_step(experiment: Experiment, repeats: int = 5) -> float:
    """The median seconds of a step of the TransformerLens bridge and of the test loss after it, over all pairs that are not trained on."""
    network = bridge(initial_weights(experiment.model, experiment.task.p), experiment.model)
    step = module_step(network, experiment.task.p, experiment.training, Batch.of(experiment.task, "train"))
    test = Batch.of(experiment.task, "test")
    tokens = torch.cat([test.pairs, torch.full((len(test), 1), experiment.task.p)], dim=1)

    @torch.no_grad()
    def test_loss() -> None:
        torch.nn.functional.cross_entropy(network(tokens)[:, -1].double(), test.labels)

    return statistics.median(seconds(step) + seconds(test_loss) for _ in range(repeats))


def train_here(name: str, seed: int) -> None:
    """What the process does."""
    chosen = preset(name)
    experiment = replace(chosen, model=replace(chosen.model, seed=seed))
    for snapshot in train(experiment):
        print(snapshot.step, snapshot.metrics["test_accuracy"], flush=True)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """For the table of all benchmarks."""
    found = [time_to_grok(options.preset, seed) for seed in options.seeds]
    times, steps = zip(*found, strict=True)
    middle = statistics.median(times)
    beside = f"at steps {min(steps)}–{max(steps)}, {len(steps)} seeds; slowest {max(times):.1f} s"
    published = STEPS_OF_THE_PUBLISHED_RECIPE * published_step(sized(options))
    beside += f"; published recipe {published:.0f} s ({published / middle:.0f}×)"
    yield Row(
        f"process start to sustained 99 % test accuracy, `{options.preset}`", f"{middle:.1f} s", beside, GOALS.get(options.preset, "")
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--preset", default="quick", help="what to train (default: quick)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the initial weights (default: 0 1 2 3 4)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    add_sizes(parser)
    parser.add_argument("--train", type=int, metavar="SEED", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        train_here(options.preset, options.train)
        return
    for row in rows(options):
        print(f"{row.what}  {row.ours}  {row.beside}")


if __name__ == "__main__":
    main()
