"""The verb `report`: the page of a run, or of an experiment, written to a file. A page that is there, of a run that did
not change, is not made again."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from interp.analysis import Answers
from interp.errors import InputError
from interp.machine import write_atomically
from interp.runs import Run, folder_of, open_run

Progress = Callable[[Sequence[int]], Iterable[int]]


def report(
    run: Run | str | Path,
    names: str | Iterable[str] = (),
    output: str | Path | None = None,
    *,
    progress: Progress = lambda steps: steps,
    parallel: bool = False,
) -> Path:
    """Write one self-contained HTML page about a run, or about the experiment in a folder, and return the file: by
    default `report.html` in that folder. It shows the core of the analyses, what else was computed before, and the
    analyses `names`, by name or by group.

    Where the file is the page that was written last, and neither the run nor the results that are kept with it changed
    (`interp.analysis.answers`), nothing is done. Raises InputError for a name that is none, and for names where the
    folder is an experiment.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = report(interp.reference_path(), output=f"{folder}/page.html")
    ...     "<title>add modulo 43" in path.read_text()
    True
    """
    folder = folder_of(run)
    names = [names] if isinstance(names, str) else list(names)
    output = folder / "report.html" if output is None else Path(output)
    answers, asked = Answers(folder), {"names": names, "output": str(output)}
    told = answers.find("report", asked)
    if told is not None and told == {"page": _digest(output), "results": answers.results()}:
        return output
    page = _page(folder, names, progress, parallel).encode()
    write_atomically(output, page)
    answers.keep("report", asked, {"page": hashlib.sha256(page).hexdigest(), "results": answers.results()})
    return output


def _digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _page(folder: Path, names: list[str], progress: Progress, parallel: bool) -> str:
    from interp.analysis import analyze, discover, stored_result
    from interp.pages.page import render
    from interp.pages.study import is_experiment, render_experiment

    if is_experiment(folder):
        if names:
            raise InputError(f"{folder} is an experiment; its page takes no names of analyses")
        return render_experiment(folder)
    run = open_run(folder)  # anew: what was read before may be of another state than the page is kept for
    results = analyze(run, ["core", *names], progress=progress, parallel=parallel)
    others = {name: stored_result(run, name) for name in discover() if name not in results}
    results |= {name: result for name, result in others.items() if result is not None}
    return render(run, results, progress=progress)
