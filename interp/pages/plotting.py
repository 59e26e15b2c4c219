"""The verb `plot`: the figure of one analysis of a run."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from interp.analysis import analyze, find
from interp.figures import check_ending, shade_phases, write_figure
from interp.pages.headline import phases
from interp.runs import Run, run_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def plot(
    run: Run | str | Path,
    name: str,
    output: str | Path | None = None,
    *,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    parallel: bool = False,
) -> "Figure":
    """The figure of the analysis `name` of a run, with the phases shaded behind every panel over steps; written to
    `output` too (.html, .png, .svg, .pdf or .json), where that is given. Raises InputError for an analysis or an ending
    that there is not.

    >>> import interp
    >>> figure = plot(interp.reference_path(), "weight_norms")
    >>> bool(figure.layout.title.text), len(figure.data) > 1
    (True, True)
    """
    if output is not None:
        check_ending(Path(output))
    analysis, run = find(name), run_of(run)
    shaded = ["transitions"] if find("transitions").is_for(run.task, run.model) else []
    results = analyze(run, [name, *shaded], progress=progress, parallel=parallel)
    figure = analysis.module.plot(results[name])
    shade_phases(figure, phases(results) if shaded else [], named=True)
    if output is not None:
        write_figure(figure, Path(output))
    return figure
