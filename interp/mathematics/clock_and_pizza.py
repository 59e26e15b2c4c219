"""Clock and pizza as formulas of logits, what tells them apart, and the rule that names one (Zhong et al. 2023,
arXiv:2306.17844).

With the phases s, t of the inputs, u of the class, d = s − t and w_k = 2πk/n, frequency k contributes to the logits

    clock         cos w_k(s+t−u)
    pizza         |cos(w_k d/2)| cos w_k(s+t−u)
    accompanying  −cos(w_k d) cos w_k(s+t−u)

The third is what a circle of frequency 2k in the embedding adds to a pizza of frequency k when the network passes it on
without bending it, as cos w_2k s + cos w_2k t = 2 cos(w_k d) cos w_k(s+t). Since |cos x/2| = 2/π + (4/3π) cos x − …, a
pizza with the right amount of it has nearly the logits of a clock: logits as a whole do not tell the two apart. One
circle of the embedding at a time does; the authors call that circle isolation.

The rule (`judge`) is that both of the authors' criteria agree: s_g > 0.98 and q < 0.6 for a pizza, neither of the two
for a clock; where s_g is no witness, isolated circles take its place. And, of ours, that there is a circuit, that one
formula explains at least half of the logits, and for a clock that it is the clock's. The opposite is not asked of a
pizza, for the reason above.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.mathematics import fourier

FORMULAS = ("clock", "pizza")
SYMMETRIC, IRRELEVANT = 0.98, 0.6  # the authors' line: a pizza's s_g is above, its q below
LEAST_EXPLAINED = 0.5
# Either ideal network fits the other's formula to 2·√8/π − 1 = 0.80. What fits its own no better is neither, and what
# is not past the middle of the 0.20 between them is not clearly one.
LEAST_FIT, CLEARLY = 0.8, 0.1
NEARLY_ALL = 0.9


class Judgement(NamedTuple):
    """The name given, what each of the three witnesses says ("clock", "pizza", "neither"; None for one that cannot
    say), and those who do not say the name.

    >>> Judgement("pizza", {"distance_irrelevance": "pizza", "isolated_circles": "neither"}).disagreeing
    ['isolated_circles']
    """

    verdict: str
    witnesses: dict[str, str | None]

    @property
    def disagreeing(self) -> list[str]:
        said = self.witnesses.items()
        return [name for name, word in said if word not in (self.verdict, None)] if self.verdict != "neither" else []


def judge(
    *,
    has_circuit: bool,
    irrelevance: float,
    symmetricity: float,
    explained: Float[np.ndarray, "2 K"],
    isolated: Float[np.ndarray, "2 K"],
) -> Judgement:
    """Clock, pizza or neither, by q, s_g and the shares of logit power that both formulas explain (`FORMULAS`; NaN for
    frequencies that are not key). The fits of `isolated` circles are a witness of their own, which says what the
    circles of nine tenths of the explained power say; it has a say where s_g is no witness (NaN).

    >>> explained, isolated = np.array([[0.99], [0.83]]), np.array([[0.76], [0.99]])
    >>> found = judge(
    ...     has_circuit=True, irrelevance=0.17, symmetricity=0.99, explained=explained, isolated=isolated
    ... )
    >>> found.verdict, found.disagreeing  # whole logits of a clock, and yet a pizza
    ('pizza', [])
    """
    by_irrelevance = "pizza" if irrelevance < IRRELEVANT else "clock"
    by_symmetricity = None if math.isnan(symmetricity) else "pizza" if symmetricity > SYMMETRIC else "clock"
    power, said = np.nan_to_num(explained).max(0), [word_of(*fits) for fits in isolated.T]
    for_each = {formula: power[[word == formula for word in said]].sum() for formula in FORMULAS}
    by_circles = next((name for name, of_power in for_each.items() if of_power > NEARLY_ALL * power.sum()), "neither")
    clock, pizza = np.nansum(explained, axis=1)
    second = by_symmetricity or (by_circles if np.isfinite(isolated).any() else by_irrelevance)
    agreed = by_irrelevance if second == by_irrelevance else "neither"
    if not has_circuit or max(clock, pizza) < LEAST_EXPLAINED or (agreed == "clock" and clock < pizza):
        agreed = "neither"
    verdict = agreed
    return Judgement(
        verdict,
        {
            "distance_irrelevance": by_irrelevance if has_circuit else None,
            "gradient_symmetricity": by_symmetricity if has_circuit else None,
            "isolated_circles": by_circles if has_circuit and np.isfinite(isolated).any() else None,
        },
    )


def word_of(clock: float, pizza: float) -> str:
    """What the fits of one isolated circle say.

    >>> word_of(0.76, 0.99), word_of(0.98, 0.80), word_of(0.90, 0.94), word_of(0.3, 0.7)
    ('pizza', 'clock', 'neither', 'neither')
    """
    if not max(clock, pizza) >= LEAST_FIT or abs(clock - pizza) < CLEARLY:
        return "neither"
    return "clock" if clock > pizza else "pizza"


def accompanying(k: int, n: int) -> int | None:
    """The frequency of the circle that accompanies a pizza of frequency k: 2k modulo n, up to sign; None where there is
    no other (k = n/2, n/3).

    >>> accompanying(17, 59), accompanying(15, 59), accompanying(4, 12), accompanying(6, 12)
    (25, 29, None, None)
    """
    double = min(2 * k % n, -2 * k % n)
    return double if double not in (0, k) else None


def distance_irrelevance(logits: Float[Tensor, "n n n"], rounding: float = 0.0) -> float:
    """q = mean_d std_s C[s, s−d] / std C of the correct logits C[s, t] = logits[s, t, s+t]: 0 for an ideal pizza. The
    ideal clock's correct logit is constant (to within `rounding`), which makes 0/0; it is given the value 1, the limit
    for any small noise on it.

    >>> from interp.testing import ideal_logits
    >>> [round(distance_irrelevance(ideal_logits(11, [2, 3], formula), 1e-9), 6) for formula in FORMULAS]
    [1.0, 0.0]
    """
    s = torch.arange(len(logits))
    correct = logits[s[:, None], s, (s[:, None] + s) % len(s)].double()
    spread = correct.std(correction=0)
    by_distance = correct[s[:, None], (s[:, None] - s) % len(s)].std(0, correction=0)  # over s, for every d
    return float(by_distance.mean() / spread) if spread > rounding else 1.0


@functools.lru_cache(maxsize=8)
def pairs_of_every_distance(n: int, sums: int, seed: int = 0) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """The phases s and t of `sums` different random pairs of every distance s − t; all n² pairs for `sums` ≥ n.

    >>> s, t = pairs_of_every_distance(7, 2)
    >>> ((s - t) % 7).bincount().tolist()
    [2, 2, 2, 2, 2, 2, 2]
    """
    generator, d = np.random.RandomState(seed), np.arange(n)
    s = (generator.permutation(n)[:, None] + generator.permutation(n)[: min(sums, n)]) % n
    return torch.from_numpy(s.flatten()), torch.from_numpy((s - d[:, None]).flatten() % n)


def terms(
    n: int, key: Sequence[int], s: Int[Tensor, " pairs"], t: Int[Tensor, " pairs"]
) -> Float[Tensor, "2 keys 2 pairs"]:
    """The clock's and the pizza's term of every key frequency on pairs of phases, each of unit length: its cosine and
    sine coefficient over the classes.

    >>> s, t = pairs_of_every_distance(7, 7)
    >>> clock, pizza = terms(7, [2], s, t)
    >>> round((clock * pizza).sum().item(), 3)  # √8/π = 0.900 for n → ∞
    0.908
    """
    index = torch.tensor(key)
    clock = fourier.pairs(n)[index - 1][..., (s + t) % n]  # [keys, 2, pairs]
    half = torch.pi * torch.remainder(index[:, None] * (s - t), 2 * n).double() / n
    both = torch.stack([clock, clock * half.cos().abs()[:, None]])
    return torch.nn.functional.normalize(both.flatten(2), dim=-1).view_as(both)


def correlations(
    parts: Float[Tensor, "*sets keys 2 pairs"], of_terms: Float[Tensor, "2 keys 2 pairs"]
) -> Float[Tensor, "2 *sets keys"]:
    """The correlation of the part of the logits with each frequency over the classes with either formula's term, over
    all entries (pairs and classes); its mean over them is 0. The fraction of variance explained, both sides
    standardized, is 2·correlation − 1. NaN where there is no such part.

    >>> of_terms = terms(7, [2], *pairs_of_every_distance(7, 7))
    >>> correlations(3 * of_terms[1], of_terms).flatten().round(decimals=3).tolist()
    [0.908, 1.0]
    """
    power = parts.square().sum((-2, -1))
    return torch.einsum("fkix,...kix->f...k", of_terms, parts) / power.sqrt()
