"""Recipes of training, by the steps they take to grok.

    python benchmarks/recipes.py --out recipes.jsonl [--recipes NAME …] [--p 59 97 113] [--seeds 5]

Every recipe trains on 30 % of the pairs, over moduli and seeds (of split, weights and order alike), in two processes of
one thread each. A run stops once its answer is known: 99 % test accuracy holds and the circuit is clean (test loss
below 1e-6, at least 90 % of the neurons periodic at 0.85), or its steps are over. Each run is one line of the file, and
a line that is there is not run again; the table is of all lines that belong to what was asked for, with `--table` of
those that are there already.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp.analyses import neuron_periodicity
from interp.experiment import PRESETS, Experiment, ModelConfig, Task, TrainingConfig, hash_of
from interp.machine import one_thread
from interp.mathematics import grokking
from interp.models import DivergedError, Snapshot
from interp.runs import Checkpoint
from interp.training import train

CLEAN_LOSS, CLEAN_SHARE = 1e-6, 0.9
# Neurons take as long to judge as tens of steps: not at every logged step.
STEPS_BETWEEN_JUDGMENTS = 50
Run = tuple[Experiment, int | None]  # the arguments of `outcome`
Line = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A way of training, and a factor on all initial weights."""

    training: TrainingConfig
    scale: float = 1.0


def adamw(
    lr: float, weight_decay: float, beta2: float = 0.98, *, scale: float = 1.0, steps: int | None = None, **others: Any
) -> Recipe:
    """AdamW with a first beta of 0.9 and 10 steps of warm-up unless told otherwise. What is slow to decay is given more
    steps: 16/(lr·wd), four times what generalization takes."""
    steps = steps or 100 * math.ceil(min(max(0.16 / (lr * weight_decay), 3), 20))
    betas = others.pop("betas", (0.9, beta2))
    return Recipe(
        TrainingConfig(steps=steps, lr=lr, weight_decay=weight_decay, betas=betas, checkpoint_every=None, **others),
        scale,
    )


RECIPES: dict[str, Recipe] = {
    "lr 1e-2, wd 1": adamw(1e-2, 1, steps=2000),
    "lr 1e-2, wd 2": adamw(1e-2, 2),
    "lr 1e-2, wd 3": adamw(1e-2, 3),
    "lr 1.5e-2, wd 1": adamw(1.5e-2, 1),
    "lr 2e-2, wd 1": adamw(2e-2, 1),
    "lr 2e-2, wd 2": adamw(2e-2, 2),
    "lr 2e-2, wd 3": adamw(2e-2, 3),
    "lr 3e-2, wd 1": adamw(3e-2, 1),
    # A second beta below 0.98 forgets sooner how large gradients were.
    "lr 2e-2, wd 1, beta2 0.95": adamw(2e-2, 1, 0.95, steps=1000),
    "lr 2e-2, wd 1, beta2 0.9": adamw(2e-2, 1, 0.9),
    "lr 2e-2, wd 2, beta2 0.95": adamw(2e-2, 2, 0.95),
    "lr 2e-2, wd 2, beta2 0.95, 180 steps": adamw(2e-2, 2, 0.95, steps=180, log_every=5),
    "lr 3e-2, wd 1, beta2 0.95": adamw(3e-2, 1, 0.95),
    "lr 1.5e-2, wd 1, beta2 0.95": adamw(1.5e-2, 1, 0.95, steps=1200),
    "lr 1e-2, wd 3, beta2 0.95": adamw(1e-2, 3, 0.95, steps=300),
    # A smaller eps heeds smaller gradients.
    "lr 2e-2, wd 1, beta2 0.95, eps 1e-9": adamw(2e-2, 1, 0.95, eps=1e-9, steps=1000),
    # Smaller initial weights leave less to decay.
    "lr 2e-2, wd 1, weights ×0.5": adamw(2e-2, 1, scale=0.5),
    "lr 1e-2, wd 3, weights ×0.5": adamw(1e-2, 3, scale=0.5, steps=240, log_every=5),
    "lr 1e-2, wd 3, weights ×0.3": adamw(1e-2, 3, scale=0.3, steps=160, log_every=5),
    "lr 2e-2, wd 2, beta2 0.95, weights ×0.5": adamw(2e-2, 2, 0.95, scale=0.5, steps=160, log_every=5),
    "lr 2e-2, wd 1.5, beta2 0.95, weights ×0.7": adamw(2e-2, 1.5, 0.95, scale=0.7, steps=160, log_every=5),
    "lr 1.5e-2, wd 2, weights ×0.7": adamw(1.5e-2, 2, scale=0.7, steps=160, log_every=5),
    "lr 2e-2, wd 1, beta2 0.95, batches of 1,024": adamw(2e-2, 1, 0.95, batch_size=1024),
    "lr 2e-2, wd 2, beta2 0.95, batches of 1,024": adamw(2e-2, 2, 0.95, batch_size=1024),
    "lr 1e-2, wd 2, batches of 1,024": adamw(1e-2, 2, batch_size=1024, steps=300),
    "lr 1e-2, wd 3, batches of 1,024": adamw(1e-2, 3, batch_size=1024, steps=300),
}


# ---- one run ---------------------------------------------------------------------------------------------------------


def experiment_of(recipe: Recipe, p: int, seed: int, model: ModelConfig) -> Experiment:
    """What is trained; `seed` is that of split, weights and order of the mini-batches."""
    training = replace(recipe.training, checkpoint_every=None, seed=seed)
    return Experiment(Task(p=p, seed=seed), replace(model, seed=seed, initialization_scale=recipe.scale), training)


def key_of(run: Run) -> str:
    """What a line of the file is known by: the same for equal runs, whatever the recipe is called."""
    experiment, after = run
    return hash_of({"experiment": experiment.to_dict(), "after": after})


def outcome(experiment: Experiment, after: int | None = None) -> Line:
    """Train until the answer is known, or `after` steps after 99 % test accuracy. Steps that were not reached, and what
    cannot be told, are None."""
    began = time.perf_counter()
    seen: list[Snapshot] = []
    clean, judged_at, below, diverged = None, -STEPS_BETWEEN_JUDGMENTS, 0, False
    try:
        for snapshot in train(experiment):
            seen.append(replace(snapshot, weights={}, state={}))
            now, due = snapshot.metrics, snapshot.step - judged_at >= STEPS_BETWEEN_JUDGMENTS
            if now["test_accuracy"] >= grokking.LEVEL and now["test_loss"] < CLEAN_LOSS and due:
                judged_at = snapshot.step
                if periodic_share(snapshot, experiment) >= CLEAN_SHARE:
                    clean = snapshot.step
                    break
            below = snapshot.step if now["test_accuracy"] < grokking.LEVEL else below
            if after is not None and snapshot.step > below + after:
                break
        share = periodic_share(snapshot, experiment)
    except DivergedError as error:
        share, diverged = math.nan, True
        if error.last is not None:
            share = periodic_share(error.last, experiment)
    return told(seen) | {
        "clean": clean,
        "periodic": round(share, 4) if math.isfinite(share) else None,
        "diverged": diverged,
        "seconds": round(time.perf_counter() - began, 1),
    }


def periodic_share(snapshot: Snapshot, experiment: Experiment) -> float:
    """The share of periodic neurons (`interp.analyses.circuit.neuron_periodicity`, 0.85)."""
    checkpoint = Checkpoint(snapshot.step, snapshot.weights, experiment.task, experiment.model)
    return int(neuron_periodicity.measure(checkpoint).periodic_neurons.sum()) / experiment.model.d_mlp


def told(seen: Sequence[Snapshot]) -> Line:
    """What the learning curves tell: first and lasting steps of 99 % test accuracy, and the verdict from held-out pairs
    (`interp.mathematics.grokking`)."""
    steps = np.array([snapshot.step for snapshot in seen])
    train, test, held_out = (
        np.array([snapshot.metrics[f"{split}_accuracy"] for snapshot in seen])
        for split in ("train", "test", "unmirrored_test")
    )
    known = (test >= grokking.LEVEL).astype(float)
    generalized = grokking.first(steps, known)[0]
    accuracy = [snapshot.metrics["test_accuracy"] for snapshot in seen if snapshot.step >= generalized]
    return {
        "steps": int(steps[-1]),
        "memorized": grokking.whole(grokking.first(steps, (train >= grokking.LEVEL).astype(float))[0]),
        "generalized": grokking.whole(generalized),
        "sustained": grokking.whole(grokking.first(steps, known, for_good=True)[0]),
        "lowest_after": round(min(accuracy), 4) if accuracy else None,
        "test_accuracy": round(seen[-1].metrics["test_accuracy"], 4),
        "test_loss": seen[-1].metrics["test_loss"],
        "lowest_test_loss": min(snapshot.metrics["test_loss"] for snapshot in seen),
        "verdict": grokking.events(steps, np.array([train, held_out])).verdict,
    }


# ---- all runs --------------------------------------------------------------------------------------------------------


def lines_of(file: Path) -> dict[str, Line]:
    """The lines that are there, by key; a line that a kill cut short is no line."""
    found = {}
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        found[line["key"]] = line
    return found


def search(file: Path, wanted: dict[str, Run], processes: int) -> dict[str, Line]:
    """Run what is missing and append it; all lines wanted, by key."""
    there = lines_of(file)
    missing = {key: wanted[key] for key in wanted if key not in there}
    with file.open("a", encoding="utf-8") as out:
        if out.tell() and not file.read_text(encoding="utf-8").endswith("\n"):
            out.write("\n")  # a kill cut the last line short
        for key, line in outcomes(missing, processes):
            there[key] = {"key": key, "experiment": wanted[key][0].to_dict(), **line}
            out.write(json.dumps(there[key]) + "\n")
            out.flush()
    return {key: there[key] for key in wanted}


def outcomes(missing: dict[str, Run], processes: int) -> Iterator[tuple[str, Line]]:
    """Key and line of every run, as they come."""
    if processes == 1 or not missing:
        with one_thread():
            for key, what in missing.items():
                yield key, outcome(*what)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=be_modest) as pool:
        futures = {pool.submit(outcome, *what): key for key, what in missing.items()}
        for done in as_completed(futures):
            yield futures[done], done.result()


def be_modest() -> None:
    """One thread, and behind whatever else the machine has to do."""
    torch.set_num_threads(1)
    os.nice(10)


# ---- the table -------------------------------------------------------------------------------------------------------


def table(recipes: Iterable[str], lines: dict[tuple[str, int], list[Line]]) -> str:
    """Markdown, a row per recipe and modulus. Steps are lowest / median / highest over the seeds that came so far."""
    heads = (
        "recipe",
        "p",
        "memorized",
        "99 % for good",
        "delay",
        "lost",
        "grokking",
        "lowest after",
        "clean",
        "loss at the end",
        "periodic",
    )
    rows = [heads, ("---",) * len(heads)]
    for name in recipes:
        rows += [(name, str(p), *row_of(lines[name, p])) for p in sorted(p for recipe, p in lines if recipe == name)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def row_of(runs: Sequence[Line]) -> tuple[str, ...]:
    """What a row says of the runs of one recipe and modulus."""
    delays = [line["sustained"] / line["memorized"] for line in runs if line["sustained"] and line["memorized"]]
    lowest = [line["lowest_after"] for line in runs if line["lowest_after"] is not None]
    clean, n = [line["clean"] for line in runs if line["clean"]], len(runs)
    shares = [line["periodic"] for line in runs if line["periodic"] is not None]
    return (
        spread([line["memorized"] for line in runs]),
        spread([line["sustained"] for line in runs]),
        f"{statistics.median(delays):.1f}" if delays else "–",
        f"{sum(line['sustained'] is None for line in runs)} of {n}",
        f"{sum(line['verdict'] == 'grokking' for line in runs)} of {n}",
        f"{100 * min(lowest):.1f} %" if lowest else "–",
        f"{spread(clean)} ({len(clean)} of {n})" if clean else f"0 of {n}",
        f"{max(line['test_loss'] for line in runs):.0e}",
        f"{100 * min(shares):.0f} %" if shares else "–",
    )


def spread(steps: Sequence[int | None]) -> str:
    """Lowest / median / highest, or the one value that there is."""
    known = [step for step in steps if step is not None]
    three = (min(known), round(statistics.median(known)), max(known)) if known else ("–",)
    return " / ".join(map(str, dict.fromkeys(three) if len(set(known)) < 2 else three))


def main() -> None:
    recipes = RECIPES | {name: Recipe(preset.training) for name, (_, preset) in PRESETS.items() if name != "reference"}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the file of lines, one per run")
    parser.add_argument(
        "--recipes", nargs="+", default=list(RECIPES), choices=list(recipes), metavar="NAME", help="default: all"
    )
    parser.add_argument("--p", nargs="+", type=int, default=[59, 97, 113], help="moduli (default: 59 97 113)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, … (default: 5)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--after", type=int, help="stop so many steps after 99 %% test accuracy, clean or not: a coarse search"
    )
    parser.add_argument("--steps", type=int, help="at most so many steps, whatever the recipe says")
    parser.add_argument("--table", action="store_true", help="train nothing; the table of the lines that are there")
    for name in ("d-model", "n-heads", "d-mlp"):
        parser.add_argument(f"--{name}", type=int, default=getattr(ModelConfig, name.replace("-", "_")))
    options = parser.parse_args()
    model = ModelConfig(d_model=options.d_model, n_heads=options.n_heads, d_mlp=options.d_mlp)
    wanted: dict[str, Run] = {}
    keys: dict[tuple[str, int], list[str]] = {}
    for seed, name, p in product(range(options.seeds), options.recipes, options.p):
        recipe = recipes[name]
        steps = min(recipe.training.steps, options.steps or recipe.training.steps)
        recipe = replace(recipe, training=replace(recipe.training, steps=steps))
        run = (experiment_of(recipe, p, seed, model), options.after)
        wanted[key_of(run)] = run
        keys.setdefault((name, p), []).append(key_of(run))
    lines = lines_of(options.out) if options.table else search(options.out, wanted, options.processes)
    there = {of: [lines[key] for key in some if key in lines] for of, some in keys.items()}
    print(table(options.recipes, {of: some for of, some in there.items() if some}))


if __name__ == "__main__":
    main()
