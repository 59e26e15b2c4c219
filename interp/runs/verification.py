"""Is a run what it says it is? Every sum, what the schedule says must be there, and all numbers that the weights give,
recomputed; and in words what could not be checked."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from interp.errors import InputError
from interp.experiment import Samples, Schedule, splits_of_each
from interp.models import Weights, are_finite, gradient, own_weights
from interp.runs.absences import missing_in_words, missing_steps
from interp.runs.asking import run_of
from interp.runs.checkpoint import Checkpoint
from interp.runs.digests import weights_digest
from interp.runs.format import step_name, steps_in
from interp.runs.info import RUN_JSON, SPLIT
from interp.runs.lines import METRICS, Line
from interp.runs.loop_state import load_loop_state
from interp.runs.observations import OBSERVED, contradictions_of_observations, remedy_of_observations
from interp.runs.remedies import is_trained_here, remedy, remedy_of_state
from interp.runs.run import THINNED, Run
from interp.runs.state import read_state
from interp.runs.writer import OBSERVATIONS

# The weights are the same; what may differ is the order in which float32 sums of the forward pass are taken.
RELATIVE_TOLERANCE = 2e-3
ABSOLUTE_TOLERANCE = 1e-9
ABSOLUTE_TOLERANCE_IN_FLOAT32 = 2**-23  # of a loss computed in float32: its smallest positive value
# The gradient is a difference of such sums.
GRADIENT_TOLERANCE = 2e-2, 1e-6
SPLITS = {
    **{"train": "train", "test": "test", "unmirrored_test": "unmirrored", "held_out": "held_out"},
    "validation": "validation",
}
PARTS = {RUN_JSON, SPLIT, METRICS, THINNED, ".lock", "steps", "state", "results", OBSERVATIONS}


@dataclass
class Verification:
    """What was found: contradictions, a line each; what was checked; what was not, and why; and what mends the
    contradictions.

    >>> Verification().contradictions
    []
    """

    contradictions: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)


def verify(run: Run | str | Path, walk: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps) -> Verification:
    """Whether every byte of a run that is believed is what was written, and whether all of it is there: sums of
    run.json, split, lines, checkpoints, states and the note of thinned steps; the steps and the metrics that the
    schedule of a training promises; losses, accuracies and norms, recomputed from the weights.

    It cannot tell whether the weights are those that training gave: whoever alters a number and all sums over it leaves
    nothing to be seen, unless it is one that is recomputed.

    >>> import interp
    >>> found = verify(interp.open_run(interp.reference_path()), walk=lambda steps: steps[-1:])  # the last alone
    >>> found.contradictions, found.checked[1]
    ([], '1 of 53 checkpoints: sums, shapes, and 8 metrics of each recomputed')
    """
    run, found = run_of(run), Verification()
    try:
        lines, steps, thinned = run.lines, run.steps, run.thinned
    except InputError as error:
        unchecked = ["checkpoints and states: the lines and the listing of the checkpoints come first"]
        return Verification([str(error)], [], unchecked, [remedy(run)])
    found.contradictions += _missing_parts(run)
    found.contradictions += _against_schedule(run, lines, steps)
    told = ["sums"] * (run.format > 1) + ["order"] + ["what the schedule promises"] * is_trained_here(run)
    found.checked += [f"{_n(len(lines), 'line')} of {METRICS}: {', '.join(told)}"] * bool(lines)
    recomputed, others, n_checked = set[str](), {name for line in lines for name in line.row}, 0
    rows = {line.step: line.row for line in lines}
    for step in walk(steps):
        n_checked += 1
        try:
            checkpoint = run[step]
            for name, stored, seen in _recomputed(run, checkpoint, rows.get(step, {})):
                recomputed.add(name)
                if seen is not None:
                    told = " ".join(name.rsplit("_", 1))
                    found.contradictions.append(f"{run.path}: step {step}: the {told} is {seen}, recorded was {stored}")
        except InputError as error:
            found.contradictions.append(str(error))
    of_each = f", and {_n(len(recomputed), 'metric')} of each recomputed" if recomputed else ""
    found.checked += [f"{n_checked:,} of {_n(len(steps), 'checkpoint')}: sums, shapes{of_each}"] * bool(steps)
    found.unchecked += _of_which_there_is_none(lines, steps, thinned)
    if found.contradictions:
        found.remedies.append(remedy(run))
    _check_states(run, rows, found)
    if found.contradictions and not found.remedies:
        found.remedies.append(remedy_of_state(run))
    _check_observations(run, found)
    found.unchecked += _not_against_each_other(run, lines, steps, thinned)
    if n_checked and (given := sorted(others - recomputed - {"step", "weights"})):
        told = ", ".join(name if name.isprintable() else ascii(name) for name in given[:6])
        found.unchecked.append(f"metrics that the weights do not give: {told[:200]}{', …' * (len(given) > 6)}")
    if run.format == 1:
        found.unchecked.append("what format 1 has no sums for: run.json beyond the experiment, lines, states")
    found.unchecked += _other_files(run)
    return found


def _of_which_there_is_none(lines: Sequence[Line], steps: Sequence[int], thinned: set[int]) -> Iterator[str]:
    if not lines:
        yield f"{METRICS}: it has no lines"
    if not steps:
        removed = f"; {THINNED} notes that {_n(len(thinned), 'was', 'were')} removed" if thinned else ""
        yield f"checkpoints: there are none{removed}"


def _not_against_each_other(run: Run, lines: Sequence[Line], steps: Sequence[int], thinned: set[int]) -> Iterator[str]:
    """Checkpoints and lines that have nothing to be compared with."""
    logged, there = {line.step for line in lines}, set(steps)
    if without := len(there - logged):
        yield f"{_n(without, 'checkpoint')} against the line of its step, which is not there (yet)"
    if again := len(thinned & there):
        yield f"whether all of the checkpoints that {THINNED} notes were removed: {again:,} are there"
    if alone := sum("weights" not in line.row or line.step not in there for line in lines):
        yield f"{_n(alone, 'line')} without a checkpoint against weights" + _only_sums(run)


def _other_files(run: Run) -> Iterator[str]:
    with run.folder() as folder:
        if results := [name for name in folder.names("results") if name.endswith(".nc")]:
            told = "which are checked when they are read; --deep recomputes them"
            yield f"{_n(len(results), 'file')} in results, {told}"
        if strange := sorted(set(folder.names()) - PARTS):
            told = ", ".join(ascii(name)[1:-1] for name in strange[:5])
            yield f"what is not part of a run: {told[:200]}{', …' * (len(strange) > 5)}"


def _n(number: int, one: str, several: str = "") -> str:
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def _only_sums(run: Run) -> str:
    return ": their sums alone" if run.format > 1 else ""


def _missing_parts(run: Run) -> Iterator[str]:
    with run.folder() as folder:
        for name in (METRICS, "steps"):
            if folder.stat(name) is None:
                yield f"{run.path / name} is missing"


def _against_schedule(run: Run, lines: Sequence[Line], steps: Sequence[int]) -> Iterator[str]:
    """Checkpoints and lines that should be there and are not, and the other way round."""
    logged = {line.step for line in lines}
    if missing := missing_steps(run):
        yield missing_in_words(run, missing)
    if is_trained_here(run):  # another loop keeps what it likes
        assert run.training is not None
        schedule = Schedule(run.training)
        for step in (step for step in steps if not schedule.keeps(step)):
            yield f"{run.path}: there is a checkpoint of step {step}, which the schedule does not keep"
        yield from _lines_against(schedule, run.path / METRICS, lines)
    elif "end" in run.info:
        for step in (step for step in steps if step not in logged):
            yield f"{run.path / METRICS} has no line of the checkpoint of step {step}"


def _lines_against(schedule: Schedule, path: Path, lines: Sequence[Line]) -> Iterator[str]:
    metrics, due = None, 0
    for line in lines:
        if line.is_divergence:  # at any step
            return
        if line.step > due:
            yield f"{path} has no line of step {due}; the next one is of step {line.step}"
        elif line.step < due:
            yield f"{path} has a line of step {line.step}, which the schedule does not log"
        if schedule.keeps(line.step) != ("weights" in line.row):
            seen = "no digest of the" if schedule.keeps(line.step) else "the digest of a"
            yield f"{path} has {seen} checkpoint of step {line.step}, against the schedule"
        # A run that was begun before training logged its highest loss may have been gone on with since.
        names = line.row.keys() - {"weights", "train_loss_max", "train_loss_max_step"}
        metrics = names if metrics is None else metrics
        if names != metrics:
            yield f"{path} has other metrics at step {line.step} than at step 0: {sorted(names ^ metrics)!s:.200}"
        due = schedule.logged_after(line.step)


def _recomputed(run: Run, checkpoint: Checkpoint, row: dict) -> Iterator[tuple[str, str, str | None]]:
    """The metrics of a line that its weights give, as they are recorded, and as they are where that differs."""
    of_each = splits_of_each(checkpoint.task, ("train", "test", "held_out"))
    for prefix, split in (SPLITS | dict(zip(of_each, of_each, strict=True))).items():
        stored = row.get(f"{prefix}_loss")
        if stored is not None:
            loss = checkpoint.trained_loss(split)
            in_float32 = checkpoint.training.loss_precision == "float32"
            absolute = ABSOLUTE_TOLERANCE_IN_FLOAT32 if in_float32 else ABSOLUTE_TOLERANCE
            same = math.isclose(loss, stored, rel_tol=RELATIVE_TOLERANCE, abs_tol=absolute)
            yield f"{prefix}_loss", f"{stored:.6g}", None if same else f"{loss:.6g}"
        stored = row.get(f"{prefix}_accuracy")
        if stored is not None:
            # A pair whose two largest logits agree to rounding may fall to either side.
            accuracy, pairs = checkpoint.accuracy(split), int(checkpoint.task.mask(split).sum())
            same = abs(accuracy - stored) * pairs <= 2.001
            yield f"{prefix}_accuracy", f"{stored:.4f}", None if same else f"{accuracy:.4f}"
    if (stored := row.get("weight_norm")) is not None:
        norm = _norm(own_weights(checkpoint.weights))
        same = math.isclose(norm, stored, rel_tol=RELATIVE_TOLERANCE)
        yield "weight_norm", f"{stored:.6g}", None if same else f"{norm:.6g}"
    if (stored := row.get("gradient_norm")) is not None and (norm := _gradient_norm(run, checkpoint)) is not None:
        relative, absolute = GRADIENT_TOLERANCE
        same = math.isclose(norm, stored, rel_tol=relative, abs_tol=absolute)
        yield "gradient_norm", f"{stored:.6g}", None if same else f"{norm:.6g}"


def _gradient_norm(run: Run, checkpoint: Checkpoint) -> float | None:
    """That of the training loss; None where it is of a mini-batch, of a network with dropout or noise on its weights,
    of one that is not run here, or of a loss in float32: there the last bit of a logit decides whether an example has a
    gradient."""
    task, weights = run.task, checkpoint.weights
    full_batch = run.training is not None and run.training.batch_size is None and "recorder" not in run.info
    is_noisy = checkpoint.training.regularizers.is_noisy
    is_told = full_batch and not is_noisy and checkpoint.training.loss_precision == "float64"
    if not is_told or isinstance(task, Samples) or run.model.is_recorded or not are_finite(weights):
        return None
    chosen = torch.from_numpy(task.train_indices)
    d_logits = checkpoint.logits.flatten(0, -2)[chosen].T.contiguous()  # written over
    checkpoint.trained_on.judge_with_gradient_(d_logits, torch.from_numpy(task.labels)[chosen], len(chosen))
    inputs = torch.from_numpy(task.inputs)[chosen]
    return _norm(gradient(weights, run.model, inputs, d_logits.T))


def _norm(weights: Weights) -> float:
    return math.sqrt(sum(float(weight.double().square().sum()) for weight in weights.values()))


def _check_observations(run: Run, found: Verification) -> None:
    contradictions = list(contradictions_of_observations(run))
    if contradictions and not found.contradictions:
        found.remedies.append(remedy_of_observations(run))
    found.contradictions += contradictions
    if run.info.get(OBSERVED) is not None:
        found.checked.append("the observed gradients: sums, shapes, and that none is missing")


def _check_states(run: Run, rows: dict[int, dict], found: Verification) -> None:
    """What is kept for going on: its sums, and that its weights are those of its step."""
    with run.folder() as folder:
        steps, names = steps_in(folder, "state"), folder.names("state")
    for step in steps:
        try:
            _, tensors = read_state(run, step_name(step), step)
        except InputError as error:
            with run.folder() as folder:
                if step in steps_in(folder, "state"):  # otherwise a newer one has taken its place meanwhile
                    found.contradictions.append(str(error))
            continue
        weights = {name.removeprefix("weights|"): one for name, one in tensors.items() if name.startswith("weights|")}
        recorded = rows.get(step, {}).get("weights")
        if recorded is not None and recorded != weights_digest(weights):
            found.contradictions.append(
                f"{run.path / 'state' / step_name(step)} was altered: its weights are not those of step {step}"
            )
    if "loop.safetensors" in names:
        try:
            load_loop_state(run)
        except InputError as error:
            found.contradictions.append(str(error))
    if steps or "loop.safetensors" in names:
        told = "its sums, and the lines that lead up to it" if run.format > 1 else "its shapes"
        found.checked.append(f"the state to go on from: {told}")
    elif run.diverged_at is not None:
        found.unchecked.append(f"a state to go on from: there is none; training diverged at step {run.diverged_at}")
    elif is_trained_here(run) and not run.is_complete:
        found.unchecked.append("a state to go on from: there is none, and `interp resume` begins at step 0")
