"""The words of the page: sentences whose numbers lead to what shows them, findings beside chance, and methods from
docstrings."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import xarray as xr
from markupsafe import Markup

from interp.figures import as_percent
from interp.pages.frame import as_text

# Which figure shows a number, by the words around it: the first that stands in its clause.
_SHOWN_BY = (
    (r"operations|table is random|most frequent answer", "operations"),
    (
        r"memory down|in balance|memory more|memory less|pushed up|gives memory|stand out|gave the circuit",
        "circuit_forces",
    ),
    (
        r"stood out|to the power|the forces themselves|nothing wears|took it down|gave only|answers the",
        "circuit_forces",
    ),
    (r"right answer of a training pair|gives it|the stronger", "circuit_split"),
    (r"in the embedding|in the neurons|random others", "frequency_ablation"),
    (r"distance irrelevance|gradient symmetricity|a clock|a pizza|circle", "clock_pizza"),
    (r"memorization until|circuit formation until|cleanup until|fixed gap", "transitions"),
    (r"mirror|held out|steps later|times as many", "learning_curves"),
    (r"training pairs|test pairs|held-out pairs and|of the held-out pairs|accuracy", "learning_curves"),
    (r"beyond chance|in 1 of 100 networks|without any one of them|answered from other", "frequency_evidence"),
    (r"alone the loss|without it|without them|without the|as the network stands|loss", "progress_measures"),
    (r"\bneurons?\b", "neuron_periodicity"),
    (r"squared norm lies|norm of all weights|highest|and is ", "weight_norms"),
    (r"frequenc|share of their power|k = ", "embedding_spectrum"),
)
_BETWEEN_CLAUSES = r"((?<=[.;:])\s+|,\s+|\s+and\s+|\s+\()"  # kept, as a clause of its own
_STEP = r"\bstep [\d,]*\d"
_NUMBER = r"[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?: ?%)?"


def unbroken(text: str) -> str:
    """With no line break within "99 %" and "k = 12"."""
    return re.sub(r"(?<=\d) (?=%)", "\xa0", re.sub(r"\bk = (?=[\d<])", "k\xa0=\xa0", text))


def linked(sentence: str, names: Mapping[str, Any]) -> Markup:
    """A paragraph of the explanation as HTML: steps lead to that checkpoint, other numbers to the figure of an analysis
    in `names`."""
    result, analysis = Markup(""), None
    for clause in re.split(_BETWEEN_CLAUSES, as_text(sentence)):
        analysis = next(
            (name for words, name in _SHOWN_BY if re.search(words, clause, re.IGNORECASE) and name in names), analysis
        )
        position = 0
        for match in re.finditer(f"({_STEP})|{_NUMBER}", clause):
            result += clause[position : match.start()]
            position = match.end()
            target = "#step=" + re.sub(r"\D", "", match[0]) if match[1] else f"#{analysis}"
            known = match[1] or analysis
            result += Markup('<a href="{}">{}</a>').format(target, match[0]) if known else match[0]
        result += clause[position:]
    return Markup(unbroken(result))


class Control(NamedTuple):
    """A finding beside what chance gives."""

    finding: str
    found: str
    chance: str
    how: str
    analysis: str


def controls(results: Mapping[str, xr.Dataset], of_last_layer: str = "") -> Iterator[Control]:
    """The findings of the last checkpoint that have a negative control, beside it; without neurons none of theirs.
    `of_last_layer` says whose the neurons are, where there are others."""
    if "calibration" not in results:
        yield from _beyond_chance(results["frequency_evidence"].isel(step=-1))
        return
    calibration, periodicity = results["calibration"].isel(step=-1), results["neuron_periodicity"].isel(step=-1)
    evidence = results["frequency_evidence"].isel(step=-1)
    neurons, rate = int(calibration.attrs["neurons"]), float(calibration.attrs["rate"])
    of_rate = as_percent(rate, 0)
    of_all = f" over those{of_last_layer}" if of_last_layer else ""
    above, fixed = (int(count) for count in calibration.periodic_neurons.values)
    median = float(periodicity.fraction_explained.median())
    yield Control(
        f"Fraction of a neuron’s variance that one frequency explains, median{of_all}",
        _percent(median),
        _percent(float(calibration.calibrated_threshold)),
        f"reached by {of_rate} of neurons when the residues are renamed at random",
        "calibration",
    )
    if math.isfinite(float(calibration.random_network_threshold)):
        yield Control(
            "The same, beside networks that were never trained",
            _percent(median),
            _percent(float(calibration.random_network_threshold)),
            f"reached by {of_rate} of the neurons of untrained networks of this shape",
            "calibration",
        )
    yield Control(
        f"Neurons{of_last_layer} above chance (from {calibration.attrs['threshold']:g} on: {fixed})",
        f"{above} of {neurons}",
        f"about {rate * neurons:.0f}",
        f"{of_rate} of all neurons, by the definition of the threshold",
        "calibration",
    )
    yield from _beyond_chance(evidence)
    start = results["neuron_periodicity"].isel(step=0)
    if int(start.step) == 0 and results["neuron_periodicity"].sizes["step"] > 1:
        yield Control(
            f"Periodic neurons{of_last_layer}",
            f"{int(periodicity.periodic_neurons.sum())} of {neurons}",
            f"{int(start.periodic_neurons.sum())} of {neurons}",
            "this network at step 0, before any training",
            "neuron_periodicity",
        )


def _beyond_chance(evidence: xr.Dataset) -> Iterator[Control]:
    if evidence.attrs["judged_by"] == "held-out pairs":  # to all pairs what was memorized is no chance
        yield Control(
            "Frequency furthest beyond chance, in standard deviations",
            f"{float(evidence.deviations.max()):.1f}",
            f"{float(evidence.attrs['limit']):.1f}",
            "reached by 1 % of networks whose logits know nothing of the sum",
            "frequency_evidence",
        )


def _percent(value: float) -> str:
    return as_percent(value if math.isfinite(value) else None)


class Block(NamedTuple):
    """A paragraph of a docstring: text, or a formula, whose line breaks count."""

    text: str
    is_formula: bool


def method(docstring: str) -> list[Block]:
    """A docstring as paragraphs and formulas; a formula is indented."""
    blocks = []
    for part in re.split(r"\n\s*\n", docstring.strip("\n")):
        lines = part.splitlines()
        runs: list[tuple[bool, list[str]]] = []
        for line in lines:
            is_formula = line.startswith("    ")
            if not runs or runs[-1][0] != is_formula:
                runs.append((is_formula, []))
            runs[-1][1].append(line)
        for is_formula, some in runs:
            text = (
                "\n".join(line.removeprefix("    ") for line in some)
                if is_formula
                else " ".join(line.strip() for line in some)
            )
            blocks.append(Block(text, is_formula))
    return blocks
