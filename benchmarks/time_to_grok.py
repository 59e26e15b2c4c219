"""Seconds from the start of `interp train` to 99 % test accuracy for good, for presets and seeds.

    python -m benchmarks.time_to_grok [--presets quick fastest] [--seeds 5] [--published RUN]

Every run is a process of its own, started as from the command line, one after the other; the clock is stopped when the
metrics of the step stand in the run's metrics.jsonl. With `--published RUN`, a run at lr 1e-3 (the preset `nanda`),
also what the published recipe takes on this machine: that run's steps to 99 %, each with a loss on all test pairs,
through TransformerLens' bridge.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.table import Row, machine
from benchmarks.training_step import compare, module_step
from interp.experiment import PRESETS, Experiment, TrainingConfig, preset
from interp.machine import keep_freed_memory
from interp.mathematics import grokking
from interp.models import bridge, initial_weights
from interp.runs import Run, open_run
from interp.training import Batch

GOALS = {"spiky": "≤ 12 s", "fastest": "≤ 6 s, every seed"}
STEPS_OF_THE_PUBLISHED_RECIPE = 7410  # to 99 % for good: the preset `nanda`
COMMAND = [sys.executable, "-c", "from interp.cli import main; raise SystemExit(main())", "train"]


def sustained_step(run: Run) -> float:
    """The step from which on test accuracy stays at 99 %; NaN where it does not."""
    is_known = np.nan_to_num(run.metrics.test_accuracy.values) >= grokking.LEVEL
    return grokking.first(run.metrics.step.values, is_known.astype(float), for_good=True)[0]


def timed(name: str, seed: int, folder: Path, options: list[str]) -> tuple[float, float, float]:
    """The step of 99 %, the seconds until it stood in the file, and the seconds of the whole process."""
    seeds = [word for section in ("task", "model", "training") for word in (f"--{section}.seed", str(seed))]
    metrics, out = folder / "metrics.jsonl", folder.parent / "output.txt"
    arrived: list[float] = []
    began = time.perf_counter()
    with (
        out.open("w") as output,
        subprocess.Popen(
            [*COMMAND, "--preset", name, *seeds, "--out", str(folder), *options], stdout=output
        ) as process,
    ):
        while process.poll() is None:
            time.sleep(0.02)
            n_lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            arrived += [time.perf_counter() - began] * (n_lines - len(arrived))
    took = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"interp train --preset {name} failed:\n{out.read_text()}")
    run = open_run(folder)
    arrived += [took] * (run.metrics.sizes["step"] - len(arrived))
    step = sustained_step(run)
    return step, arrived[run.metrics.step.values.tolist().index(int(step))] if math.isfinite(step) else math.nan, took


def bridge_step_seconds(run: Run | Experiment, rounds: int) -> float:
    """The median update through the bridge, with the loss of all test pairs before it, as the published notebook
    does."""
    weights, train_set, test_set = (
        initial_weights(run.model, run.task.p),
        Batch.of(run.task, "train"),
        Batch.of(run.task, "test"),
    )
    network = bridge(weights, run.model)
    update = module_step(network, run.task.p, run.training or TrainingConfig(), train_set)
    tokens = torch.cat([test_set.inputs, torch.full((len(test_set), 1), run.task.p)], dim=1)

    def step() -> float:
        with torch.no_grad():
            nn.functional.cross_entropy(network(tokens)[:, -1].double(), test_set.labels)
        return update()

    return statistics.median(compare({"bridge": step}, rounds, 1)["bridge"])


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """For the table of all benchmarks."""
    published = STEPS_OF_THE_PUBLISHED_RECIPE * bridge_step_seconds(preset("nanda"), options.bridge_rounds)
    for name in options.presets:
        found = []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as temporary:
                found.append(timed(name, seed, Path(temporary) / "run", [])[:2])
        yield row_of(name, found, published)


def row_of(name: str, found: Sequence[tuple[float, float]], published: float) -> Row:
    """The median of a preset, seeds that were never there the slowest of all; `found` has the step and the seconds of
    each, or NaN."""
    held = [(step, seconds) for step, seconds in found if math.isfinite(step)]
    middle = statistics.median(seconds if math.isfinite(step) else math.inf for step, seconds in found)
    beside = f"{len(held)} of {len(found)} seeds"
    if held:
        steps, seconds = zip(*held, strict=True)
        beside += f", at steps {min(steps):.0f}–{max(steps):.0f}, slowest {max(seconds):.1f} s"
    if math.isfinite(middle):
        beside += f"; published recipe through the bridge {published:,.0f} s ({published / middle:.0f}×)"
    took = f"{middle:.1f} s" if math.isfinite(middle) else "not reached"
    return Row(f"`interp train --preset {name}` to 99 % test accuracy for good", took, beside, GOALS.get(name, ""))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this benchmark."""
    parser.add_argument("--presets", nargs="+", default=["quick", "fastest"], choices=list(PRESETS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, … (default: 5)")
    parser.add_argument(
        "--bridge-rounds", type=int, default=20, help="steps of the bridge that are timed (default: 20)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument(
        "--published", type=Path, metavar="RUN", help="a run of the published recipe, for the comparison with it"
    )
    parser.add_argument("options", nargs="*", help="more options for `interp train`, after --")
    options = parser.parse_args()
    print(machine(), "\n")
    print(
        "| preset | seed | 99 % for good at step | seconds until then | seconds of the whole run |\n| --- | --- "
        "| --- | --- | --- |"
    )
    seconds: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for name in options.presets:
            with tempfile.TemporaryDirectory() as temporary:
                step, until, whole = timed(name, seed, Path(temporary) / "run", options.options)
            seconds.setdefault(name, []).append(until)
            print(f"| {name} | {seed} | {step:.0f} | {until:.1f} | {whole:.1f} |", flush=True)
    for name, values in seconds.items():
        print(
            f"\n{name}: {min(values):.1f} / {statistics.median(values):.1f} / {max(values):.1f} s (lowest, "
            "median, highest)"
        )
    if options.published:
        keep_freed_memory()
        run = open_run(options.published)
        steps, each = sustained_step(run), bridge_step_seconds(run, options.bridge_rounds)
        print(
            f"\npublished recipe: {steps:,.0f} steps to 99 % × {1e3 * each:.0f} ms per step of the bridge = "
            f"{steps * each:,.0f} s"
        )
        for name, values in seconds.items():
            print(f"that is {steps * each / statistics.median(values):,.0f} times the median of {name}")


if __name__ == "__main__":
    main()
