"""Which generator and seed drew the training pairs: those of published code, tried one by one.

The orders that they draw are few. Among so few, one that has the pairs of low loss at its beginning, or at its end,
does not come by chance: that at least so many of the k pairs of lowest loss are among k that were drawn without looking
has an exact hypergeometric probability, and times the number of orders and lengths that were tried it bounds that any
of them does so.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from scipy.stats import hypergeom, rankdata

from interp.experiment import Task
from interp.interchange.importing.split_evidence import (
    TOLD_FROM_MIRRORS,
    Inferred,
    Losses,
    against_mirrors,
    mirrors,
)

SEEDS = (*range(1000), 1234, 1337, 2020, 2021, 2022, 2023, 2024, 2025, 3407, 12345, 31415, 123456)
MOST_BY_CHANCE = 1e-6
LEAST_AGREEMENT = 0.8  # of what is known, drawn
LEAST_KNOWN = 0.6  # of what is drawn, known; where the network saw one of each pair and its mirror it is half of both
FRACTIONS = tuple(sorted({*(round(0.05 * i, 2) for i in range(1, 20)), 1 / 3, 2 / 3, 0.01, 0.02, 0.98, 0.99}))
# In nats, what speaks for a length that is a round share of all, rounded down, as most code does, or to the nearest.
# Where the training pairs themselves are seen known, and settled, less than one pair does (log p).
ROUND_DOWN, ROUND, WHERE_SEEN = 8.0, 3.0, 0.2
AS_LIKELY = 6.0  # nats: lengths that are told as possible beside the likeliest; one in p are right by luck (log p)


class Drawn(NamedTuple):
    """What draws the training pairs: in words; the pairs, ascending; how many of the k lowest losses are among the k
    that are drawn; the bound of the probability that any of those tried comes so far by chance; and between which
    lengths k is by the pairs that are known alone (None where none are seen known)."""

    words: str
    indices: Int[np.ndarray, " train"]
    hits: int
    by_chance: float
    between: tuple[int, int] | None


class Listing(NamedTuple):
    """An order in which code lists pairs before it draws: in words, and the indices a·p + b [place, 2] that stand at
    each place (one pair twice, or a pair and its mirror)."""

    words: str
    members: Int[np.ndarray, "place 2"]


class Order(NamedTuple):
    """A listing in the order that a seed draws."""

    words: str
    places: Int[np.ndarray, " place"]
    listing: Listing


def _torch(seed: int, n: int) -> np.ndarray:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()


def _numpy(seed: int, n: int) -> np.ndarray:
    return np.random.RandomState(seed).permutation(n)


def _numpy_since_1_17(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n)


def _ours(seed: int, n: int) -> np.ndarray:
    return np.random.RandomState([seed, 1]).permutation(n)  # as `interp.experiment.Task` draws a split


def _shuffled(seed: int, n: int) -> np.ndarray:
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return np.array(order)


# PyTorch's random_split takes its first part from the beginning of the order of torch.randperm; scikit-learn's
# train_test_split takes its test examples from the beginning of that of RandomState, and trains on what follows;
# random.sample draws k from the end of the order of random.shuffle.
WAYS: dict[str, Callable[[int, int], np.ndarray]] = {
    "torch.randperm({n}) with seed {seed}": _torch,
    "numpy.random.RandomState({seed}).permutation({n})": _numpy,
    "numpy.random.default_rng({seed}).permutation({n})": _numpy_since_1_17,
    "numpy.random.RandomState([{seed}, 1]).permutation({n})": _ours,
    "random.shuffle of {n} with seed {seed}": _shuffled,
}


def listings(task: Task) -> list[Listing]:
    """How code lists pairs before it draws.

    >>> [(listing.words, len(listing.members)) for listing in listings(Task(5))]
    [('pairs, a before b', 25), ('pairs, b before a', 25), ('unordered pairs', 15), ('unordered pairs, b up to a', 15)]
    """
    p, (a, b) = task.p, task.pairs.T
    own = np.arange(p * p)
    by_b = own[np.lexsort((a, b))]
    found = {
        "pairs, a before b": own[task.defined],
        "pairs, b before a": by_b[task.defined[by_b]],
    }
    if task.operation in ("multiply", "divide"):
        is_product = task.defined & (task.pairs != 0).all(1)
        found |= {
            "pairs without 0, a before b": own[is_product],
            "pairs without 0, b before a": by_b[is_product[by_b]],
        }
    members = {words: np.stack([indices, indices], axis=1) for words, indices in found.items()}
    if task.commutative:
        both = np.stack([own, b * p + a], axis=1)
        members |= {"unordered pairs": both[a <= b], "unordered pairs, b up to a": both[a >= b]}
    return [Listing(words, of) for words, of in members.items()]


# The same with one of each pair and its mirror alone: the first of the two, or the second.
ONE_OF_EACH = {
    "unordered pairs": ("pairs with a ≤ b, a before b", "pairs with b ≤ a, b before a"),
    "unordered pairs, b up to a": ("pairs with b ≤ a, a before b", "pairs with a ≤ b, b before a"),
}


def one_of_each(listing: Listing) -> list[Listing]:
    """The two listings of one pair each that one of unordered pairs has; of others none.

    >>> [(one.words, one.members[1].tolist()) for one in one_of_each(listings(Task(5))[2])]
    [('pairs with a ≤ b, a before b', [1, 1]), ('pairs with b ≤ a, b before a', [5, 5])]
    """
    names = ONE_OF_EACH.get(listing.words, ())
    return [Listing(words, listing.members[:, [which, which]]) for which, words in enumerate(names)]


def _orders(lists: Sequence[Listing], seeds: Sequence[int]) -> Iterator[tuple[int, Order]]:
    """Every order that is tried, with the number of its listing."""
    for way, draw in WAYS.items():
        for seed in seeds:
            drawn: dict[int, np.ndarray] = {}
            for number, listing in enumerate(lists):
                n = len(listing.members)
                if n not in drawn:
                    drawn[n] = draw(seed, n)
                yield number, Order(f"{way.format(n=n, seed=seed)} ({listing.words})", drawn[n], listing)


# What draws other places, not more of them, where it draws more: it can be tried only where their number is known.
# random.sample draws so where k is small beside n, numpy's where n is at most 10,000.
SAMPLES: dict[str, Callable[[int, int, int], Sequence[int] | np.ndarray]] = {
    "random.Random({seed}).sample(range({n}), {k})": lambda seed, n, k: random.Random(seed).sample(range(n), k),
    "numpy.random.default_rng({seed}).choice({n}, {k}, replace=False)": (
        lambda seed, n, k: np.random.default_rng(seed).choice(n, k, replace=False)
    ),
}


def drawn_by(
    indices: Sequence[int] | Int[np.ndarray, " train"], task: Task, seeds: Sequence[int] = SEEDS
) -> str | None:
    """The generator, its seed and the listing that draw exactly these training pairs, at the beginning or at the end of
    their order, or as a sample of just so many or of all but so many; None where none of those in the wild does.

    >>> order = torch.randperm(121, generator=torch.Generator().manual_seed(598))
    >>> drawn_by(order[:36].tolist(), Task(11), seeds=(0, 598))
    'exactly the first 36 of torch.randperm(121) with seed 598 (pairs, a before b)'
    >>> drawn_by(np.random.default_rng(42).choice(121, 36, replace=False), Task(11), seeds=(0, 42))
    'exactly numpy.random.default_rng(42).choice(121, 36, replace=False) (pairs, a before b)'
    """
    wanted = np.zeros(task.p**2, dtype=bool)
    wanted[np.asarray(indices, dtype=np.int64)] = True
    fitting, masks = [], []
    for listing in (one for of in listings(task) for one in (of, *one_of_each(of))):
        of = wanted[listing.members]
        if of.any() and (of[:, 0] == of[:, 1]).all() and len(np.unique(listing.members[of[:, 0]])) == wanted.sum():
            fitting.append(listing)
            masks.append(of[:, 0])
    for number, order in _orders(fitting, seeds):
        inside, k = masks[number][order.places], int(masks[number].sum())
        for place, part in (("first", inside[:k]), ("last", inside[len(inside) - k :])):
            if part.all():
                return f"exactly the {place} {k} of {order.words}"
    sizes = {(len(mask), int(mask.sum())) for mask in masks}
    for way, draw in SAMPLES.items():
        for seed in seeds:
            for n, k in sizes:
                for size, what in ((k, ""), (n - k, "all but ")):
                    drawn = np.zeros(n, dtype=bool)
                    drawn[np.asarray(draw(seed, n, size), dtype=np.int64)] = True
                    for listing, mask in zip(fitting, masks, strict=True):
                        if len(mask) == n and np.array_equal(mask, drawn if size == k and not what else ~drawn):
                            return f"exactly {what}{way.format(seed=seed, n=n, k=size)} ({listing.words})"
    return None


def search_generators(
    losses: Losses, task: Task, inferred: Inferred | None = None, seeds: Sequence[int] = SEEDS
) -> Drawn | None:
    """The generator whose order has the pairs of low loss at its beginning or its end, beyond what any of those that
    are tried would by chance; None where there is none, or where it contradicts what was inferred.

    By the ranks of losses in the mean over checkpoints, or at the one that was inferred from. Every length from 1 to
    99 % of every order is tried, and the bound counts them all. How many were trained on is told from the pairs that
    are known; where nothing was inferred, it is the round share that stands out most, which can err.
    """
    is_told = inferred is not None and not inferred.why_not
    rows = losses[[inferred.checkpoint]] if inferred is not None and is_told else losses
    ranks = np.zeros(task.p**2)
    ranks[task.defined] = rankdata(np.mean([rankdata(row[task.defined]) for row in rows], axis=0))
    lists = listings(task)
    of_places = [ranks[listing.members].mean(1) for listing in lists]
    scaled = [(of - of.mean()) / max(float(of.std()), 1e-12) for of in of_places]
    best, best_z, tried = None, 0.0, 0
    for number, order in _orders(lists, seeds):
        n = len(order.places)
        k = np.arange(1 + n // 100, n - n // 100)
        sums = np.cumsum(scaled[number][order.places])[k - 1]
        z = sums / np.sqrt(k * (n - k) / (n - 1))
        tried += 2 * len(k)
        least, most = float(z.min()), float(z.max())
        if max(-least, most) > best_z:
            best_z, best = max(-least, most), (number, order, -least >= most)
    if best is None:
        return None
    _, order, is_first = best
    places = order.places if is_first else order.places[::-1]
    known = inferred if is_told else None
    rough, _ = _length(places, ranks, order.listing, None, task)
    listing, or_else = _oriented(order.listing, places[:rough], losses, task)
    k, between = _length(places, ranks, listing, known, task)
    low = np.zeros(len(places), dtype=bool)
    low[np.argsort(ranks[listing.members].mean(1), kind="stable")[:k]] = True
    hits = int(low[places[:k]].sum())
    # Three times: of both orientations, or of either.
    by_chance = min(1.0, 3 * tried * float(hypergeom.sf(hits - 1, len(places), k, k)))
    indices = np.unique(listing.members[places[:k]])
    if by_chance > MOST_BY_CHANCE or (known is not None and not _agrees(indices, known, task)):
        return None
    drawn = order.words.replace(f"({order.listing.words})", f"({listing.words})")
    words = f"the {'first' if is_first else 'last'} {k} ({k / len(places):.1%}) of {drawn}{or_else}"
    return Drawn(words, indices, hits, by_chance, between)


def _oriented(listing: Listing, places: np.ndarray, losses: Losses, task: Task) -> tuple[Listing, str]:
    """The listing, turned to the orientation in which the losses of pairs are lower than those of their mirrors; and in
    words what it may be as well, where they do not tell."""
    members = listing.members[places]
    z = against_mirrors(losses, members[:, 0], task).z
    if turned := one_of_each(listing):
        if abs(z) >= TOLD_FROM_MIRRORS:
            return turned[0 if z > 0 else 1], ""
        return (
            listing,
            ", or of the same with only one of each pair and its mirror, which these losses do not tell apart",
        )
    usual, mirrored = (
        (listing.words.replace(*way)) for way in (("b before a", "a before b"), ("a before b", "b before a"))
    )
    if z >= TOLD_FROM_MIRRORS or not task.commutative:
        return listing, ""
    by_words = {one.words: one for one in listings(task)}
    if z <= -TOLD_FROM_MIRRORS:
        return by_words[mirrored if listing.words == usual else usual], ""
    # Code mostly lists pairs a before b.
    return by_words[usual], f", or of the same with {mirrored}, which these losses do not tell apart"


def _agrees(indices: np.ndarray, inferred: Inferred, task: Task) -> bool:
    """Whether most of what is known was drawn, or has a mirror that was: others can be known by luck; and, where of a
    pair and its mirror one is known, most of what was drawn is."""
    drawn = np.isin(mirrors(task), mirrors(task)[indices])
    if inferred.is_exact and task.commutative and float(inferred.is_known[indices].mean()) < LEAST_KNOWN:
        return False
    return float(drawn[inferred.is_known].mean()) >= LEAST_AGREEMENT


def _length(
    places: np.ndarray, ranks: np.ndarray, listing: Listing, inferred: Inferred | None, task: Task
) -> tuple[int, tuple[int, int] | None]:
    """How many of an order were trained on, and between which numbers that is by the pairs that are known alone."""
    n = len(places)
    down, nearest = ({to_whole(share * n + 1e-9) for share in FRACTIONS} - {0, n} for to_whole in (math.floor, round))
    if inferred is None:
        of = ranks[listing.members].mean(1)
        sums = np.cumsum((of - of.mean())[places])
        return min(sorted(down), key=lambda k: sums[k - 1] / math.sqrt(k * (n - k))), None
    first = listing.members[places, 0]
    new = np.ones(n, dtype=bool)
    if not inferred.is_exact:  # where a mirror has spoken, not again
        new[:] = False
        new[np.unique(mirrors(task)[first], return_index=True)[1]] = True
    known, unknown = new & inferred.is_known[first], new & ~inferred.is_known[first]
    inside, missed = np.cumsum(known)[:-1], np.cumsum(unknown)[:-1]
    outside, others = known.sum() - inside, unknown.sum() - missed
    # The likelihood of each length, if of what was drawn a share is known, and of the rest one in p, by luck.
    share = np.clip(inside / np.maximum(inside + missed, 1), 0.5 / n, 1 - 1e-3)
    total = inside * np.log(share) + missed * np.log(1 - share)
    total += outside * math.log(1 / task.p) + others * math.log(1 - 1 / task.p)
    likely = np.flatnonzero(total >= total.max() - AS_LIKELY) + 1
    scale = WHERE_SEEN if inferred.is_exact and inferred.is_settled else 1.0
    total[np.array(sorted(nearest - down), dtype=np.int64) - 1] += scale * ROUND
    total[np.array(sorted(down)) - 1] += scale * ROUND_DOWN
    return int(total.argmax()) + 1, (int(likely[0]), int(likely[-1]))
