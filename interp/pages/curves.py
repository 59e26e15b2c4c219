"""One HTML page about recorded curves: the verdict, the curves over one axis with what became of them, every fall, what
was read from which column, and the method. It needs no network."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from interp import __version__
from interp.analysis import find
from interp.explanation import Curves
from interp.figures import as_accuracy, as_count, as_percent, as_step
from interp.mathematics import grokking
from interp.pages.fitting import say_what_is_unknown, without_title
from interp.pages.frame import in_script, rendered
from interp.pages.headline import headline
from interp.pages.story import method, unbroken

MOST_DRAWN, MOST_EPISODES = 4000, 100


def render_curves(curves: Curves) -> str:
    """The page. What comes from the file is escaped, wherever it appears. Drawn are at most 4,000 of the logged steps,
    with the extremes between them; everything that is said is told from all."""
    recorded, module = curves.recorded, find("transitions").module
    drawn = curves.transitions.isel(step=_drawn(curves))
    of_curves = headline({"transitions": drawn}) | {"phases": list(curves.stages), "unit": recorded.unit}
    figure = module.plot(drawn)
    figure.update_xaxes(title_text=f"{recorded.unit} as logged")
    figure.update_yaxes(title_text="loss", row=1, col=1)  # in what, only who recorded it knows
    for row in of_curves["rows"]:
        row["title"] = {"Loss (nats)": "Loss", "L2 norm of all weights": "Norm of the weights"}.get(
            row["title"], row["title"]
        )
    say_what_is_unknown(figure)
    figure.for_each_annotation(lambda words: words.update(text="not recorded"), selector={"text": "not known"})
    without_title(figure)
    return rendered(
        "curves.html",
        {"transitions": figure},
        styles=["sheet"],
        title=f"{recorded.source}: {curves.headline.lower()}",
        source=recorded.source,
        heading=unbroken(curves.headline),
        story=curves,
        paragraphs=[unbroken(paragraph) for paragraph in curves.paragraphs],
        headline=in_script(of_curves),
        shown=len(drawn.step),
        logged=len(recorded.steps),
        unit=recorded.unit,
        height=int(figure.layout.height or 450),
        episodes=list(_episodes(curves)),
        n_episodes=len(curves.episodes),
        level=as_percent(grokking.LEVEL, 0),
        columns=list(_columns(curves)),
        notes=recorded.notes,
        method=[block for one in (grokking, module) for block in method((one.__doc__ or "").partition("\n\n")[2])],
        reference=module.REFERENCE,
        provenance=[("file", recorded.source), ("page by", f"interp {__version__}")],
    )


def _drawn(curves: Curves) -> np.ndarray:
    """Which logged steps are drawn: all, or so many evenly and on a logarithmic scale, with the highest and lowest
    value of each curve in between, so that no spike is lost."""
    n = len(curves.recorded.steps)
    if n <= MOST_DRAWN:
        return np.arange(n)
    few = MOST_DRAWN // 8
    places = [np.linspace(0, n - 1, few).astype(int), np.geomspace(1, n, few).astype(int) - 1]
    edges = np.linspace(0, n, MOST_DRAWN // 20 + 1).astype(int)
    for values in curves.recorded.values.values():
        for start, end in pairwise(edges):
            known = start + np.flatnonzero(np.isfinite(values[start:end]))
            if len(known):
                places.append(known[[int(values[known].argmin()), int(values[known].argmax())]])
    return np.unique(np.concatenate(places))


def _episodes(curves: Curves) -> Iterator[list[str]]:
    """The falls, in the order of their steps; the deepest where there are too many to show."""
    deepest = sorted(
        curves.episodes, key=lambda fall: fall["lowest_accuracy"] if fall["lowest_accuracy"] is not None else 1.0
    )[:MOST_EPISODES]
    for fall in sorted(deepest, key=lambda fall: fall["step"]):
        recovered = as_step(fall["recovered_at"]) if fall["recovered_at"] is not None else "not by the end"
        yield [fall["split"], as_step(fall["step"]), as_accuracy(fall["lowest_accuracy"]), recovered]


def _columns(curves: Curves) -> Iterator[list[str]]:
    recorded = curves.recorded
    for name, column in recorded.columns.items():
        known = recorded.value(name)[np.isfinite(recorded.value(name))]
        if len(known):
            shown = [
                as_accuracy(float(end)) if name.endswith("accuracy") else f"{end:.4g}"
                for end in (known[0], known.min(), known.max(), known[-1])
            ]
            yield [name.replace("_", " "), column, as_count(len(known), "value"), *shown]
