"""A claimed split held against the losses of checkpoints: supported, refuted, or neither. numpy and scipy only."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.stats import rankdata

from interp.experiment import Task
from interp.interchange.importing.split_evidence import (
    FEWEST,
    FLOOR,
    LEAST_Z,
    TOLD_FROM_MIRRORS,
    AgainstMirrors,
    Losses,
    against_mirrors,
    infer_split,
    judged_pairs,
    mirrors,
)

CLEAR_ENOUGH = 4  # times as far from apart as populations may be, to see that a claim is about other pairs
FEWEST_TO_REFUTE = 20
KNOWN_OF_CLAIMED, KNOWN_OF_OTHERS, LEAST_DIFFERENCE = 0.95, 0.02, 0.5
SHARP = 0.99  # of the claimed pairs known


def refute_split(
    losses: Losses, indices: Sequence[int] | Int[np.ndarray, " train"], task: Task, steps: Sequence[int]
) -> dict[str, Any]:
    """Whether checkpoints bear out a claimed split. JSON: a `verdict` ("supported", "refuted", "cannot be told"), the
    `reason` in words, the `step` that tells most, and for each of the `checkpoints` how often a training pair has a
    lower loss than a held-out one (`apart`, ½ where there is no difference) with its standard score `z`; and `mirrors`,
    how often a pair that is claimed without its mirror has the lower loss of the two, null where there is none.

    Compared are pairs together with their mirrors, where the table is commutative: those of which a member is trained
    on, by its loss, with those of which none is. Supported: lower beyond chance at some checkpoint. Refuted: where some
    pairs are known by heart, and these are not the claimed ones, or a twentieth of the claimed ones is not among
    them and far more of the others are than luck gives; or the others have the lower loss, beyond chance; or the
    mirrors of the claimed pairs have, where they are not claimed too. A claim that only leaves out some pairs that are
    known, or adds some that are not, is not refuted, but cannot be told: these can have been learned without training,
    or not yet.

    >>> task = Task(11, "subtract", train_fraction=0.4)
    >>> memory = np.where(task.train_mask, 1e-3, 8.0) * np.exp(np.random.default_rng(0).normal(0, 0.5, 121))
    >>> refute_split(memory[None], task.train_indices, task, [100])["verdict"]
    'supported'
    >>> wrong = np.random.default_rng(1).permutation(121)[:48]
    >>> refute_split(memory[None], wrong, task, [100])["verdict"]
    'refuted'
    """
    claimed = np.zeros(task.p**2, dtype=bool)
    claimed[np.asarray(indices, dtype=np.int64)] = True
    _, place, counts = np.unique(mirrors(task)[task.defined], return_inverse=True, return_counts=True)
    common = counts == counts.max()  # a pair (a, a) is its own mirror
    is_trained = np.bincount(place, weights=claimed[task.defined]) > 0
    train, held_out = common & is_trained, common & ~is_trained
    if min(train.sum(), held_out.sum()) < FEWEST:
        return {
            "verdict": "cannot be told",
            "reason": f"fewer than {FEWEST} independent pairs are trained on, or held out",
            "step": None,
            "apart": None,
            "checkpoints": [],
            "mirrors": None,
        }
    counted = np.where(is_trained[place], claimed[task.defined], True)
    rows = []
    for row, step in zip(losses, steps, strict=True):
        logs = np.log(np.maximum(row[task.defined], FLOOR))
        value = np.bincount(place, weights=logs * counted) / np.bincount(place, weights=counted)
        apart, z = _apart(value[train], value[held_out])
        rows.append({"step": int(step), "apart": apart, "z": z})
    closure = np.zeros(task.p**2, dtype=bool)
    closure[task.defined] = is_trained[place]
    (verdict, step, reason), found = _judgment(losses, rows, claimed, closure, task)
    apart = next(one["apart"] for one in rows if one["step"] == step)
    at = rows[found.checkpoint]["step"]
    mirrored = {"pairs": found.parted, "step": at, "below": found.below, "z": found.z} if found.parted else None
    told = {"verdict": verdict, "reason": reason, "step": step, "apart": apart}
    return {**told, "checkpoints": rows, "mirrors": mirrored}


def _judgment(
    losses: Losses, rows: list[dict[str, Any]], claimed: np.ndarray, closure: np.ndarray, task: Task
) -> tuple[tuple[str, int, str], AgainstMirrors]:
    """The verdict, its step and its reason; and what is found about mirrors."""
    beyond_chance = LEAST_Z + math.log10(len(rows))
    is_beyond = max(one["z"] for one in rows) >= beyond_chance
    mirrored = against_mirrors(losses, np.flatnonzero(claimed), task)
    by_heart = _known_by_heart(losses, claimed, closure, task)
    if by_heart is not None and by_heart.refutes(is_beyond):
        at = rows[by_heart.checkpoint]["step"]
        return ("refuted", at, f"at step {at:,}, {by_heart.words}"), mirrored
    told = _told_by_mirrors(losses, rows, claimed, task, mirrored)
    told = told or (_beyond_chance(rows, by_heart, task, mirrored) if is_beyond else _not_beyond(rows, beyond_chance))
    return told, mirrored


def _told_by_mirrors(
    losses: Losses, rows: list[dict[str, Any]], claimed: np.ndarray, task: Task, mirrored: AgainstMirrors
) -> tuple[str, int, str] | None:
    """What speaks against the claim: the mirrors of its pairs have the lower losses; or, of pairs that are claimed
    together with their mirrors, those of one orientation have. Else None."""
    if mirrored.z <= -TOLD_FROM_MIRRORS and mirrored.parted >= FEWEST_TO_REFUTE:
        step = rows[mirrored.checkpoint]["step"]
        reason = (
            f"at step {step:,} a pair has the higher loss in {1 - mirrored.below:.0%} of the {mirrored.parted:,} cases "
            "in which its mirror (b, a) is held out: a and b may be exchanged"
        )
        return "refuted", step, reason
    if mirrored.parted or not task.commutative:
        return None
    ascending = np.flatnonzero(claimed & (task.pairs[:, 0] < task.pairs[:, 1]))
    one = against_mirrors(losses, ascending, task)
    if abs(one.z) < TOLD_FROM_MIRRORS or one.parted < FEWEST_TO_REFUTE:
        return None
    step, way, share = rows[one.checkpoint]["step"], "<" if one.z > 0 else ">", max(one.below, 1 - one.below)
    reason = (
        f"it has each pair together with its mirror (b, a), and at step {step:,} the one with a {way} b has the lower "
        f"loss in {share:.0%} of the {one.parted:,} cases: was it trained on alone?"
    )
    return "cannot be told", step, reason


def _beyond_chance(
    rows: list[dict[str, Any]], by_heart: "_ByHeart | None", task: Task, mirrored: AgainstMirrors
) -> tuple[str, int, str]:
    """What is told where training pairs have lower losses than held-out ones."""
    highest = max(rows, key=lambda one: one["z"])
    step = highest["step"]
    reason = (
        f"at step {step:,} a training pair has a lower loss than a held-out one in {highest['apart']:.1%} of cases (no "
        "difference: 50 %)"
    )
    clear = by_heart if by_heart is not None and by_heart.is_clear else None
    known = f"at step {rows[clear.checkpoint]['step']:,}, {clear.words}" if clear else ""
    if clear and clear.in_part:
        return "cannot be told", step, f"it fits in part: {reason}, but {known}; {clear.in_part}"
    if not (clear and clear.is_sharp):
        reason += "; a split that shares most of its pairs would look the same"
    if known:
        reason += f"; {known}"
    if mirrored.parted and mirrored.z < TOLD_FROM_MIRRORS:
        reason += (
            "; or of the mirrored pairs (b, a), in place of these or beside them, some or all, which these losses do "
            "not tell apart"
        )
    elif mirrored.parted:
        reason += (
            f"; of {mirrored.parted:,} pairs whose mirror (b, a) is held out {mirrored.below:.0%} have the lower loss "
            f"of the two at step {rows[mirrored.checkpoint]['step']:,}"
        )
    elif task.commutative:
        reason += "; or of only one of each pair and its mirror (b, a), which these losses do not tell apart"
    return "supported", step, reason


def _not_beyond(rows: list[dict[str, Any]], beyond_chance: float) -> tuple[str, int, str]:
    """What is told where they have not."""
    highest, lowest = max(rows, key=lambda one: one["z"]), min(rows, key=lambda one: one["z"])
    if lowest["z"] <= -beyond_chance:
        step = lowest["step"]
        reason = f"at step {step:,} a pair that is held out has the lower loss in {1 - lowest['apart']:.1%} of cases"
        return "refuted", step, f"{reason}: training and test pairs may be exchanged"
    step = highest["step"]
    reason = (
        f"no checkpoint answers training pairs better than others beyond chance ({highest['apart']:.1%} of cases at "
        f"step {step:,}, no difference: 50 %), and none clearly knows others by heart"
    )
    return "cannot be told", step, reason


class _ByHeart(NamedTuple):
    """What a network knows by heart, beside a claim: at which checkpoint, whether two populations are clearly apart
    there, how many pairs, the shares known of the claimed pairs and of the others, how many others that are, and the
    largest share of these that luck gives."""

    checkpoint: int
    is_clear: bool
    pairs: int
    of_claimed: float
    of_others: float
    others: int
    by_luck: float

    @property
    def words(self) -> str:
        return (
            f"{self.pairs:,} pairs are known by heart, {self.of_claimed:.1%} of those that are claimed to be trained "
            f"on and {self.of_others:.1%} of those that are held out"
        )

    @property
    def is_sharp(self) -> bool:
        """Whether these are just the claimed ones, and some by luck."""
        return self.of_claimed >= SHARP and self.of_others <= self.by_luck

    @property
    def misses(self) -> bool:
        """Whether a twentieth of the claimed pairs is not known."""
        return self.of_claimed < KNOWN_OF_CLAIMED

    @property
    def exceeds(self) -> bool:
        """Whether more of the others are known than luck gives."""
        return self.of_others > self.by_luck + KNOWN_OF_OTHERS

    def refutes(self, is_beyond_chance: bool) -> bool:
        """Whether other pairs than the claimed ones are known; `is_beyond_chance` tells whether the claimed ones have
        lower losses somewhere."""
        is_other = self.of_claimed - self.of_others < LEAST_DIFFERENCE and not is_beyond_chance
        return is_other or (self.is_clear and self.misses and self.exceeds)

    @property
    def in_part(self) -> str:
        """What it can mean that too few of the claimed pairs are known, or too many of the others; empty where neither
        is so."""
        if self.misses:
            return "is the share of training pairs too large, or are some not learned yet?"
        if self.exceeds:
            return (
                f"{self.others:,} others are known as surely as these, where luck gives up to {self.by_luck:.0%}: is "
                "the share of training pairs too small?"
            )
        return ""


def _known_by_heart(losses: Losses, claimed: np.ndarray, closure: np.ndarray, task: Task) -> _ByHeart | None:
    """None where that cannot be seen: too few pairs, or populations that are not apart, or not those of a memory."""
    groups = claimed & judged_pairs(task), ~closure & judged_pairs(task)
    inferred = infer_split(losses, task)
    is_enough = min(group.sum() for group in groups) >= FEWEST_TO_REFUTE
    if not (is_enough and inferred.is_memory and inferred.unclear < CLEAR_ENOUGH):
        return None
    of_claimed, of_others = (float(inferred.is_known[group].mean()) for group in groups)
    # A pair, or one of a pair and its mirror, is answered right by luck so often.
    lucky = (1 + task.commutative) / task.p
    by_luck = lucky + LEAST_Z * math.sqrt(lucky * (1 - lucky) / groups[1].sum())
    others = int(inferred.is_known[groups[1]].sum())
    return _ByHeart(
        inferred.checkpoint, not inferred.why_not, int(inferred.is_known.sum()), of_claimed, of_others, others, by_luck
    )


def _apart(train: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """How often a training value is below a held-out one, and its standard score (Mann and Whitney, with ties)."""
    ranks = rankdata(np.concatenate([train, held_out]))
    n, m = len(train), len(held_out)
    below = 1 - (ranks[:n].sum() - n * (n + 1) / 2) / (n * m)
    _, ties = np.unique(ranks, return_counts=True)
    total = n + m
    variance = n * m / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    return float(below), float((below - 0.5) * n * m / math.sqrt(variance)) if variance > 0 else 0.0
