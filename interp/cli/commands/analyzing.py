"""The commands that analyze, explain and draw."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from interp.cli.commands.arguments import Output, Positional, RunPath
from interp.cli.output import MOST_OF_A_LIST, say, say_json, say_lines
from interp.errors import InputError, check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from plotly.graph_objects import Figure

    from interp.analysis import Told


@dataclass(frozen=True)
class Analyze:
    """Run analyses over all checkpoints of a run and print their summaries: without names those of the core, which its
    story needs."""

    path: RunPath
    """The folder of the run."""
    names: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME|GROUP|all ...]")] = ("core",)
    """Analyses, by name or by group (`interp analyses`), or all of them."""
    json: bool = False
    """Print one JSON object: analysis name → its summary."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also write the results as tables into this folder."""

    def run(self) -> int:
        from interp.analysis import tell
        from interp.cli.progress import walk

        if self.csv is not None:
            return self._with_tables(self.csv)
        try:
            self._print(tell(self.path, self.names, progress=walk, parallel=True))
        except InputError as error:
            if results := getattr(error, "results", {}):  # what could be computed is printed first
                self._print_results(results)
            raise
        return 0

    def _with_tables(self, folder: Path) -> int:
        from interp.analysis import PartlyAnalyzed, analyze, write_tables
        from interp.cli.progress import walk
        from interp.runs import open_run

        refused = None
        try:
            results = analyze(open_run(self.path), self.names, progress=walk, parallel=True)
        except PartlyAnalyzed as error:
            results, refused = error.results, error
            if not results:
                raise
        self._print_results(results)
        write_tables(results, folder)
        if refused is not None:
            raise refused
        return 0

    def _print_results(self, results: "Mapping[str, xr.Dataset]") -> None:
        from interp.analysis import told_of

        self._print(told_of(results))

    def _print(self, told: "Mapping[str, Told]") -> None:
        if self.json:
            say_json({name: one.summary for name, one in told.items()})
            return
        for name, one in told.items():
            say(f"{name}: {one.title}")
            for line in one.lines:
                say(f"  {line}", most=MOST_OF_A_LIST)


@dataclass(frozen=True)
class Explain:
    """What happened in a run, and by which circuit, with the evidence for and against."""

    path: RunPath
    """The folder of the run."""
    step: int | None = None
    """The checkpoint to explain; by default the last."""
    long: bool = False
    """Say all that there is to say, not only what matters most, in twelve lines."""
    json: bool = False
    """Print the numbers as one JSON object (docs/guide.md says what they are)."""

    def run(self) -> int:
        from interp.cli.progress import walk
        from interp.explanation import explain

        explanation = explain(self.path, self.step, progress=walk, parallel=True)
        if self.json:
            say_json(explanation.numbers)
        else:
            say_lines(explanation.long if self.long else explanation)
        return 0


@dataclass(frozen=True)
class Plot:
    """The figure of one analysis, with the phases shaded behind every panel over steps; or of a sweep: curves (medians
    of groups of runs, with quartiles) or phases (what happened over two axes)."""

    path: RunPath
    """The folder of the run, or of the sweep."""
    name: Annotated[Positional[str], tyro.conf.arg(metavar="NAME")]
    """The analysis (`interp analyses`); of a sweep curves or phases."""
    axes: tuple[str, ...] = ()
    """Of a sweep, one or two axes: colors and panels of curves, across and up of phases. By default the first two that
    are no seeds; what differs in the others is one group."""
    across: str | None = None
    """Of the phases of a sweep, the axis from left to right."""
    up: str | None = None
    """Of the phases of a sweep, the axis from bottom to top."""
    color: str | None = None
    """Of the phases of a sweep, the number that the second panel shows, such as weight-norm or generalized-at; by
    default the accuracy on unmirrored test pairs."""
    metric: str | None = None
    """What curves of a sweep show, such as test-loss; by default the accuracy on unmirrored test pairs."""
    output: Output = None
    """The file to write; its ending says what: .html, .png, .svg, .pdf or .json. By default NAME.html."""

    def run(self) -> int:
        from interp.cli.progress import walk
        from interp.figures import check_ending, write_figure
        from interp.pages import plot

        output = self.output or Path(f"{self.name}.html")
        check_ending(output)
        if (self.path / "sweep.json").exists():
            write_figure(self._of_sweep(), output)
            say(output)
            return 0
        of_phases = (self.across, self.up, self.color)
        if self.axes or (self.metric, *of_phases) != (None,) * 4 or self.name in ("curves", "phases"):
            raise InputError(
                "curves, phases, --axes, --across, --up, --color and --metric are for sweeps, and "
                f"{self.path} is none: it has no sweep.json"
            )
        plot(self.path, self.name, output, progress=walk, parallel=True)
        say(output)
        return 0

    def _of_sweep(self) -> "Figure":
        from interp.studies import collect, group_curves, sweep_phases

        check_choice("figure of a sweep", self.name, ("curves", "phases"))
        if self.name == "phases":
            if self.metric is not None:
                raise InputError("--metric is for curves; phases show what happened, and a number, which --color names")
            return sweep_phases(collect(self.path), self._phase_axes(), self.color)
        if (self.across, self.up, self.color) != (None, None, None):
            raise InputError("--across, --up and --color are for phases; curves have --axes and --metric")
        return group_curves(collect(self.path, curves=True), self.axes, self.metric)

    def _phase_axes(self) -> tuple[str, ...]:
        if self.across is None and self.up is None:
            return self.axes
        if self.across is None or self.up is None or self.axes:
            raise InputError("phases have two axes: give --across and --up, or both as --axes")
        return self.across, self.up


@dataclass(frozen=True)
class Report:
    """One self-contained HTML page about a run, or about an experiment; it opens without network or server. It shows
    the core of the analyses, what else was computed before, and what is named."""

    path: RunPath
    """The folder of the run, or of the experiment."""
    names: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME|GROUP|all ...]")] = ()
    """More analyses of the run, by name or by group (`interp analyses`), or all of them."""
    output: Output = None
    """The file to write; by default report.html in that folder."""

    def run(self) -> int:
        from interp.cli.progress import walk
        from interp.pages import report

        say(report(self.path, self.names, self.output, progress=walk, parallel=True))
        return 0


@dataclass(frozen=True)
class Analyses:
    """The analyses there are, by group."""

    def run(self) -> int:
        from itertools import groupby

        from interp.analysis import discover

        in_order = sorted(discover().values(), key=lambda analysis: analysis.reading_place)
        for group, analyses in groupby(in_order, key=lambda analysis: analysis.group):
            say(group)
            for analysis in analyses:
                line = f"  {'*' if analysis.core else ' '} {analysis.name:<22}{analysis.title}"
                line += " (not among all)" if analysis.on_request else ""
                line += " [of several operations in one network]" if analysis.asks == "operations" else ""
                line += f" [of runs trained with --observe {' '.join(analysis.observes)}]" if analysis.observes else ""
                say(line if "network" in analysis.reads else f"{line} {_of_modules(analysis.reads)}")
        say("* the core, which runs where nothing is named; the rest by name, by group, or all")
        say("[modules too]: can also be asked about what was recorded of anybody's module")
        return 0


def _of_modules(reads: tuple[str, ...]) -> str:
    """That an analysis can also be asked about recorded modules, and what it then takes."""
    return f"[modules too, with {' and '.join(reads)}]" if reads else "[modules too]"
