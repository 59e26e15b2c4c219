"""One HTML page about a comparison: what was set differently, what differs most, sliders over the checkpoints of all
sides, and figures side by side. It needs no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from interp.explanation import HOW, Comparison, Side, tables
from interp.figures import NEUTRAL
from interp.pages.comparison_figures import SIDE_COLORS, colors_of_frequencies, figures
from interp.pages.fitting import without_title
from interp.pages.frame import in_script, rendered
from interp.pages.frames import Progress
from interp.pages.page import explorer_data
from interp.runs import Run

MOST_EXPLORERS = 3  # beside each other; more would be too narrow to read
CAPTIONS = {
    "curves": "Dashed: the checkpoints compared here.",
    "losses": "Restricted and excluded loss, with the key frequencies of each run (of its last circuit).",
    "circuits": "The mean logit of the label, split into a generalizing and a memorizing part; and the weights "
    "split likewise.",
    "spectra": "In color the key frequencies of the checkpoint itself; a frequency has one color on all sides.",
    "neurons": "Every column is a neuron: the share of its variance that each frequency explains.",
    "norms": "Key frequencies are those of the last checkpoint of each run.",
    "ranks": "An effective rank is the exponential of an entropy of singular values.",
}
Results = Mapping[str, xr.Dataset]


def explored(comparison: Comparison) -> tuple[Side, ...]:
    """The sides that a page can give sliders: the first three."""
    return comparison.sides[:MOST_EXPLORERS]


def render_comparison(
    comparison: Comparison, results: Mapping[Path, Results] | None = None, *, progress: Progress = lambda steps: steps
) -> str:
    """The page. With `results`, those of the analyses by path of the run, for every run of the `explored` sides, it has
    sliders over all checkpoints. What comes from runs is escaped, wherever it appears. `progress` wraps the steps whose
    checkpoints are walked over."""
    story, configured, ranked, *groups = tables(comparison)
    drawn = figures(comparison)
    headings = {name: without_title(figure) for name, figure in drawn.items()}
    highest = max((row.difference or 0 for row in comparison.ranking), default=0)
    runs = list(dict.fromkeys(side.run.path.resolve().name for side in comparison.sides))
    blocks = _blocks(explored(comparison), results, progress) if results is not None else {}
    return rendered(
        "comparison.html",
        drawn,
        styles=["sheet", "comparison"],
        title=" and ".join(runs) + ": " + " beside ".join(side.label for side in comparison.sides),
        runs=runs,
        sides=list(zip(comparison.sides, SIDE_COLORS, strict=False)),
        story=story,
        configured=configured,
        ranked=ranked,
        widths=[round(100 * (row.difference or 0) / highest, 1) for row in comparison.ranking],
        groups=groups,
        how=HOW,
        left_out=comparison.left_out,
        sections=[
            {"name": name, "heading": headings[name], "caption": CAPTIONS[name], "height": drawn[name].layout.height}
            for name in drawn
        ],
        explorers=_explorers(explored(comparison), list(blocks)) if blocks else [],
        blocks={name: in_script(data) for name, data in blocks.items()},
    )


def _blocks(sides: tuple[Side, ...], results: Mapping[Path, Results], progress: Progress) -> dict[str, dict[str, Any]]:
    """The data of every run, once, in the order of the sides; a frequency that is key anywhere has one color
    everywhere."""
    blocks = {path: explorer_data(run, results[path], progress) for path, run in _runs(sides).items()}
    keys = {k for side in sides for k in side.key_frequencies} | {k for data in blocks.values() for k in data["key"]}
    colors = colors_of_frequencies(keys)
    for data in blocks.values():
        data["colors"] = {k: colors.get(int(k), NEUTRAL) for k in data["colors"]}
    return {f"run-{place}": data for place, data in enumerate(blocks.values())}


def _explorers(sides: tuple[Side, ...], names: list[str]) -> list[dict[str, Any]]:
    name_of = dict(zip(_runs(sides), names, strict=True))
    runs = [side.run.path.resolve().name for side in sides]
    # Where a side began is no name for it once its slider has moved.
    apart = len(set(runs)) == len(sides)
    labels = runs if apart else [f"{letter}, from {side.label} on" for letter, side in zip("ABC", sides, strict=False)]
    return [
        {"label": label, "color": color, "step": side.step, "data": name_of[side.run.path.resolve()]}
        for side, label, color in zip(sides, labels, SIDE_COLORS, strict=False)
    ]


def _runs(sides: tuple[Side, ...]) -> dict[Path, Run]:
    """The runs by resolved path, each once, in the order of the sides."""
    return {side.run.path.resolve(): side.run for side in sides}
