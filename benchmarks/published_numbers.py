"""The numbers of docs/published-numbers.md: several seeds of the published setup beside what is published of it.

    interp train --preset nanda --training.steps 15000 --seeds 3 --out RUNS
    python -m benchmarks.published_numbers RUNS/seed0 RUNS/seed1 RUNS/seed2

Of every number the lowest and the highest over the seeds, beside Nanda et al. 2023 (arXiv:2301.05217) and the curve
that they released. A row agrees where our range lies within the published one, or holds the one published number; every
other is named as one that differs.
Analyses that are not there yet are computed: all checkpoints for the phases, else the last alone.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interp.analysis import analyze, find
from interp.runs import Run, open_run

Numbers = dict[str, dict[str, Any]]


class Row(NamedTuple):
    """What is compared, what is published (its lowest and highest), how it is read from a run, and how written."""

    what: str
    published: tuple[float, float]
    read: Callable[[Run, Numbers], Sequence[float]]
    form: str = "{:.3g}"


def at(split: str, step: int) -> Callable[[Run, Numbers], Sequence[float]]:
    """The loss of a split at a step; NaN where it was not logged."""
    return lambda run, numbers: [float(run.metrics[f"{split}_loss"].reindex(step=[step])[0])]


def below(split: str, level: float) -> Callable[[Run, Numbers], Sequence[float]]:
    """The first logged step at which the loss of a split is below a level."""

    def read(run: Run, numbers: Numbers) -> Sequence[float]:
        steps = run.metrics.step.values[run.metrics[f"{split}_loss"].values < level]
        return [float(steps[0]) if len(steps) else math.nan]

    return read


def number(analysis: str, *path: str) -> Callable[[Run, Numbers], Sequence[float]]:
    """A number of the summary of an analysis, or all that are below it."""
    return lambda run, numbers: list(_leaves(_below(numbers[analysis], path)))


def _below(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = [one[name] for one in value] if isinstance(value, list) else value[name]
    return value


def _leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _leaves(one)
    else:
        yield float(value) if value is not None else math.nan


def _boundary(name: str) -> Callable[[Run, Numbers], Sequence[float]]:
    return number("transitions", "boundaries", name, "step")


def _highest_test_loss(run: Run, numbers: Numbers) -> Sequence[float]:
    return [float(run.metrics.test_loss.max())]


def _trigonometric_change(run: Run, numbers: Numbers) -> Sequence[float]:
    losses = numbers["frequency_ablation"]["network_loss"]
    return [100 * (losses["polynomial"]["all"] / losses["original"]["all"] - 1)]


STEP, PERCENT = "{:,.0f}", "{:.1%}"
ROWS = (
    Row("train loss below 1e-2, step", (274, 274), below("train", 1e-2), STEP),
    *(
        Row(f"{split} loss at {step:,}", (loss, loss), at(split, step))
        for step, losses in ((500, (8.0e-4, 18.7)), (1000, (4.3e-6, 24.3)), (4000, (3.2e-7, 22.8)))
        for split, loss in zip(("train", "test"), losses, strict=True)
    ),
    Row("highest test loss", (26.6, 26.6), _highest_test_loss),
    Row("test loss below 1, step", (7583, 7583), below("test", 1), STEP),
    Row("test loss below 1e-2, step", (8258, 8258), below("test", 1e-2), STEP),
    Row("memorization ends, step", (1400, 1400), _boundary("end of memorization"), STEP),
    Row("circuit formation ends, step", (9400, 9400), _boundary("start of cleanup"), STEP),
    Row("cleanup ends, step", (14000, 14000), _boundary("end of cleanup"), STEP),
    Row("number of key frequencies", (3, 5), lambda run, numbers: [len(run.key_frequencies)], STEP),
    Row("loss, all pairs", (2.4e-7, 2.4e-7), number("progress_measures", "loss", "all")),
    Row("restricted loss", (5.5e-8, 5.5e-8), number("progress_measures", "restricted_loss", "all")),
    Row(
        "loss without the key frequencies in the logits",
        (6.5, 11),
        number("frequency_ablation", "loss", "logits", "remove_key"),
    ),
    Row(
        "loss without one key frequency in the neurons",
        (2e-4, 2.4e-2),
        number("frequency_ablation", "loss_without", "neurons"),
    ),
    Row("neurons at 85 % of one frequency, of 512", (433, 433), number("neuron_periodicity", "periodic_neurons"), STEP),
    Row("loss with those as polynomials of degree 2, change in %", (3, 3), _trigonometric_change, "{:+.0f}"),
    Row(
        "variance of the logits in cos w_k(a+b−c)", (0.95, 0.95), number("logit_structure", "r_squared", "key"), PERCENT
    ),
    Row("loss of that alone", (4.7e-8, 4.7e-8), number("logit_structure", "loss", "key", "all")),
    Row(
        "rank of W_L, per key frequency",
        (2, 2),
        lambda run, numbers: [numbers["mlp_structure"]["rank"] / len(run.key_frequencies)],
    ),
    Row(
        "u_k, v_k against cos, sin w_k(a+b), variance explained",
        (0.932, 0.982),
        number("mlp_structure", "fraction_explained"),
        PERCENT,
    ),
    Row("norm of W_L outside the key frequencies", (0, 0.0055), number("mlp_structure", "residual"), PERCENT),
    Row("sum of squared weights", (942, 955), number("weight_norms", "last_sum_of_squares"), STEP),
    Row("attention from = to =", (0.001, 0.004), number("attention_structure", "heads", "mean", "="), PERCENT),
    Row(
        "a head's pattern at one frequency, variance explained",
        (0.979, 0.991),
        number("attention_structure", "heads", "fraction_explained"),
        PERCENT,
    ),
)
OVER_TIME = "transitions"
AT_THE_END = (
    *("progress_measures", "frequency_ablation", "neuron_periodicity", "logit_structure", "mlp_structure"),
    *("weight_norms", "attention_structure"),
)


def numbers_of(run: Run) -> Numbers:
    """The summaries that the rows are read from."""
    results = analyze(run, AT_THE_END, steps=[run.last.step]) | {OVER_TIME: run.result(OVER_TIME)}
    return {name: find(name).summary(result) for name, result in results.items()}


def compared(row: Row, runs: Sequence[Run], numbers: Sequence[Numbers]) -> tuple[str, bool]:
    """The row of the table, and whether it differs from what is published."""
    values = [value for run, of_run in zip(runs, numbers, strict=True) for value in row.read(run, of_run)]
    known = [value for value in values if math.isfinite(value)]
    ours = (min(known), max(known)) if known else (math.nan, math.nan)
    inner, outer = (row.published, ours) if row.published[0] == row.published[1] else (ours, row.published)
    differs = not outer[0] <= inner[0] <= inner[1] <= outer[1]
    texts = [" to ".join(dict.fromkeys(row.form.format(end) for end in ends)) for ends in (row.published, ours)]
    return f"| {row.what} | {texts[0]} | {texts[1]} | {'differs' if differs else ''} |", differs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="runs of the preset nanda, of several seeds")
    options = parser.parse_args()
    runs = [open_run(path) for path in options.runs]
    numbers = [numbers_of(run) for run in runs]
    print(f"| | published | ours, {len(runs)} seeds | |\n| --- | --- | --- | --- |")
    rows = [compared(row, runs, numbers) for row in ROWS]
    print("\n".join(text for text, _ in rows))
    differing = [row.what for row, (_, differs) in zip(ROWS, rows, strict=True) if differs]
    print(f"\n{len(differing)} of {len(ROWS)} rows differ: {'; '.join(differing)}")


if __name__ == "__main__":
    main()
