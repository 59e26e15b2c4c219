"""From results to a verdict and a short text. Every sentence follows from a stored result; what is unknown is said to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Grokking is a delay: at least this many times the steps of memorizing, and this many logging intervals (DESIGN: words).
DELAY_FACTOR = 3
DELAY_INTERVALS = 3

VERDICTS = {
    "grokking": "It grokked",
    "comprehension": "It generalized while it learned",
    "memorization": "It memorized and did not generalize",
    "confusion": "It learned neither the training pairs nor the rule",
    "collapse": "It generalized and lost it again",
    "unknown": "What happened cannot be told",
}


@dataclass(frozen=True)
class Fact:
    """One measured value of the story: what, how much, and where it comes from."""

    label: str
    value: str
    analysis: str


@dataclass(frozen=True)
class Story:
    """A verdict for a run, the facts behind it, and a paragraph that a person would read aloud."""

    verdict: str
    headline: str
    facts: tuple[Fact, ...]
    paragraph: str


def verdict(curves: Mapping[str, Any]) -> str:
    """The verdict for a run from the summary of `learning_curves`, on all test pairs (after Liu et al. 2022, arXiv:2205.10343).

    grokking: test accuracy stays at 99 % from a step on that is at least three times that of memorization, and three logging intervals
    later; comprehension: sooner than that; collapse: it was at 99 % and is no longer; memorization: train only; confusion: neither;
    unknown: no accuracies.
    """
    if curves["final_train_accuracy"] is None or curves["final_test_accuracy"] is None:
        return "unknown"
    memorized, generalized = curves["memorized_at"], curves["generalized_at_sustained"]
    if generalized is None and curves["generalized_at"] is not None:
        return "collapse"
    if generalized is None:
        return "confusion" if memorized is None else "memorization"
    if memorized is None:
        return "comprehension"
    delay_needed = DELAY_INTERVALS * (curves["logging_interval"] or 0)
    is_delayed = generalized >= DELAY_FACTOR * memorized and generalized - memorized >= delay_needed
    return "grokking" if is_delayed else "comprehension"


def tell(summaries: Mapping[str, Mapping[str, Any]]) -> Story:
    """The story of a run, from the summaries of `learning_curves`, `embedding_spectrum`, `neuron_periodicity` and `weight_norms`."""
    curves, spectrum = summaries["learning_curves"], summaries["embedding_spectrum"]
    neurons, norms = summaries["neuron_periodicity"], summaries["weight_norms"]
    kind = verdict(curves)
    key = spectrum["key_frequencies"]
    shares = ", ".join(f"{k} ({share:.0%})" for k, share in spectrum["logit_shares"].items())
    facts = (
        Fact("memorized at step", _step(curves["memorized_at"]), "learning_curves"),
        Fact("generalized at step", _step(curves["generalized_at_sustained"]), "learning_curves"),
        Fact("key frequencies", ", ".join(map(str, key)) or "none", "embedding_spectrum"),
        Fact("periodic neurons", f"{neurons['periodic_neurons']} of {neurons['neurons']}", "neuron_periodicity"),
        Fact("final test loss", _number(curves["final_test_loss"]), "learning_curves"),
        Fact("weight norm", f"{norms['first_l2']:.1f} → {norms['highest_l2']:.1f} → {norms['last_l2']:.1f}", "weight_norms"),
    )
    sentences = [_when(kind, curves)]
    if curves["unmirrored_generalized_at"] is not None and curves["generalized_at"] is not None:
        sentences.append(f"On test pairs whose mirror it never saw it first reached 99 % at step {curves['unmirrored_generalized_at']:,}.")
    if key:
        verb = "is 1 key frequency" if len(key) == 1 else f"are {len(key)} key frequencies"
        sentences.append(
            f"At step {spectrum['step']:,} there {verb}, k = {shares} by share of logit power, and {neurons['periodic_neurons']} of "
            f"{neurons['neurons']} neurons follow a single frequency (at least 85 % of their variance)."
        )
    else:
        sentences.append(f"At step {spectrum['step']:,} no frequency is key: no generalizing circuit is found.")
    if spectrum["only_by_neurons"]:
        also = ", ".join(map(str, spectrum["only_by_neurons"][:8])) + (" …" if len(spectrum["only_by_neurons"]) > 8 else "")
        sentences.append(f"The rule that counts every neuron's strongest frequency would also name {also}; the logits do not carry these.")
    sentences.append(
        f"The norm of all weights began at {norms['first_l2']:.1f}, was highest ({norms['highest_l2']:.1f}) at step "
        f"{norms['highest_l2_at']:,} and ended at {norms['last_l2']:.1f}."
    )
    return Story(kind, VERDICTS[kind], facts, " ".join(sentences))


def _when(kind: str, curves: Mapping[str, Any]) -> str:
    memorized, generalized, last = curves["memorized_at"], curves["generalized_at_sustained"], curves["last_step"]
    resolution = f" (logged every {curves['logging_interval']} steps there)" if curves["logging_interval"] else ""
    if kind == "unknown":
        return "Without a known split, train and test cannot be told apart, so neither can memorizing and generalizing."
    if kind == "grokking":
        return (
            f"The network knew 99 % of its training pairs at step {memorized:,} and 99 % of the test pairs only at step {generalized:,}"
            f"{resolution}, {generalized / max(memorized, 1):.1f} times as many steps; it never fell below "
            f"{curves['lowest_test_accuracy_since']:.1%} again."
        )
    if kind == "comprehension":
        before = f"at step {memorized:,}" if memorized is not None else "never"
        return f"It reached 99 % on the training pairs {before}, on the test pairs at step {generalized:,}{resolution}: too close for grokking."
    if kind == "collapse":
        return (
            f"Test accuracy first reached 99 % at step {curves['generalized_at']:,}{resolution}, but at step {last:,} it is "
            f"{curves['final_test_accuracy']:.1%}."
        )
    if kind == "memorization":
        return f"It knew 99 % of its training pairs at step {memorized:,}; at step {last:,} its test accuracy is {curves['final_test_accuracy']:.1%}."
    return (
        f"At step {last:,} its accuracy is {curves['final_train_accuracy']:.1%} on the training pairs and "
        f"{curves['final_test_accuracy']:.1%} on the test pairs."
    )


def _step(step: int | None) -> str:
    return f"{step:,}" if step is not None else "not seen"


def _number(value: float | None) -> str:
    return f"{value:.2g}" if value is not None else "unknown"
