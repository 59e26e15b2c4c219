"""The commands that analyze, explain and draw."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from interp.cli.commands.arguments import Output, Positional, RunPath


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
        from interp.analysis import analyze, find, write_tables
        from interp.cli.progress import walk
        from interp.figures import readable
        from interp.runs import open_run

        results = analyze(open_run(self.path), self.names, progress=walk, parallel=True)
        summaries = {name: find(name).summary(result) for name, result in results.items()}
        if self.csv is not None:
            write_tables(results, self.csv)
        if self.json:
            print(json.dumps(summaries, indent=2, allow_nan=False))
            return 0
        for name, summary in summaries.items():
            print(f"{name}: {find(name).title}")
            for key, value in summary.items():
                print(f"  {key.replace('_', ' ')}: {readable(value)}")
        return 0


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
        from interp.runs import open_run

        explanation = explain(open_run(self.path), self.step, progress=walk, parallel=True)
        if self.json:
            print(json.dumps(explanation.numbers, indent=2, allow_nan=False))
        else:
            print(explanation.long if self.long else explanation)
        return 0


@dataclass(frozen=True)
class Plot:
    """The figure of one analysis, with the phases shaded behind every panel over steps."""

    path: RunPath
    """The folder of the run."""
    name: Annotated[Positional[str], tyro.conf.arg(metavar="NAME")]
    """The analysis (`interp analyses`)."""
    output: Output = None
    """The file to write; its ending says what: .html, .png, .svg, .pdf or .json. By default NAME.html."""

    def run(self) -> int:
        from interp.analysis import analyze, find
        from interp.cli.progress import walk
        from interp.figures import check_ending, shade_phases, write_figure
        from interp.pages import phases
        from interp.runs import open_run

        analysis = find(self.name)
        output = self.output or Path(f"{self.name}.html")
        check_ending(output)
        run = open_run(self.path)
        shaded = ["transitions"] if find("transitions").is_for(run.task, run.model) else []
        results = analyze(run, [self.name, *shaded], progress=walk, parallel=True)
        figure = analysis.module.plot(results[self.name])
        shade_phases(figure, phases(results) if shaded else [], named=True)
        write_figure(figure, output)
        print(output)
        return 0


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
        from interp.analysis import analyze, discover, stored_result
        from interp.cli.progress import walk
        from interp.errors import InputError
        from interp.machine import write_atomically
        from interp.pages import is_experiment, render, render_experiment
        from interp.runs import open_run

        output = self.output or self.path / "report.html"
        if is_experiment(self.path):
            if self.names:
                raise InputError(f"{self.path} is an experiment; its page takes no names of analyses")
            page = render_experiment(self.path)
        else:
            run = open_run(self.path)
            results = analyze(run, ["core", *self.names], progress=walk, parallel=True)
            others = {name: stored_result(run, name) for name in discover() if name not in results}
            results |= {name: result for name, result in others.items() if result is not None}
            page = render(run, results, progress=walk)
        write_atomically(output, page.encode())
        print(output)
        return 0


@dataclass(frozen=True)
class Analyses:
    """The analyses there are, by group."""

    def run(self) -> int:
        from itertools import groupby

        from interp.analysis import discover

        in_order = sorted(discover().values(), key=lambda analysis: analysis.reading_place)
        for group, analyses in groupby(in_order, key=lambda analysis: analysis.group):
            print(group)
            for analysis in analyses:
                line = f"  {'*' if analysis.core else ' '} {analysis.name:<22}{analysis.title}"
                line += " (not among all)" if analysis.on_request else ""
                print(line if "network" in analysis.reads else f"{line} {_of_modules(analysis.reads)}")
        print("* the core, which runs where nothing is named; the rest by name, by group, or all")
        print("[modules too]: can also be asked about what was recorded of anybody's module")
        return 0


def _of_modules(reads: tuple[str, ...]) -> str:
    """That an analysis can also be asked about recorded modules, and what it then takes."""
    return f"[modules too, with {' and '.join(reads)}]" if reads else "[modules too]"
