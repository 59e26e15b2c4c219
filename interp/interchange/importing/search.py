"""Which reading of a file is right: the questions that names and shapes leave open, answered by running the network.

Every guess makes a network, which is run on some hundred pairs; how many it answers says how good the guess is. First
one question after the other, from the defaults; where that leaves a network that does not answer, many at once. What
is *better* is said in `is_better`, and nothing less than that takes the place of a default.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.interchange.layouts.candidates import ACTIVATIONS, OF_PIECES, RARE, TWINS, Candidate, Guess
from interp.interchange.layouts.fitting import Fitted
from interp.models import Weights, logits

ANSWERS = 0.99  # of the pairs: the network answers
BETTER = 0.01  # of the pairs
FAR = 0.1  # on some pairs so much worse that the others need not be run
LOSS_FACTOR = 1.05
REST_FACTOR = 1.5
STANDARD_ERRORS = 3.0
SOME_PAIRS, MOST_PAIRS = 400, 40_000
PAIRS_AT_ONCE = 4000
MOST_RUNS = 1000
FEW_TOKENS = 24
MOST_WORK = 2e11  # multiplications and additions
# The questions that many guesses at once are made of, in groups: a network that is read with one of these wrong answers
# nothing, so that no other question can be asked before. Of each at most so many options.
_TOGETHER = (
    {"tokens": 40, "n_heads": 5, "activation": 2},
    {"tokens": 120, "n_heads": 8},
    {"tokens": 8, "n_heads": 8, "norm_order": 2, "causal": 2, "positions": 3, "norm_kind": 2},
    {
        **{"tokens": 4, "n_heads": 8, "norm_order": 2, "cut": 3, "attention [out, in]": 2, "W_O [out, in]": 2},
        **{"mlp [out, in]": 2, "gate first": 2, "activation": 2},
    },
    {"tokens": 6, "n_heads": 2, "answer_at": 6, "causal": 2, "norm_order": 2},
    {"tokens": 4, "n_heads": 8, "without_parameters": 9, "scaled_embedding": 2, "score_scale": 2, "positions": 5},
)
_TOPS = 3


Run = Callable[[Weights, ModelConfig, Tensor], Tensor]


@dataclass(frozen=True)
class Outcome:
    """What a network answered: to the operation that its answers fit best."""

    operation: str
    correct: Bool[np.ndarray, " pairs"]
    losses: Float[np.ndarray, " pairs"]
    p: int = 0

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    @property
    def loss(self) -> float:
        return float(self.losses.mean())


def is_better(one: Outcome, other: Outcome) -> bool:
    """Whether one network is better than another: by more than 0.01 of accuracy, or, where both answer all (0.99), by a
    loss lower by more than three standard errors of its differences over the pairs (of the losses, or of their
    logarithms, as a few pairs carry most of a mean), and by 5 %: the slightest change of any network
    changes its loss by some per cent, up or down, and of 10,000 pairs that is sure.

    A reading modulo another p answers other pairs: it must answer half of them, and by a quarter more than the other.

    >>> right, wrong = np.array([True] * 8), np.array([False] + [True] * 7)
    >>> is_better(Outcome("add", right, np.zeros(8)), Outcome("add", wrong, np.zeros(8)))
    True
    """
    if one.p != other.p:
        chance = 1 / max(one.p, 2)
        sure = chance + 6 * sqrt(chance * (1 - chance) / max(len(one.correct), 1))
        return one.accuracy > max(0.5, sure, other.accuracy + 0.25)
    if abs(one.accuracy - other.accuracy) > BETTER:
        return one.accuracy > other.accuracy
    if min(one.accuracy, other.accuracy) < ANSWERS or len(one.losses) != len(other.losses):
        return False
    if other.loss <= LOSS_FACTOR * one.loss + 1e-9:
        return False
    return is_surely_lower(one, other)


def is_surely_lower(one: Outcome, other: Outcome) -> bool:
    """Whether losses, or their logarithms, are lower by more than three standard errors over the same pairs."""
    if len(one.losses) != len(other.losses):
        return False
    return _is_lower(one.losses, other.losses) or _is_lower(*(np.log(x + 1e-12) for x in (one.losses, other.losses)))


def _is_lower(one: Float[np.ndarray, " pairs"], other: Float[np.ndarray, " pairs"]) -> bool:
    """Whether one number is lower than the other by more than three standard errors of their difference over pairs."""
    lower = other - one
    error = lower.std(ddof=1) / np.sqrt(len(lower)) if len(lower) > 1 else np.inf
    return bool(lower.mean() > STANDARD_ERRORS * error)


def prefers(
    found: Outcome, best: Outcome, option: Any, current: Any, is_nearer_rest: Callable[[], bool] = lambda: True
) -> bool:
    """Whether an option takes the place of the current one.

    Of two activations either can have the lower loss by some per cent, whichever the network was trained with. What
    training leaves behind is a network near rest: with a wrong activation its gradient, for its loss, is larger. So an
    activation takes the place of another by a lower loss only where `is_nearer_rest` says so too. Where even that tells
    nothing, accuracy must: of two that are nearly one function, and of squares, which make any network louder.
    """
    if not (isinstance(option, str) and {option, current} <= ACTIVATIONS):
        return is_better(found, best)
    if "square" in (option, current) or any({option, current} <= twins for twins in TWINS):
        return found.accuracy > best.accuracy + BETTER
    if abs(found.accuracy - best.accuracy) > BETTER or min(found.accuracy, best.accuracy) < ANSWERS:
        return is_better(found, best)
    return found.loss < best.loss and is_surely_lower(found, best) and is_nearer_rest()


def _is_no_chance(one: Outcome, other: Outcome) -> bool:
    """Whether the answers of two networks on the same pairs differ by more than chance: of a network that answers
    nothing every option is better than some other."""
    if one.p != other.p or len(one.correct) != len(other.correct) or other.accuracy >= ANSWERS:
        return True
    more = one.correct.astype(float) - other.correct
    return bool(more.mean() > 2 * more.std() / sqrt(len(more)))


def _is_stand_in(weight: Tensor) -> bool:
    """Whether a weight stands for a part that the network does not have, so that no training moved it: zeros, or the
    identity in place of W_O."""
    if weight.ndim == 3:
        weight = weight.flatten(0, 1)
        return weight.shape[0] == weight.shape[1] and bool(torch.equal(weight, torch.eye(len(weight))))
    return not weight.any()


class Judge:
    """Runs networks over pairs, the same for all that have one p."""

    def __init__(self, operations: Sequence[str]) -> None:
        self.operations = operations
        self._tasks: dict[int, dict[str, Task]] = {}
        self._some: dict[tuple[int, int], Tensor] = {}

    def tasks(self, p: int) -> dict[str, Task]:
        """The tasks modulo p that come into question; an operation that is not defined there is none."""
        if p not in self._tasks:
            found, refused = {}, None
            for operation in self.operations:
                try:
                    found[operation] = Task(p, operation, split="unknown")  # pyright: ignore[reportArgumentType]
                except InputError as error:
                    refused = error
            if not found:
                raise refused or InputError(f"no operation is defined modulo {p}")
            self._tasks[p] = found
        return self._tasks[p]

    def judge(self, fitted: Fitted, every: bool = False, run: Run = logits) -> Outcome:
        """What a network answers on some pairs, or on every one (of a large p, on 40,000). `run` gives its logits."""
        p = fitted.p
        tasks = self.tasks(p)
        indices = self._indices(p, every)
        pairs = torch.stack([indices // p, indices % p], 1)
        with torch.no_grad():
            some = [run(fitted.weights, fitted.model, part) for part in pairs.split(PAIRS_AT_ONCE)]
        found = torch.cat(some)
        found = torch.where(found.isfinite(), found, torch.zeros_like(found))
        answers = found.argmax(1)
        best: tuple[float, str, Tensor, Tensor] | None = None
        for operation, task in tasks.items():
            labels = torch.from_numpy(task.labels)[indices]
            defined = labels >= 0
            correct = (answers == labels)[defined]
            share = float(correct.double().mean()) if len(correct) else 0.0
            if best is None or share > best[0]:
                best = share, operation, correct, defined
        assert best is not None
        _, operation, correct, defined = best
        labels = torch.from_numpy(tasks[operation].labels)[indices][defined]
        losses = -found[defined].double().log_softmax(1).gather(1, labels[:, None])[:, 0]
        return Outcome(operation, correct.numpy(), losses.numpy(), p)

    def unrest(self, fitted: Fitted, run: Run = logits) -> float:
        """‖∇L‖/L over some pairs."""
        outcome = self.judge(fitted, run=run)
        indices = self._indices(fitted.p, False)
        labels = torch.from_numpy(self.tasks(fitted.p)[outcome.operation].labels)[indices]
        pairs = torch.stack([indices // fitted.p, indices % fitted.p], 1)[labels >= 0]
        weights = {name: weight.clone().requires_grad_(True) for name, weight in fitted.weights.items()}
        with torch.enable_grad():
            found = run(weights, fitted.model, pairs).double()
            loss = torch.nn.functional.cross_entropy(found, labels[labels >= 0])
            moved = [weight for weight in weights.values() if not _is_stand_in(weight.detach())]
            gradient = torch.autograd.grad(loss, moved, allow_unused=True)
        length = sum(float(part.double().square().sum()) for part in gradient if part is not None) ** 0.5
        return length / max(loss.item(), 1e-300)

    def _indices(self, p: int, every: bool) -> Tensor:
        most = MOST_PAIRS if every else SOME_PAIRS
        if p * p <= most:
            return torch.arange(p * p)
        if (p, most) not in self._some:
            order = torch.randperm(p * p, generator=torch.Generator().manual_seed(0))
            self._some[p, most] = order[:most].sort().values
        return self._some[p, most]


class Search:
    """The guesses of one candidate, each run once."""

    def __init__(
        self,
        candidate: Candidate,
        tensors: Mapping[str, Tensor],
        given: Mapping[str, Any],
        p: int | None,
        judge: Judge,
        *,
        free: bool = False,
    ) -> None:
        self.candidate, self.tensors, self.given, self.p, self.judge = candidate, tensors, given, p, judge
        # What somebody says is not searched; whether something else is better is asked in the end.
        self.fixed = {question for question in candidate.options if given.get(question) is not None and not free}
        self._outcomes: dict[tuple[Any, ...], Outcome | None] = {}
        self._unrests: dict[str, float] = {}
        self._named: tuple[Any, Any] = ("none", None)  # the tensors under our names, as the last guess has them
        self.runs = 0

    def fitted(self, guess: Guess) -> Fitted:
        """The network of a guess. Raises InputError where there is none."""
        key = tuple(guess.get(question) for question in OF_PIECES)
        if key != self._named[0]:
            self._named = key, self.candidate.named(self.tensors, guess)
        return self.candidate.fitted(self.tensors, guess, self.given, self.p, self._named[1])

    def outcome(self, guess: Guess, every: bool = False) -> Outcome | None:
        """What the network of a guess answers; None where the guess makes none."""
        key = (every, *sorted((question, repr(option)) for question, option in guess.items()))
        if key not in self._outcomes:
            self.runs += 1
            try:
                self._outcomes[key] = self.judge.judge(self.fitted(guess), every)
            except (InputError, RuntimeError, ValueError, IndexError):
                self._outcomes[key] = None  # shapes that this guess does not fit
        return self._outcomes[key]

    def best(self) -> Guess:
        """The best guess that is found, from the defaults; the defaults where none answers by more than chance. Raises
        InputError where the defaults make no network."""
        start = self.candidate.default
        asked = [one for one in self.candidate.options if one not in self.fixed and one != "epsilon"]
        asked.sort(key=lambda one: one != "tokens")
        guess = self._descended(start, [one for one in asked if one not in RARE])
        if self.outcome(start) is None and self.outcome(guess) is None:
            self.fitted(start)  # says why
            raise InputError("no reading of the tensors makes a network that can be run")
        if self.answers(guess):
            return self._with_defaults(guess)
        runs = self._affordable()
        for group in _TOGETHER:
            many = self._many(group, runs // len(_TOGETHER))
            tried = [(self._rank(one, guess), -place, one) for place, one in enumerate(many)]
            for *_, top in sorted(tried, key=lambda entry: entry[:2], reverse=True)[:_TOPS]:
                found = self._descended(top, asked, FEW_TOKENS)
                guess = found if self._is_better(found, guess) else guess
                if self.answers(guess):
                    return self._with_defaults(guess)
        return self._with_defaults(guess) if self._is_found(guess, start) else start

    def is_nearer_rest(self, one: Guess, other: Guess) -> bool:
        """Whether the gradient of a network's loss, in units of the loss, is smaller by a factor of 1.5."""
        return self._unrest(one) * REST_FACTOR < self._unrest(other)

    def _unrest(self, guess: Guess) -> float:
        """The length of the gradient with respect to all weights, over the loss, over some pairs."""
        key = repr(sorted((question, repr(option)) for question, option in guess.items()))
        if key not in self._unrests:
            self._unrests[key] = self.judge.unrest(self.fitted(guess))
        return self._unrests[key]

    def answers(self, guess: Guess) -> bool:
        """Whether the network of a guess answers."""
        return self._accuracy(guess) >= ANSWERS

    def _accuracy(self, guess: Guess) -> float:
        outcome = self.outcome(guess)
        return outcome.accuracy if outcome is not None else -1.0

    def _is_found(self, guess: Guess, start: Guess) -> bool:
        """Whether a guess that does not answer everything is more than the best of many that answer by chance."""
        found, first = self.outcome(guess), self.outcome(start)
        if found is None or first is None:
            return found is not None
        chance, n = 1 / max(found.p, 2), max(len(found.correct), 1)
        return found.accuracy > max(first.accuracy + 0.1, chance + 6 * sqrt(chance * (1 - chance) / n))

    def _is_better(self, one: Guess, other: Guess) -> bool:
        found, best = self.outcome(one), self.outcome(other)
        return found is not None and (best is None or is_better(found, best))

    def _rank(self, guess: Guess, best: Guess) -> float:
        """The accuracy; nothing for another p that is not better than the best."""
        found, first = self.outcome(guess), self.outcome(best)
        if found is None:
            return -1.0
        if first is not None and found.p != first.p and not is_better(found, first):
            return 0.0
        return found.accuracy

    def _descended(self, guess: Guess, questions: Sequence[str], tokens: int | None = None) -> Guess:
        """One question after the other, as long as an option is better."""
        for _ in range(3):
            before = guess
            for question in questions:
                for option in self.candidate.options[question][: tokens if question == "tokens" else None]:
                    guess = self._better_of(guess, question, option)
                    if question == "tokens" and self.answers(guess):
                        break  # no other tokens can be better by more than a loss
            if guess == before or self._accuracy(guess) >= 1:
                break
        return guess

    def _better_of(self, guess: Guess, question: str, option: Any) -> Guess:
        other = {**guess, question: option}
        if other == guess or (found := self.outcome(other)) is None:
            return guess
        best = self.outcome(guess)
        if best is None:
            return other
        wins = prefers(found, best, option, guess[question], lambda: self.is_nearer_rest(other, guess))
        return other if wins and _is_no_chance(found, best) else guess

    def _with_defaults(self, guess: Guess) -> Guess:
        """A default in place of every option that is not better than it: what was tried at once was not tried apart."""
        for question, default in self.candidate.default.items():
            other = {**guess, question: default}
            found, best = self.outcome(other), self.outcome(guess)
            if other != guess and found is not None and best is not None and not is_better(best, found):
                guess = other
        return guess

    def _many(self, group: Mapping[str, int], runs: int) -> Iterator[Guess]:
        """Guesses that differ from the defaults in many questions at once, those that differ least first."""
        options = self.candidate.options
        asked = [one for one in group if len(options.get(one, ())) > 1 and one not in self.fixed]
        sizes = [range(min(len(options[question]), group[question])) for question in asked]

        def distance(places: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
            return sum(place / len(size) for place, size in zip(places, sizes, strict=True)), places

        for places in sorted(product(*sizes), key=distance)[:runs]:
            chosen = {question: options[question][place] for question, place in zip(asked, places, strict=True)}
            yield self.candidate.default | chosen

    def _affordable(self) -> int:
        size = sum(weight.numel() for weight in self.tensors.values() if weight.ndim > 1)
        return int(max(min(MOST_WORK / (size * SOME_PAIRS * 4 * 2 + 1), MOST_RUNS), 200))
