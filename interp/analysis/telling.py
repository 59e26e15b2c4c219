"""Results as they are told: what `interp analyze` prints. Light, so that what was told of a run that did not change is
told again at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.analysis.answers import Answers
from interp.runs import Run, folder_of, open_run

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Told:
    """The result of one analysis as it is told: its title, its summary in JSON values, and the lines for a person.

    >>> Told("Weight norms. Which weights grow?", {"last_l2": 3.0}, ("last l2: 3",)).summary["last_l2"]
    3.0
    """

    title: str
    summary: Mapping[str, Any]
    lines: tuple[str, ...]


def tell(
    run: Run | str | Path,
    names: Iterable[str] = ("core",),
    *,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    parallel: bool = False,
) -> dict[str, Told]:
    """What the analyses tell of a run, by name: those that `interp.analysis.analyze` takes, which raises what it
    raises. It is kept with the run: of one that did not change no result is read.

    >>> import interp
    >>> told = tell(interp.reference_path(), ["weight_norms"])["weight_norms"]
    >>> told.summary["last_l2"] < told.summary["highest_l2"]  # cleanup lowers the norm
    True
    """
    names = [names] if isinstance(names, str) else list(names)
    asked = {} if names == ["core"] else {"names": names}
    folder = folder_of(run)
    answers = Answers(folder)
    if (kept := answers.find("analyze", asked)) is not None:
        return {name: Told(one["title"], one["summary"], tuple(one["lines"])) for name, one in kept.items()}
    from interp.analysis.walk import analyze

    told = told_of(analyze(open_run(folder), names, progress=progress, parallel=parallel))
    answers.keep("analyze", asked, {name: asdict(one) for name, one in told.items()})
    return told


def told_of(results: "Mapping[str, xr.Dataset]") -> dict[str, Told]:
    """What results tell, by the names of their analyses.

    >>> told_of({})
    {}
    """
    from interp.analysis.contract import find

    return {
        name: Told(find(name).title, find(name).summary(result), tuple(find(name).lines(result)))
        for name, result in results.items()
    }
