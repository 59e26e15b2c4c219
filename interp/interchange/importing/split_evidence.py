"""Which pairs a network was trained on, told from the losses of checkpoints that memorize. numpy and scipy only.

A network that has memorized answers its training pairs at a loss far below that of the others: log loss has two
populations. They count as apart when a mixture of two normal distributions would misassign less than one in a hundred
values, and no more than two in a hundred lie in the middle third between its means (`populations`). What is known must
look as if it had been drawn: where whole rows, columns or answers are known more than others, that is a rule which was
learned, or pairs that are not learned yet.

In a commutative table a network often knows the mirror (b, a) of a training pair (a, b) as well: then losses tell
the training pairs only up to mirrors, and a generator has to tell the rest (`split_generators`). Which of the two was
trained on mostly shows all the same, where a split that draws them is at hand: over all that are there without their
mirrors the loss is lower (`against_mirrors`). And about one in p of the others is answered right by luck, as surely as
if it had been trained on. That can be no error of a claimed split (`split_claims`), but is one of an inferred split.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import chi2, norm, t

from interp.experiment import Task

MOST_CHECKPOINTS = 12
FLOOR = 1e-12  # of losses: below, only rounding is left
MOST_ERRORS, MOST_BETWEEN, LEAST_SHARE = 0.01, 0.02, 0.03
STRUCTURED = 1e-6
LEAST_Z, FEWEST = 4.0, 5
AGREE = 0.98
ALIKE = 1e-3  # a difference of log losses that rounding can make
TOLD_FROM_MIRRORS = 5.0  # standard errors
PARTED, FEWEST_PARTED = 0.7, 20

Losses = Float[np.ndarray, "checkpoint pairs"]


class Populations(NamedTuple):
    """Two populations of values: which are in the lower one; the threshold; the means; the share of values that is
    expected on the wrong side; and the share that lies in the middle third between the means.

    >>> low = np.random.default_rng(0).normal([[-6.0], [2.0]], 1.0, size=(2, 200)).reshape(-1)
    >>> found = populations(low)
    >>> int(found.is_low.sum()), found.are_apart
    (200, True)
    """

    is_low: Bool[np.ndarray, " value"]
    threshold: float
    means: tuple[float, float]
    errors: float
    between: float

    @property
    def are_apart(self) -> bool:
        """Whether nearly every value clearly belongs to one of the two."""
        return self.unclear < 1

    @property
    def unclear(self) -> float:
        """How far from apart they are: below 1 they are."""
        share = float(self.is_low.mean())
        if not LEAST_SHARE <= share <= 1 - LEAST_SHARE:
            return math.inf
        return max(self.errors / MOST_ERRORS, self.between / (MOST_BETWEEN + 1e-9))


class Inferred(NamedTuple):
    """What losses tell of the training pairs: `is_known`, the pairs of low loss; whether these are the training pairs
    themselves (`is_exact`), or only up to mirrors; the checkpoint that tells most (an index), the loss there that
    divides them, and how far from apart they are (`Populations.unclear`); whether they look like memory at all;
    whether two checkpoints agree, so that neither training pairs are still being learned nor others (`is_settled`);
    and why it tells nothing, where it does not (else empty)."""

    is_known: Bool[np.ndarray, " pairs"]
    is_exact: bool
    checkpoint: int
    threshold: float
    unclear: float
    is_memory: bool
    is_settled: bool
    why_not: str


def populations(values: Float[np.ndarray, " value"]) -> Populations:
    """The two populations of values that a mixture of two normal distributions finds, begun at the cut that leaves the
    least variance within its two parts.

    >>> populations(np.random.default_rng(0).normal(size=400)).are_apart
    False
    """
    ordered = np.sort(values)
    n = len(ordered)
    sums, counts = np.cumsum(ordered), np.arange(1, n + 1)
    left, right = sums[:-1] / counts[:-1], (sums[-1] - sums[:-1]) / (n - counts[:-1])
    between_variance = counts[:-1] * (n - counts[:-1]) * (right - left) ** 2
    cut = int(between_variance.argmax()) + 1 if n > 1 else 0
    least = max(1e-3, 0.02 * float(np.ptp(values)))
    parts = (ordered[:cut], ordered[cut:])
    means = [float(part.mean()) if len(part) else float(ordered[0]) for part in parts]
    widths = [max(least, float(part.std())) if len(part) else least for part in parts]
    shares = [max(len(part), 1) / n for part in parts]
    for _ in range(100):
        logs = [
            math.log(share) - math.log(width) - 0.5 * ((values - mean) / width) ** 2
            for share, mean, width in zip(shares, means, widths, strict=True)
        ]
        weight = 1 / (1 + np.exp(np.clip(logs[1] - logs[0], -500, 500)))
        weights = (weight, 1 - weight)
        shares = [max(float(w.mean()), 1e-9) for w in weights]
        means = [float((w * values).sum() / max(w.sum(), 1e-9)) for w in weights]
        widths = [
            max(least, math.sqrt(float((w * (values - mean) ** 2).sum() / max(w.sum(), 1e-9))))
            for w, mean in zip(weights, means, strict=True)
        ]
    low, high = np.argsort(means)
    grid = np.linspace(means[low], means[high], 201)

    def wrong(at: np.ndarray) -> np.ndarray:
        too_high = shares[low] * norm.sf((at - means[low]) / widths[low])
        return too_high + shares[high] * norm.cdf((at - means[high]) / widths[high])

    errors = wrong(grid)
    best = int(errors.argmin())
    third = (means[high] - means[low]) / 3
    in_between = (values > means[low] + third) & (values < means[high] - third)
    return Populations(
        values < grid[best],
        float(grid[best]),
        (means[low], means[high]),
        float(errors[best]),
        float(in_between.mean()),
    )


def mirrors(task: Task) -> Int[np.ndarray, " pairs"]:
    """For every pair the first index of it and its mirror, where the table is commutative; else its own. Other
    symmetries of a table, changes of sign, say, are none that a network has by the way it is built.

    >>> mirrors(Task(3)).tolist(), mirrors(Task(3, "subtract")).tolist()
    ([0, 1, 2, 1, 4, 5, 2, 5, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8])
    """
    a, b = task.pairs.T
    own = a * task.p + b
    return np.minimum(own, b * task.p + a) if task.commutative else own


class AgainstMirrors(NamedTuple):
    """Pairs that are in a split without their mirrors, held against these: how many there are; the checkpoint (an
    index) that tells most; in what share of them the pair has the lower loss there (½ for equal ones), and the
    standard score of the mean difference of log losses, positive where that of the pairs is lower."""

    parted: int
    checkpoint: int
    below: float
    z: float


def against_mirrors(losses: Losses, indices: Sequence[int] | Int[np.ndarray, " train"], task: Task) -> AgainstMirrors:
    """Whether the pairs of a split have lower losses than their mirrors: a network may know both, and mostly knows
    better what it was trained on. Differences of pairs that share a residue are not independent, so the variance of the
    mean also counts the products of their residuals (as for dyads), and the score is from Student's distribution.

    >>> task = Task(17, train_fraction=0.4)
    >>> memory = np.where(task.train_mask, 1e-3, 3e-3) * np.exp(np.random.default_rng(0).normal(0, 0.3, 289))
    >>> found = against_mirrors(memory[None], task.train_indices, task)
    >>> found.parted, found.z > TOLD_FROM_MIRRORS
    (75, True)
    """
    p, (a, b) = task.p, task.pairs.T
    mirror = b * p + a
    drawn = np.zeros(p * p, dtype=bool)
    drawn[np.asarray(indices, dtype=np.int64)] = True
    parted = np.flatnonzero(drawn & ~drawn[mirror] & task.defined) if task.commutative else np.arange(0)
    best = AgainstMirrors(len(parted), 0, 0.5, 0.0)
    ends = np.concatenate([a[parted], b[parted]])
    residues = len(np.unique(ends))
    if len(parted) < FEWEST:
        return best
    for checkpoint, row in enumerate(np.log(np.maximum(losses, FLOOR))):
        gain = row[mirror[parted]] - row[parted]
        gain = np.where(np.abs(gain) < ALIKE, 0.0, gain)
        rest = gain - gain.mean()
        of_residue = np.bincount(ends, weights=np.concatenate([rest, rest]), minlength=p)
        alone = float((rest**2).sum())
        error = math.sqrt(max(float((of_residue**2).sum()) - alone, alone)) / len(gain)
        score = float(gain.mean()) / max(error, ALIKE)
        z = math.copysign(min(float(norm.isf(max(t.sf(abs(score), residues - 1), 1e-300))), abs(score)), score)
        if abs(z) > abs(best.z):
            best = AgainstMirrors(len(parted), checkpoint, float(((gain > 0) + 0.5 * (gain == 0)).mean()), z)
    return best


def infer_split(losses: Losses, task: Task) -> Inferred:
    """The training pairs of a network from its losses over all pairs at some checkpoints (NaN where a pair has no
    answer), by two populations of log loss: at the first two checkpoints that have them and agree, or else at the one
    where they are furthest apart. In a commutative table first of pairs, then of pairs and their mirrors by the lower
    loss of the two.

    Nothing is told where they are not apart: of a network that was not trained, that has generalized, or that was
    trained on all pairs.

    >>> task = Task(11, "subtract", train_fraction=0.4)
    >>> memory = np.where(task.train_mask, 1e-3, 8.0) * np.exp(np.random.default_rng(0).normal(0, 0.5, 121))
    >>> found = infer_split(memory[None], task)
    >>> bool((np.flatnonzero(found.is_known) == task.train_indices).all()), found.is_exact, found.why_not
    (True, True, '')
    """
    tried = [_settled(losses, task, np.arange(task.p**2), exact=True)]
    if task.commutative and (tried[0].why_not or not tried[0].is_exact):
        tried.append(_settled(losses, task, mirrors(task), exact=False))
    return min(tried, key=lambda one: (bool(one.why_not), not one.is_settled, one.unclear))


def _settled(losses: Losses, task: Task, classes: np.ndarray, *, exact: bool) -> Inferred:
    """What the first two checkpoints tell that are clear and agree; where there are none, what the clearest tells."""
    each = [_inferred(losses[[index]], task, classes, exact=exact) for index in range(len(losses))]
    clear = [index for index, one in enumerate(each) if not one.why_not]
    for first, second in pairwise(clear):
        if (each[first].is_known == each[second].is_known)[task.defined].mean() >= AGREE:
            both = _inferred(losses[[first, second]], task, classes, exact=exact)
            if not both.why_not:
                return both._replace(checkpoint=(first, second)[both.checkpoint], is_settled=True)
    return _inferred(losses, task, classes, exact=exact)


def _inferred(losses: Losses, task: Task, classes: np.ndarray, *, exact: bool) -> Inferred:
    """What is told of classes of pairs, by the lowest loss in each."""
    judged = judged_pairs(task)
    _, place = np.unique(classes, return_inverse=True)
    logs = np.full((len(losses), place.max() + 1), np.inf)
    for row, values in zip(logs, np.log(np.maximum(np.where(judged, losses, 1.0), FLOOR)), strict=True):
        np.minimum.at(row, place[judged], values[judged])
    is_there = np.isfinite(logs[0])
    found, checkpoint, is_low = _most_telling(logs[:, is_there])
    known_class = np.zeros(logs.shape[1], dtype=bool)
    known_class[is_there] = is_low
    threshold = math.exp(found.threshold)
    # Pairs that were not judged (products with 0) are taken by their own loss.
    by_loss = np.nan_to_num(losses[checkpoint], nan=np.inf) < threshold
    is_known = np.where(judged, known_class[place], by_loss) & task.defined
    why_no_memory = _why_no_memory(is_known, losses[checkpoint], task, judged)
    why = why_no_memory if found.are_apart else _why_unclear(found)
    if not why and exact and not judged[task.defined].all():
        rest = task.defined & ~judged
        share = float(is_known[judged].mean())
        error = math.sqrt(share * (1 - share) * rest.sum())
        exact = abs(is_known[rest].sum() - share * rest.sum()) <= LEAST_Z * error
    is_exact = exact and not _knows_mirrors(is_known, task)
    return Inferred(is_known, is_exact, checkpoint, threshold, found.unclear, not why_no_memory, False, why)


def judged_pairs(task: Task) -> Bool[np.ndarray, " pairs"]:
    """The pairs by which populations are told: without products and quotients of 0, which a rule of one line gives."""
    without_zero = (task.pairs != 0).all(1) if task.operation in ("multiply", "divide") else True
    return task.defined & without_zero


def _why_unclear(found: Populations) -> str:
    return (
        "losses have no two populations, of training pairs and of others: at the clearest checkpoint "
        f"{found.errors:.1%} would be misassigned, and {found.between:.1%} lie between. The network may have been "
        "trained on all pairs, or not at all, or have generalized at every checkpoint that is there"
    )


def _why_no_memory(is_known: np.ndarray, losses: np.ndarray, task: Task, judged: np.ndarray) -> str:
    """Why two populations are not those of training pairs and others; empty where they may be."""
    if min((judged & is_known).sum(), (judged & ~is_known).sum()) < FEWEST:
        return "nearly all pairs are answered alike"
    known, others = (float(np.median(losses[judged & which])) for which in (is_known, ~is_known))
    guess = math.log(task.p)
    if known > 0.5 * guess or others < 0.8 * guess:
        return (
            f"the pairs of low loss (median {known:.2g}) and the others (median {others:.2g}) are not those of a "
            f"network that memorizes, which answers the others no better than a guess ({guess:.2g})"
        )
    if (what := _structure(is_known, task, judged)) is not None:
        return (
            f"what it knows does not look drawn: some {what} are known more than others, as by a rule that is learned"
        )
    return ""


def _structure(is_known: np.ndarray, task: Task, judged: np.ndarray) -> str | None:
    """Whether rows, columns or answers are known unequally, beyond chance; by which."""
    a, b = task.pairs.T
    once = judged & (a <= b) if task.commutative else judged  # a pair and its mirror have one answer
    for what, of, among in (("rows", a, judged), ("columns", b, judged), ("answers", task.true_labels, once)):
        counts = np.bincount(of[among], minlength=task.p).astype(float)
        known = np.bincount(of[among], weights=is_known[among], minlength=task.p)
        share = known.sum() / counts.sum()
        there = counts > 0
        expected = counts[there] * share
        statistic = float(((known[there] - expected) ** 2 / np.maximum(expected * (1 - share), 1e-9)).sum())
        if chi2.sf(statistic, there.sum() - 1) < STRUCTURED:
            return what
    return None


def _most_telling(logs: Float[np.ndarray, "checkpoint value"]) -> tuple[Populations, int, np.ndarray]:
    """The populations of the checkpoint where they are furthest apart; that checkpoint; and which values are low, there
    or, where that is clearer, in the mean of the three most telling checkpoints."""
    each = [populations(row) for row in logs]
    order = sorted(range(len(each)), key=lambda index: (each[index].unclear, each[index].errors))
    best = each[order[0]]
    apart = [index for index in order[:3] if each[index].are_apart] or order[:3]
    scaled = [(logs[i] - each[i].threshold) / max(each[i].means[1] - each[i].means[0], 1e-9) for i in apart]
    together = populations(np.mean(scaled, axis=0))
    if together.unclear <= best.unclear:
        return best._replace(errors=together.errors, between=together.between), order[0], together.is_low
    return best, order[0], best.is_low


def _knows_mirrors(is_known: np.ndarray, task: Task) -> bool:
    """Whether fewer pairs are known without their mirrors than of pairs that are drawn one by one: then a network that
    knows mirrors, or a split that does not part them, looks so, and which it is cannot be seen."""
    if not task.commutative:
        return False
    a, b = task.pairs.T
    is_parted = (is_known != is_known[b * task.p + a])[a < b]
    share = float(is_known[a != b].mean())
    expected = 2 * share * (1 - share) * len(is_parted)
    return expected < FEWEST_PARTED or float(is_parted.sum()) < PARTED * expected


def log_spaced(count: int) -> list[int]:
    """At most twelve of so many checkpoints, on a logarithmic scale, the first and the last among them.

    >>> log_spaced(5), log_spaced(1000)
    ([0, 1, 2, 3, 4], [0, 1, 3, 6, 11, 22, 42, 80, 151, 284, 533, 999])
    """
    points = min(MOST_CHECKPOINTS, count)
    places = np.arange(1)
    for tried in range(points, 2 * count + points):
        places = np.unique(np.round(np.geomspace(1, count, tried)).astype(int) - 1)
        if len(places) >= points:
            break
    return [int(place) for place in places[np.linspace(0, len(places) - 1, points).round().astype(int)]]
