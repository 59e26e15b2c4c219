"""What came of a run, told from what training logged alone."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from interp.experiment import Operations
from interp.mathematics import grokking
from interp.runs.curves import columns_of

if TYPE_CHECKING:
    from interp.runs.run import Run


DIVERGED = "diverged"
STATES = ("complete", DIVERGED, "unfinished", "recorded")


@dataclass(frozen=True)
class Ending:
    """How far a run came (`state`: "complete", "diverged" or "unfinished", and "recorded" of a loop of its own), the
    last step logged, what the curves up to there tell (`interp.mathematics.grokking`), and the last metrics. Of one
    that diverged the `verdict` is that: what its curves told before came to nothing.

    Of several operations `of_each` has all of it for each, by name. Of the network the verdict is then the one that all
    of them have, and unknown where they differ, and the steps are those of the last of them.

    >>> import interp
    >>> end = ending_of(interp.open_run(interp.reference_path()))
    >>> end.state, end.step, end.verdict, end.generalized_at, round(end.metrics["test_accuracy"], 3)
    ('complete', 3000, 'grokking', 950.0, 1.0)
    """

    state: str
    step: int
    verdict: str
    memorized_at: float
    generalized_after: float
    generalized_at: float
    metrics: dict[str, float]
    of_each: Mapping[str, "Ending"] = field(default_factory=dict)

    @property
    def in_words(self) -> str:
        """The verdict and its step, for a line of a list."""
        if self.of_each and self.state != DIVERGED:
            return "; ".join(f"{operation}: {one.in_words}" for operation, one in self.of_each.items())
        if math.isfinite(self.generalized_at) and self.state != DIVERGED:
            return f"{self.verdict}, generalized at step {self.generalized_at:,.0f}"
        if self.verdict == "memorization" and math.isfinite(self.memorized_at):
            return f"memorization, from step {self.memorized_at:,.0f} on"
        return "verdict unknown" if self.verdict == "unknown" else self.verdict


def events_of(run: "Run", operation: str | None = None) -> grokking.Events:
    """What the logged metrics of a run tell of train and held-out pairs (`interp.mathematics.grokking`); of several
    operations, of all together or of one.

    >>> import interp
    >>> events_of(interp.open_run(interp.reference_path())).verdict
    'grokking'
    """
    # As `grokking.events_of` has it of `run.curves`, without the datasets, which take most of the time for a thousand.
    task, of_one = run.task, "" if operation is None else f"{operation}."
    train, held_out = (int(task.mask(f"{of_one}{split}").sum()) for split in ("train", "held_out"))
    is_known = bool(train or held_out)
    columns = columns_of(task) if operation is None else {name: f"{of_one}{name}" for name in ("train", "held_out")}
    independent = task.n_held_out
    if operation is not None:
        independent = len(np.unique(task.orbits[task.mask(f"{of_one}held_out")]))
    rows = {line.step: line.row for line in run.lines if any(isinstance(v, float | int) for v in _metrics(line.row))}

    def curves(name: str) -> np.ndarray:
        of = [f"{columns['train']}_{name}", f"{columns['held_out' if is_known else 'test']}_{name}"]
        return np.array([[row.get(column) for row in rows.values()] for column in of], dtype=float)

    return grokking.events(
        np.array(list(rows), dtype=np.int64),
        curves("accuracy"),
        curves("loss") if run.training is None or run.training.loss_is_cross_entropy else None,
        math.log(task.n_classes),
        pairs=(train or None, held_out or None),
        independent=independent if is_known else None,
    )


def _metrics(row: Mapping[str, Any]) -> Iterable[Any]:
    return (value for name, value in row.items() if name not in ("step", "weights"))


def ending_of(run: "Run") -> Ending:
    """What came of a run so far; where nothing was logged the step is −1 and the verdict "unknown".

    >>> import interp
    >>> ending_of(interp.open_run(interp.reference_path())).in_words
    'grokking, generalized at step 950'
    """
    rows = [line.row for line in run.lines]
    if not rows:
        return Ending(_state(run, {}), -1, "unknown", math.nan, math.nan, math.nan, {})
    state = _state(run, rows[-1])
    known = [row for row in rows if len(row) > 1 and row.get("train_loss", 0.0) is not None] or rows
    last = {name: math.nan if value is None else value for name, value in known[-1].items()}
    step = rows[-1]["step"]
    metrics = {name: float(value) for name, value in last.items() if name not in ("step", "weights")}
    if not isinstance(run.task, Operations):
        return _ending(state, step, events_of(run), metrics)
    each = {one: _ending(state, step, events_of(run, one), {}) for one in run.task.operations}
    verdicts = {one.verdict for one in each.values()}
    # NaN where one of them is.
    memorized_at, generalized_after, generalized_at = np.array(
        [(one.memorized_at, one.generalized_after, one.generalized_at) for one in each.values()]
    ).max(0)
    return Ending(
        state=state,
        step=step,
        verdict=verdicts.pop() if len(verdicts) == 1 else "unknown",
        memorized_at=float(memorized_at),
        generalized_after=float(generalized_after),
        generalized_at=float(generalized_at),
        metrics=metrics,
        of_each=each,
    )


def _ending(state: str, step: int, events: grokking.Events, metrics: dict[str, float]) -> Ending:
    after, at, _ = events.generalized or (math.nan, math.nan, math.nan)
    return Ending(
        state=state,
        step=step,
        verdict=DIVERGED if state == DIVERGED else events.verdict,
        memorized_at=events.memorized.at if events.memorized is not None else math.nan,
        generalized_after=after,
        generalized_at=at,
        metrics=metrics,
    )


def _state(run: "Run", last: dict[str, Any]) -> str:
    if run.training is None:  # whether it is to go on only its own loop knows
        return "recorded" if "recorder" in run.info else "complete"
    if last.get("train_loss", 0.0) is None:
        return DIVERGED
    return "complete" if run.is_complete else "unfinished"
