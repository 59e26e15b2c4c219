"""What became of a network, by a count of its wrong answers after every single step. Written anew, with nothing of what
`explain` stands on: no forward pass, no mask, no accuracy and no crossing of the package, so that both can be wrong
only by themselves. numpy only.

After every update the network is asked all pairs that it is trained on (by the labels that it is trained on), and all
that it was never shown: {a, b}, of which neither order is a training pair where the order does not matter, and which
counts as wrong where either order is answered wrongly. Of n pairs it *knows* a split when at most n/100 are wrong, or
two. It *came to know* it at the first step t at which it knows it, and does so at 3 of 4 steps from t to 1.5 t (to
t + 50 at least). Within a budget of B steps, m and g being when it came to know training pairs and pairs never shown,

    grokking        g ≥ 3 m
    comprehension   g < 3 m, or no m
    memorization    m, and no g
    confusion       neither
    collapse        g, but after step B more than half of the pairs never shown are wrong, and it does not come to know
                    them again until step 4 B; where it does, the fall was a dip and does not count

A case is *borderline* where another reading of these words makes another of it (`READINGS`): 3 % or four pairs wrong
in place of 1 % or two; 9 of 10 steps in place of 3 of 4; a factor of 2.5 or of 3.6 in place of 3; 30 or 70 % in place
of half.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import InputError
from interp.experiment import ModelConfig, Task

CONTINUED = 4
HELD_FACTOR, LEAST_HELD = 1.5, 50

_ORDER_DOES_NOT_MATTER = ("add", "multiply", "x2+xy+y2")


@dataclass(frozen=True)
class Questions:
    """What a network is asked after every step: pairs and answers that it is trained on, and pairs that it was never
    shown, `partner` being the place of (b, a) among them (its own, where the order matters)."""

    trained: Int[np.ndarray, "n 2"]
    taught: Int[np.ndarray, " n"]
    unseen: Int[np.ndarray, "m 2"]
    answers: Int[np.ndarray, " m"]
    partner: Int[np.ndarray, " m"]

    @property
    def unordered(self) -> int:
        """How many different pairs were never shown: {a, b} is one."""
        return len(np.unique(np.minimum(self.partner, np.arange(len(self.partner)))))


def questions(task: Task) -> Questions:
    """The questions of a task, from its modulus, its operation and the pairs that it is trained on.

    >>> asked = questions(Task(3, split=(1, 4)))  # trained on (0, 1) and (1, 1)
    >>> asked.unseen.tolist(), asked.answers.tolist(), asked.partner.tolist(), asked.unordered
    ([[0, 0], [0, 2], [1, 2], [2, 0], [2, 1], [2, 2]], [0, 2, 0, 2, 0, 1], [0, 3, 4, 1, 2, 5], 4)
    """
    p, operation = task.p, task.operation
    rules = {
        "add": lambda a, b: (a + b) % p,
        "subtract": lambda a, b: (a - b) % p,
        "multiply": lambda a, b: a * b % p,
        "x2+xy+y2": lambda a, b: (a * a + a * b + b * b) % p,
        "random": lambda a, b: int(task.true_labels[a * p + b]),
    }
    if operation not in rules:
        raise InputError(f"the answers of {operation} are not written down here; known: {', '.join(rules)}")
    shown = {(int(index) // p, int(index) % p) for index in task.train_indices}
    either_way = operation in _ORDER_DOES_NOT_MATTER
    unseen = [
        (a, b) for a in range(p) for b in range(p) if (a, b) not in shown and not (either_way and (b, a) in shown)
    ]
    place = {pair: number for number, pair in enumerate(unseen)}
    trained = sorted(shown)
    return Questions(
        trained=np.array(trained),
        taught=np.array([int(task.labels[a * p + b]) for a, b in trained]),
        unseen=np.array(unseen, dtype=np.int64).reshape(-1, 2),
        answers=np.array([rules[operation](a, b) for a, b in unseen], dtype=np.int64),
        partner=np.array([place[(b, a)] if either_way else place[(a, b)] for a, b in unseen], dtype=np.int64),
    )


def count_wrong(weights: Mapping[str, np.ndarray], model: ModelConfig, asked: Questions) -> tuple[int, int]:
    """How many training pairs, and how many pairs never shown, are answered wrongly.

    >>> model, task = ModelConfig(family="mlp", d_mlp=4), Task(3, split=(1, 4))
    >>> silent = {"mlp.W_in": np.zeros((3, 4)), "mlp.W_out": np.zeros((4, 3))}  # answers 0 to everything
    >>> count_wrong(silent, model, questions(task))
    (2, 2)
    """
    said = logits(weights, model, np.concatenate([asked.trained, asked.unseen])).argmax(1)
    n = len(asked.trained)
    wrong = said[n:] != asked.answers
    either = wrong | wrong[asked.partner]
    first = np.arange(len(wrong)) <= asked.partner
    return int((said[:n] != asked.taught).sum()), int((either & first).sum())


def logits(
    weights: Mapping[str, np.ndarray], model: ModelConfig, pairs: Int[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n p"]:
    """The logits, from the formulas of the two networks: a one-layer transformer on `a b =`, and an MLP."""
    a, b = pairs.T
    act = {"relu": lambda x: np.maximum(x, 0), "square": lambda x: x * x}.get(model.activation)
    rest = (model.n_layers, model.prompt, model.attention_rate, model.vocabularies, model.embedding)
    is_plain = model.is_plain if model.family == "transformer" else not model.biases
    if act is None or rest != (1, "ab=", 1, "one", "none") or not is_plain:
        raise InputError(
            "asked at every step are MLPs of one hidden layer without embedding and biases, and plain transformers of "
            "one layer that read ab= from one vocabulary with attention-rate 1, with relu or square"
        )
    if model.family == "mlp":
        W_in, W_out = weights["mlp.W_in"], weights["mlp.W_out"]
        return act(W_in[a] + W_in[b + (0 if model.inputs == "sum" else W_out.shape[1])]) @ W_out
    E, pos = weights["embed.W_E"], weights["pos_embed.W_pos"]
    residues, equals = E[: weights["unembed.W_U"].shape[1]], E[-1] + pos[2]
    at_a, at_b = residues + pos[0], residues + pos[1]
    stream = equals[None]
    for W_Q, W_K, W_V, W_O in zip(
        *(weights[f"blocks.0.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O")), strict=True
    ):
        looks_for = W_K @ (equals @ W_Q) / math.sqrt(W_Q.shape[1])
        score_a, score_b, score_equals = (at_a @ looks_for)[a], (at_b @ looks_for)[b], equals @ looks_for
        highest = np.maximum(np.maximum(score_a, score_b), score_equals)
        of_a, of_b, of_equals = (np.exp(score - highest) for score in (score_a, score_b, score_equals))
        total = of_a + of_b + of_equals
        moves = W_V @ W_O
        stream = (
            stream
            + (of_a / total)[:, None] * (at_a @ moves)[a]
            + (of_b / total)[:, None] * (at_b @ moves)[b]
            + (of_equals / total)[:, None] * (equals @ moves)
        )
    mlp = {name: weights[f"blocks.0.mlp.{name}"] for name in ("W_in", "b_in", "W_out", "b_out")}
    stream = stream + act(stream @ mlp["W_in"] + mlp["b_in"]) @ mlp["W_out"] + mlp["b_out"]
    return stream @ weights["unembed.W_U"]


# ---- the truth -------------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """How the words are read: the share, and the number of pairs, that may be wrong; the share of steps at which what
    is known is known; the factor from which on it is grokking; and the share that is wrong of what was lost."""

    wrong: float = 0.01
    pairs: int = 2
    held: float = 0.75
    factor: float = 3.0
    lost: float = 0.5


READING = Reading()
READINGS = (
    Reading(wrong=0.03, pairs=4),
    Reading(held=0.9),
    Reading(factor=2.5),
    Reading(factor=3.6),
    Reading(lost=0.3),
    Reading(lost=0.7),
)


class Truth(NamedTuple):
    """What became of a network: the verdict; whether another reading makes another of it; the steps m and g at which it
    came to know training pairs and pairs never shown (NaN: it did not); and whether these were lost at the cut and came
    back."""

    verdict: str
    borderline: bool
    memorized: float
    generalized: float
    dip: bool


def truth(
    wrong_trained: Int[np.ndarray, " step"],
    wrong_unseen: Int[np.ndarray, " step"],
    pairs: tuple[int, int],
    budget: int,
) -> Truth:
    """The truth from the wrong answers after 0, 1, 2, … steps, of so many training pairs and pairs never shown.

    >>> steps = np.arange(2001)
    >>> found = truth(np.where(steps < 100, 50, 0), np.where(steps < 400, 80, 1), (50, 80), budget=500)
    >>> found.verdict, found.memorized, found.generalized, found.borderline
    ('grokking', 100.0, 400.0, False)
    """
    told, *others = (_read(wrong_trained, wrong_unseen, pairs, budget, how) for how in (READING, *READINGS))
    return told._replace(borderline=any(other.verdict != told.verdict for other in others))


def _read(
    wrong_trained: np.ndarray, wrong_unseen: np.ndarray, pairs: tuple[int, int], budget: int, how: Reading
) -> Truth:
    knows_trained, knows_unseen = (
        wrong <= max(how.pairs, how.wrong * n) for wrong, n in zip((wrong_trained, wrong_unseen), pairs, strict=True)
    )
    m, g = (came_to_know(knows, 0, budget, how.held) for knows in (knows_trained, knows_unseen))
    if math.isnan(g):
        return Truth("confusion" if math.isnan(m) else "memorization", False, m, g, False)
    is_lost = bool(wrong_unseen[budget] > how.lost * pairs[1])
    if is_lost and math.isnan(came_to_know(knows_unseen, budget + 1, len(knows_unseen) - 1, how.held)):
        return Truth("collapse", False, m, g, False)
    is_late = g >= how.factor * m and g > m  # not where m is unknown
    return Truth("grokking" if is_late else "comprehension", False, m, g, is_lost)


def came_to_know(knows: Bool[np.ndarray, " step"], start: int, end: int, held: float = READING.held) -> float:
    """The first step from `start` to `end` at which it came to know; NaN where there is none.

    >>> knows = np.arange(400) >= 100
    >>> came_to_know(knows, 0, 399), came_to_know(knows, 0, 99)
    (100.0, nan)
    """
    so_far = np.concatenate([[0], np.cumsum(knows)])
    for step in np.flatnonzero(knows[: end + 1]):
        last = min(len(knows) - 1, step + max(LEAST_HELD, round((HELD_FACTOR - 1) * step)))
        if start <= step < len(knows) - LEAST_HELD and so_far[last + 1] - so_far[step] >= held * (last + 1 - step):
            return float(step)
    return math.nan
