"""The analyses of one run, as a notebook asks for them: names that complete, questions that `help` tells, results that
are computed when they are wanted."""

from collections.abc import Iterator, Mapping
from typing import Any

import xarray as xr
from markupsafe import Markup

from interp.analysis.contract import Analysis, discover, find
from interp.analysis.places import result_path
from interp.analysis.walk import analyze
from interp.errors import unknown_name
from interp.printable import MOST_OF_A_TEXT, one_line
from interp.runs import Run, is_observed


class AnalysesOfRun(Mapping[str, xr.Dataset]):
    """The analyses that can be asked about a run, in reading order. Each is a name of this: `analyses.weight_norms` or
    `analyses["weight_norms"]` is its result, computed unless it is kept with the run.

    >>> import interp
    >>> analyses = interp.open_run(interp.reference_path()).analyses()
    >>> analyses.weight_norms.identical(analyses["weight_norms"])
    True
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, name: str) -> xr.Dataset:
        return analyze(self._run, find(name))[name]  # one that is not for this run says why

    def __contains__(self, name: object) -> bool:
        return name in _asked_about(self._run)

    def __iter__(self) -> Iterator[str]:
        return iter(_asked_about(self._run))

    def __len__(self) -> int:
        return len(_asked_about(self._run))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(str(unknown_name("analysis", name, _asked_about(self._run))))

    def __repr__(self) -> str:
        rows = [self._row(analysis) for analysis in _asked_about(self._run).values()]
        width = max((len(name) for name, *_ in rows), default=0)
        lines = [f"{kept} {name:<{width}}  {question}" for name, kept, question, _ in rows]
        told = f"{len(rows)} analyses of {self._run.path} (✓ kept with the run): .NAME is the result, help() the rest"
        return "\n".join([one_line(told), *lines])

    def _repr_html_(self) -> str:
        row = Markup("<tr><td><code>{}</code></td><td>{}</td><td style='text-align:left'>{}</td><td>{}</td></tr>")
        rows = [self._row(analysis) for analysis in _asked_about(self._run).values()]
        head = Markup("<tr><th>analysis</th><th>kept</th><th>question</th><th>parameters</th></tr>")
        return str(Markup("<table>{}{}</table>").format(head, Markup("").join(row.format(*each) for each in rows)))

    def _row(self, analysis: Analysis) -> tuple[str, str, str, str]:
        kept = "✓" if result_path(self._run.path, self._run.hash, analysis.name).is_file() else " "
        return analysis.name, kept, _question(analysis), _parameters(analysis)


def analyses_of(run: Run) -> AnalysesOfRun:
    """The analyses that can be asked about a run. Its class has a property for each of them, which is what
    tab completion and `help` see.

    >>> import interp
    >>> analyses = analyses_of(interp.open_run(interp.reference_path()))
    >>> type(analyses).weight_norms.__doc__.splitlines()[0]
    'Which weights grow, which shrink, and do the key frequencies keep what the others lose?'
    >>> "operations" in analyses  # of several operations in one network
    False
    """
    known = _asked_about(run)
    doors = {name: property(_door(name), doc=_help(analysis)) for name, analysis in known.items()}
    return type("AnalysesOfRun", (AnalysesOfRun,), {"__doc__": AnalysesOfRun.__doc__, "__module__": __name__, **doors})(
        run
    )


def _asked_about(run: Run) -> dict[str, Analysis]:
    there = [one for one in discover().values() if one.is_for(run.task, run.model)]
    there = [one for one in there if not one.observes or is_observed(run)]
    return {analysis.name: analysis for analysis in sorted(there, key=lambda one: one.reading_place)}


def _door(name: str) -> Any:
    return lambda self: self[name]


def _question(analysis: Analysis) -> str:
    return one_line(analysis.title.partition(". ")[2] or analysis.title, MOST_OF_A_TEXT)


def _parameters(analysis: Analysis) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in analysis.parameters.items()) or "none"


def _help(analysis: Analysis) -> str:
    return f"{_question(analysis)}\n\nParameters: {_parameters(analysis)}\nAfter: {analysis.module.REFERENCE}"
