"""How well each class of a classifier is told from the others: precision, recall and F1 of its answers, and how its
scores separate, whatever the threshold. numpy, scipy, scikit-learn and torch.

With TP_c, FP_c, FN_c the examples of class c that are answered by c, the others that are, and those of c that are not,

    precision  P_c = TP_c/(TP_c + FP_c)        0 where c is never answered
    recall     R_c = TP_c/(TP_c + FN_c)
    F1         2 TP_c/(2 TP_c + FP_c + FN_c)

of a score that should be high for the class, with TPR and FPR the shares of the class and of the others at or above t,

    AUC        P(score of the class > score of another) + ½ P(they are equal)     (Mann and Whitney 1947)
    KS         max_t TPR(t) − FPR(t)

KS is what credit risk calls so (and Youden's J at its best threshold): the one-sided statistic of Kolmogorov and
Smirnov, which a score that ranks the class last has as 0, and the two-sided one as 1. AUC and KS are those of any
increasing function of the score.

A classifier that knows nothing has AUC ½ on average, but no KS of 0: for a class of n independent examples among many
others it is E D⁺_n, about .63/√n (`ks_by_chance`). One that guesses K classes alike has precision and recall 1/K, and
at most that as F1.

It cannot tell whether probabilities mean what they say: all of this is about order.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import ksone
from torch import Tensor

REFERENCE = "van Rijsbergen 1979; Fawcett 2006, doi:10.1016/j.patrec.2005.10.010; Youden 1950"


class AnswerScores(NamedTuple):
    """Of every class; NaN of one that no example has, which `support` counts."""

    precision: Float[np.ndarray, " classes"]
    recall: Float[np.ndarray, " classes"]
    f1: Float[np.ndarray, " classes"]
    support: Int[np.ndarray, " classes"]


class Separation(NamedTuple):
    """Of every class; NaN where all examples have it, or none."""

    auc: Float[np.ndarray, " classes"]
    ks: Float[np.ndarray, " classes"]


def answered(logits: Float[Tensor, "n classes"]) -> Int[np.ndarray, " n"]:
    """The class whose logit is larger than every other; −1 where two have the largest, or one is no number.

    >>> answered(torch.tensor([[0.0, 2.0], [1.0, 1.0], [torch.nan, 0.0]])).tolist()
    [1, -1, -1]
    """
    highest, answers = logits.max(1)
    is_one = logits.scatter(1, answers[:, None], -torch.inf).amax(1) < highest
    return torch.where(is_one, answers, -1).numpy()


def answer_scores(labels: Int[np.ndarray, " n"], answers: Int[np.ndarray, " n"], n_classes: int) -> AnswerScores:
    """Precision, recall, F1 and support of the classes 0 … K−1. An answer of −1 is no class: it counts against the
    recall of the label, and against no precision.

    >>> found = answer_scores(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    >>> [values.round(2).tolist() for values in found]
    [[1.0, 0.5, nan], [0.5, 1.0, nan], [0.67, 0.67, nan], [2, 1, 0]]
    """
    from sklearn.metrics import precision_recall_fscore_support  # takes longer to load than all else of an analysis

    support = np.bincount(labels, minlength=n_classes)
    if not len(labels):
        unknown = np.full(n_classes, np.nan)
        return AnswerScores(unknown, unknown, unknown, support)
    scores = precision_recall_fscore_support(labels, answers, labels=np.arange(n_classes), zero_division=0.0)
    precision, recall, f1 = (np.where(support > 0, one, np.nan) for one in scores[:3])
    return AnswerScores(precision, recall, f1, support)


def separation(scores: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> Separation:
    """AUC and KS of each class against the rest, by its column of the scores. NaN of scores that are no numbers.

    >>> found = separation(np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]]), np.array([0, 1, 0, 0]))
    >>> found.auc.tolist(), found.ks.tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    n, n_classes = scores.shape
    auc, ks = np.full(n_classes, np.nan), np.full(n_classes, np.nan)
    columns = np.ascontiguousarray(scores.T)
    in_order = np.sort(columns, axis=1)  # of values alone: to sort places takes six times as long
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=n_classes))
    for c, (column, ascending, end) in enumerate(zip(columns, in_order, ends, strict=True)):
        own = np.sort(column[order[end - (n_own := int((labels == c).sum())) : end]])
        n_others = n - n_own
        if not n_own or not n_others or np.isnan(ascending[-1]):
            continue
        below, up_to = (np.searchsorted(ascending, own, side) for side in ("left", "right"))
        ranks = (below + up_to + 1) / 2  # of ties the mean
        auc[c] = (ranks.sum() - n_own * (n_own + 1) / 2) / (n_own * n_others)
        # At or above each score of the class, where alone TPR − FPR can be largest.
        of_class = n_own - np.searchsorted(own, own, "left")
        ks[c] = max(0.0, float((of_class / n_own - (n - below - of_class) / n_others).max()))
    return Separation(auc, ks)


@lru_cache(maxsize=4096)
def ks_by_chance(n: int) -> float:
    """The mean KS of a class of n independent examples among many others whose scores know nothing of it: E D⁺_n =
    ∫ P(D⁺_n > x) dx (Birnbaum and Tingey 1951).

    >>> [round(ks_by_chance(n), 4) for n in (1, 2, 100)]  # of one example ½, of two 3/8
    [0.5, 0.375, 0.061]
    """
    x = np.linspace(0, 1, 2001)
    return float(np.trapezoid(ksone.sf(x, n), x))
