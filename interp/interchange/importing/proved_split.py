"""The split of an import held against its checkpoints, at up to twelve of them, log-spaced; or told from them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from interp.errors import InputError
from interp.experiment import Task
from interp.interchange.importing.proof import MEMORIZED
from interp.interchange.importing.reading import Reading
from interp.interchange.importing.sources import Source
from interp.interchange.importing.split_claims import refute_split
from interp.interchange.importing.split_evidence import Inferred, infer_split, log_spaced
from interp.interchange.importing.split_generators import SEEDS, Drawn, drawn_by, search_generators
from interp.runs import Checkpoint

_LIKELY = "the likely cause is --split (--split infer looks for it in the losses, --split none leaves it unknown)"
# Of a list of pairs, which needs no generator, only these are tried: a second's work.
FEW_SEEDS = (*range(51), *SEEDS[1000:], 598, 999)


def with_proved_split(reading: Reading, sources: Sequence[Source], way: str | None) -> Reading:
    """The reading with its split proved: `facts["split"]` has the verdict of `refute_split`, and a split that is
    refuted is a doubt. The `way` "infer": it is told from losses, as training pairs that stand apart, or by a generator
    in the wild. Of a list of pairs the generator that draws it is named (`drawn_by`, null where none of a few seeds
    does).

    Raises InputError where it is to be inferred and cannot be.
    """
    infer = way == "infer"
    if not infer and not reading.task.split_known:
        return reading
    steps, losses = _losses(reading, sources)
    if infer:
        reading = _with_inferred_split(reading, losses)
    if not len(losses):
        return reading
    if infer and (losses[-1][reading.task.train_indices] < math.log(2)).mean() >= MEMORIZED:
        # What was too poor to show that it was read right answers the pairs that it was trained on.
        doubts = [doubt for doubt in reading.facts["doubts"] if doubt not in reading.facts["poor"]]
        reading = replace(reading, facts={**reading.facts, "doubts": doubts, "poor": [], "verified": not doubts})
    proved = refute_split(losses, reading.task.train_indices, reading.task, steps)
    if way is None or way.startswith("file:"):
        proved["drawn_by"] = drawn_by(reading.task.train_indices, reading.task, FEW_SEEDS)
    facts = {**reading.facts, "split": proved}
    if proved["verdict"] == "refuted":
        doubts = [*reading.facts["doubts"], f"its checkpoints contradict the split: {proved['reason']}"]
        facts |= {"verified": False, "doubts": doubts, "likely_causes": _LIKELY}
    note = f"by its checkpoints the split is {proved['verdict']}: {proved['reason']}".replace("is cannot", "cannot")
    drawn = [f"the pairs that are claimed are {proved['drawn_by']}"] if proved.get("drawn_by") else []
    return replace(reading, facts=facts, notes=(*reading.notes, *drawn, note))


def _losses(reading: Reading, sources: Sequence[Source]) -> tuple[list[int], np.ndarray]:
    """The losses over all pairs at some checkpoints, [checkpoint, pair]; those that are not finite are left out."""
    steps, rows = [], []
    for place in log_spaced(len(sources)):
        source = sources[place]
        try:
            weights = reading.weights_of(source)
        except InputError:
            continue  # one that cannot be read is refused when the run is written
        step = source.step if source.step is not None else -1
        losses = Checkpoint(step, weights, reading.task, reading.model).losses.reshape(-1)
        if np.isfinite(losses[reading.task.defined]).all():
            steps.append(step)
            rows.append(losses)
    return steps, np.array(rows).reshape(len(rows), reading.task.p**2)


def _with_inferred_split(reading: Reading, losses: np.ndarray) -> Reading:
    task = replace(reading.task, split="unknown")
    if not len(losses):
        raise InputError("--split infer: no checkpoint has finite losses; --split none leaves the split unknown")
    inferred = infer_split(losses, task)
    drawn = search_generators(losses, task, inferred)
    if drawn is not None:
        said = f"inferred: {drawn.words}; {_how_surely(drawn)}; {_how_many(drawn)}"
        return replace(reading, task=_with_split(task, drawn.indices), split_from=said)
    if inferred.why_not:
        raise InputError(
            f"--split infer: {inferred.why_not}; and no generator and seed in the wild fits (of {len(SEEDS):,} seeds); "
            "--split none leaves it unknown"
        )
    if len(losses) > 1 and not inferred.is_settled:
        raise InputError(
            f"--split infer: {int(inferred.is_known.sum()):,} pairs are known by heart, but no two checkpoints agree "
            "on them: training pairs may still be learned, or others be known already; and no generator in the wild "
            f"draws them (of {len(SEEDS):,} seeds); --split none leaves it unknown"
        )
    if not inferred.is_exact:
        raise InputError(
            f"--split infer: {int(inferred.is_known.sum()):,} pairs are known by heart, but a pair and its mirror "
            "alike: which of the two was trained on cannot be told, and no generator in the wild draws them (of "
            f"{len(SEEDS):,} seeds); --split none leaves it unknown"
        )
    return replace(
        reading,
        task=_with_split(task, np.flatnonzero(inferred.is_known)),
        split_from=_by_losses(inferred, task),
    )


def _with_split(task: Task, indices: np.ndarray) -> Task:
    return replace(task, split=tuple(int(index) for index in indices))


def _how_surely(drawn: Drawn) -> str:
    bound = f"10^{math.ceil(math.log10(drawn.by_chance))}" if drawn.by_chance > 0 else "10^-300"
    return (
        f"{drawn.hits:,} of these places are among as many of lowest loss, which by chance any of those tried would "
        f"reach with a probability below {bound}"
    )


def _how_many(drawn: Drawn) -> str:
    if drawn.between is None:
        return "how many of them is the round share that fits best"
    least, most = drawn.between
    alone = "by the pairs that are known alone"
    return f"{alone} it is just so many" if least == most else f"{alone} it is between {least:,} and {most:,} of them"


def _by_losses(inferred: Inferred, task: Task) -> str:
    lucky = math.ceil((task.defined.sum() - inferred.is_known.sum()) / task.p)
    return (
        f"inferred: the {int(inferred.is_known.sum()):,} pairs of loss below {inferred.threshold:.2g}, where losses "
        f"have two populations; no generator in the wild draws them. About {lucky:,} others, answered right by luck, "
        "may be counted as trained on, and training pairs that it never learned are counted among the others"
    )
