"""What people ask a run for. Each of these is a door upward: it opens when it is asked, so that a run that is only read
loads nothing of it."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from interp.errors import InputError

if TYPE_CHECKING:
    import xarray as xr
    from plotly.graph_objects import Figure

    from interp.analysis import AnalysesOfRun
    from interp.explanation import Explanation
    from interp.runs.run import Run


def folder_of(run: object) -> Path:
    """The folder of a run, which may be given by itself. Raises InputError for what is neither, a checkpoint or its
    weights say.

    >>> import interp
    >>> folder_of(interp.open_run(interp.reference_path())) == folder_of(str(interp.reference_path()))
    True
    >>> folder_of({"embed.W_E": 0})
    Traceback (most recent call last):
    interp.errors.InputError: a run or its folder is needed, not a dict: interp.open_run(FOLDER) opens one, ...
    """
    from interp.runs.run import Run  # it is made of what stands here

    if isinstance(run, Run):
        return run.path
    if isinstance(run, str | os.PathLike):
        return Path(run)
    raise InputError(
        f"a run or its folder is needed, not a {type(run).__name__}: interp.open_run(FOLDER) opens one, "
        "run.explain(STEP) explains one checkpoint of it, and interp.compare((run, STEP), run) compares two"
    )


def run_of(run: "Run | str | Path") -> "Run":
    """The run itself, or the one in the folder that is named. Raises InputError for what is neither.

    >>> import interp
    >>> run_of(str(interp.reference_path())).task.p
    43
    """
    from interp.runs.run import Run, open_run

    return run if isinstance(run, Run) else open_run(folder_of(run))


def where_instead(path: Path) -> str:
    """Where there is a run, for who asked for one where there is none: RUN@STEP is a word of compare alone."""
    folder, at, step = str(path).rpartition("@")
    if at and step.isdecimal() and Path(folder, "run.json").is_file():
        return (
            f"of the run {folder} it is open_run({folder!r})[{step}], on the command line --step {step}, and in "
            f"compare {folder}@{step}"
        )
    return "`interp list` shows those under a folder"


class Asked:
    """The verbs of a run, of the same names as those of `interp`."""

    def result(self, analysis: str) -> "xr.Dataset":
        """The result of an analysis, computed if it is missing or stale.

        >>> import interp
        >>> norms = interp.open_run(interp.reference_path()).result("weight_norms")
        >>> norms.sizes["step"], bool(norms.total_l2[-1] < norms.total_l2.max())  # cleanup lowers the norm
        (53, True)
        """
        from interp.analysis import analyze

        return analyze(self, [analysis])[analysis]  # pyright: ignore[reportArgumentType] # Run is the only one

    @property
    def results(self) -> "AnalysesOfRun":
        """The results of the analyses of this run, by name: `run.results.weight_norms`, or
        `run.results["weight_norms"]`. Each is computed when it is asked for, and kept with the run.

        >>> import interp
        >>> results = interp.open_run(interp.reference_path()).results
        >>> "weight_norms" in dir(results), results.weight_norms.sizes["step"]
        (True, 53)
        """
        from interp.analysis import analyses_of

        return analyses_of(self)  # pyright: ignore[reportArgumentType]

    def analyses(self) -> "AnalysesOfRun":
        """The analyses that can be asked about this run: with their questions and parameters, and whether their results
        are there. `help(run.analyses())` tells the same.

        >>> import interp
        >>> analyses = interp.open_run(interp.reference_path()).analyses()
        >>> "transitions" in analyses, "operations" in analyses  # that is of several operations in one network
        (True, False)
        """
        from interp.analysis import analyses_of

        return analyses_of(self)  # pyright: ignore[reportArgumentType]

    def explain(self, step: int | None = None) -> "Explanation":
        """What happened in this run, and by which circuit, with the evidence for and against (`interp.explain`).

        >>> import interp
        >>> interp.open_run(interp.reference_path()).explain().headline.partition(":")[0]
        'It grokked'
        """
        from interp.explanation import explain

        return explain(self, step)  # pyright: ignore[reportArgumentType]

    def report(self, names: str | Iterable[str] = (), output: str | Path | None = None) -> Path:
        """Write the page about this run, and return its file (`interp.report`).

        >>> import interp
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     page = interp.open_run(interp.reference_path()).report(output=f"{folder}/page.html")
        ...     page.name, page.stat().st_size < 8_000_000
        ('page.html', True)
        """
        from interp.pages import report

        return report(self, names, output)  # pyright: ignore[reportArgumentType]

    def plot(self, name: str, output: str | Path | None = None) -> "Figure":
        """The figure of an analysis of this run, as a plotly figure; written to `output` too, where that is given
        (`interp.plot`).

        >>> import interp
        >>> len(interp.open_run(interp.reference_path()).plot("weight_norms").data) > 1
        True
        """
        from interp.pages import plot

        return plot(self, name, output)  # pyright: ignore[reportArgumentType]
