"""Is another reading better? Every option of every question beside the one that was taken, by the same pairs."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from interp.errors import flag
from interp.interchange.importing.search import BETTER, FAR, Outcome, Search, is_better, prefers
from interp.interchange.layouts.candidates import RARE, TWINS, Guess
from interp.interchange.layouts.prompts import Tokens

MOST_LISTED = 8  # options of one question, in run.json
MOST_TOKENS = 40
_WORDS = {
    "n_heads": "number of heads",
    "tokens": "prompt",
    "cut": "order of q, k and v",
    "norm_order": "norms before (pre) or after (post)",
    "norm_kind": "kind of norm",
    "causal": "causal",
    "positions": "positions",
    "gate first": "gate before W_in",
    "epsilon": "epsilon of the norms",
    "without_parameters": "norms without parameters",
    "scaled_embedding": "embedding times √d_model",
    "score_scale": "scores divided by",
    "answer_at": "position that answers",
}


@dataclass(frozen=True)
class Alternative:
    """An option that was not taken, and what the network answers with it."""

    question: str
    option: Any
    outcome: Outcome
    verdict: str  # worse, as good, the same, better

    def facts(self) -> dict[str, Any]:
        """In JSON values."""
        return {
            "option": said(self.option),
            "accuracy": self.outcome.accuracy,
            "loss": self.outcome.loss if np.isfinite(self.outcome.loss) else None,
            "pairs": len(self.outcome.losses),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Challenged:
    """A guess that no other option of any one question beats, and what was tried beside it."""

    guess: Guess
    outcome: Outcome
    alternatives: tuple[Alternative, ...]
    found: tuple[str, ...] = ()  # questions that running alone answers: another option than the default was taken
    given: tuple[str, ...] = ()

    @property
    def better(self) -> list[Alternative]:
        """What is better than something that was given."""
        return [one for one in self.alternatives if one.verdict == "better"]

    def as_good(self, question: str) -> list[Alternative]:
        """The options of a question that answer as well as the one that was taken, the best first."""
        found = [one for one in self.alternatives if one.question == question and one.verdict == "as good"]
        return sorted(found, key=lambda one: (-one.outcome.accuracy, one.outcome.loss))

    def facts(self) -> list[dict[str, Any]]:
        """For every question what was taken and what was tried beside it, in JSON values."""
        found = []
        for question in dict.fromkeys(one.question for one in self.alternatives):
            beside = [one for one in self.alternatives if one.question == question]
            beside.sort(key=lambda one: (one.verdict == "worse", -one.outcome.accuracy, one.outcome.loss))
            listed = [one.facts() for one in beside[:MOST_LISTED]]
            entry = {"question": word(question), "taken": said(self.guess[question]), "tried": listed}
            found.append(entry | ({"more": len(beside) - MOST_LISTED} if len(beside) > MOST_LISTED else {}))
        return found

    def notes(self, default: Guess) -> list[str]:
        """In words, what running found that names and shapes do not tell, beside what the default answers."""
        found = []
        for question in self.found:
            beside = next(
                (one for one in self.alternatives if (one.question, one.option) == (question, default[question])), None
            )
            answers = f"; with {said(default[question])} it answers {beside.outcome.accuracy:.1%}" if beside else ""
            found.append(f"{word(question)}: {said(self.guess[question])}, found by running{answers}")
        return found

    def assumed(self) -> list[str]:
        """In words, what the answers do not tell."""
        found = []
        for question in self.guess:
            near = self.as_good(question)
            if question in self.given:
                continue
            if near and question != "epsilon":
                first = near[0]
                taken = f"{word(question)} {said(self.guess[question])}"
                found.append(
                    f"{taken} (with {said(first.option)} it would answer as well: "
                    f"accuracy {first.outcome.accuracy:.4g}, loss {first.outcome.loss:.2g} beside "
                    f"{self.outcome.accuracy:.4g}, {self.outcome.loss:.2g}{_flag(question)})"
                )
            elif question == "epsilon":
                found.append(f"{word(question)} {said(self.guess[question])} (no file of weights holds it)")
        return found


def word(question: str) -> str:
    """A question in words."""
    return _WORDS.get(question, question)


def said(option: Any) -> str:
    """An option in words.

    >>> said(("by head", "qkv")), said((("rotary_base", 10000.0), ("interleaved", False))), said(True)
    ('qkv by head', 'rotary, base 10000, halves', 'yes')
    """
    if isinstance(option, Tokens):
        return option.said + f" modulo {option.p}"
    if isinstance(option, bool):
        return "yes" if option else "no"
    if isinstance(option, tuple):
        return _said_of_several(option)
    return f"{option:g}" if isinstance(option, float) else str(option)


def _said_of_several(option: tuple[Any, ...]) -> str:
    if option and isinstance(option[0], tuple):
        fields = dict(option)
        if "rotary_base" not in fields:
            return f"sines and cosines ({fields['positions']})"
        return f"rotary, base {fields['rotary_base']:.6g}, {'neighbors' if fields['interleaved'] else 'halves'}"
    if len(option) == 2:
        return f"{option[1]} {option[0]}"
    return " ".join(map(str, option)) if option else "none"


def _flag(question: str) -> str:
    return f"; --model.{flag(question)}" if question in ("n_heads", "activation", "causal") else ""


def with_free(challenged: Challenged, free: Search, guess: Guess) -> Challenged:
    """What was given, beside a network that answers with something else."""
    outcome = free.outcome(guess, every=True)
    assert outcome is not None
    other = [one for one in challenged.given if guess[one] != challenged.guess[one]]
    more = tuple(Alternative(question, guess[question], outcome, "better") for question in other)
    kept = tuple(one for one in challenged.alternatives if one.verdict != "better")
    return replace(challenged, alternatives=(*more, *kept)) if more else challenged


def challenge(search: Search, guess: Guess, given: Collection[str] = ()) -> Challenged:
    """The guess, or a better one that differs in one question at a time, with what was tried beside it, judged by every
    pair wherever some pairs are not clear. What is `given` stays; an option that is better than it is said to be."""
    # Of a network that answers nothing, every reading of the tokens is as good as another.
    passed = (*RARE, *(() if search.answers(guess) or "tokens" in given else ("tokens",)))
    questions = [question for question in guess if question not in passed]
    found: list[Alternative] = []
    best: Outcome | None = None
    for turn in range(6):
        best = search.outcome(guess, every=True)
        assert best is not None
        found = []
        for question in questions:
            for option in _options(search, question, guess):
                outcome = _outcome(search, guess, {**guess, question: option})
                if outcome is None:
                    continue
                verdict = _verdict(search, guess, question, option, outcome)
                found.append(Alternative(question, option, outcome, verdict))
        move = next(
            (one for one in found if one.question not in given and _replaces(one, best, search, guess, found)), None
        )
        if move is None or turn == 5:
            break
        guess = {**guess, move.question: move.option}
    assert best is not None
    default = search.candidate.default
    beyond = [
        one for one in guess if guess[one] != default[one] and one not in given and one not in ("activation", "epsilon")
    ]
    return Challenged(guess, best, tuple(found), tuple(beyond), tuple(given))


def _options(search: Search, question: str, guess: Guess) -> list[Any]:
    """The other options of a question; of tokens the likeliest, those of the same prompt first."""
    options = [option for option in search.candidate.options[question] if option != guess[question]]
    if question != "tokens":
        return options
    taken = guess["tokens"]
    return sorted(options, key=lambda one: (one.prompt != taken.prompt, one.p != taken.p))[:MOST_TOKENS]


def _replaces(one: Alternative, best: Outcome, search: Search, guess: Guess, beside: list[Alternative]) -> bool:
    """Whether an option takes the place of what was guessed: one that is better, the default where it is as good, and
    where the default is worse, of all that are as good the one with the lowest loss, or, of activations, the one nearer
    to rest."""
    default = search.candidate.default[one.question]
    if one.verdict != "as good" or one.question == "epsilon" or guess[one.question] == default:
        return one.verdict == "better"
    if one.option == default:
        return True
    of_question = [other for other in beside if other.question == one.question]
    if any(other.option == default and other.verdict in ("as good", "the same") for other in of_question):
        return False
    lowest = min((other for other in of_question if other.verdict == "as good"), key=lambda other: other.outcome.loss)
    if one.question != "activation":
        return one is lowest and one.outcome.loss < best.loss
    twins = any({one.option, guess[one.question]} <= pair for pair in TWINS)
    return not twins and search.is_nearer_rest({**guess, one.question: one.option}, guess)


def _outcome(search: Search, guess: Guess, other: Guess) -> Outcome | None:
    """What an option answers: to some pairs where these are clear, else to all."""
    best, some = search.outcome(guess), search.outcome(other)
    if best is None or some is None or some.accuracy < best.accuracy - FAR:
        return some
    return search.outcome(other, every=True)


def _verdict(search: Search, guess: Guess, question: str, option: Any, outcome: Outcome) -> str:
    best = search.outcome(guess, every=True)
    assert best is not None
    if outcome.p != best.p:
        return "better" if is_better(outcome, best) else "worse"
    if len(outcome.losses) != len(best.losses):
        some = search.outcome(guess)
        return "worse" if some is not None and outcome.accuracy < some.accuracy - BETTER else "as good"
    if outcome.operation == best.operation and np.allclose(outcome.losses, best.losses, rtol=1e-4, atol=1e-7):
        return "the same"
    other, current = {**guess, question: option}, guess[question]
    verdict = "as good"
    if question == "epsilon":
        verdict = "as good" if outcome.accuracy > best.accuracy - BETTER else "worse"
    elif prefers(outcome, best, option, current, lambda: search.is_nearer_rest(other, guess)):
        verdict = "better"
    elif prefers(best, outcome, current, option, lambda: search.is_nearer_rest(guess, other)):
        verdict = "worse"
    return verdict
