"""Would other constants tell verdicts better? Those of `interp.mathematics.grokking` and `crossings`, one at a time, on
the runs of `interp experiment verdicts` with even seeds.

    python -m benchmarks.verdict_constants FOLDER

For each value: how many of the verdicts given are true, and how many are unknown, of the runs that are not borderline.
The value in use is marked. DELAY_FACTOR is no constant to be found but the definition, which the truth shares.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import xarray as xr

from interp.mathematics import crossings, grokking
from interp.runs import open_run
from interp.studies import verdicts
from interp.studies.outcomes import events_of
from interp.studies.verdict_scores import clear, scores

VALUES = {
    (grokking, "LEVEL"): (0.95, 0.97, 0.98, 0.99, 0.995),
    (grokking, "MOST_MISSED"): (0, 1, 2, 3, 5),
    (grokking, "LOST_LOSS"): (0.0, 0.3, math.log(2), 1.0, 2.0),
    (grokking, "LOST_ACCURACY"): (0.3, 0.4, 0.5, 0.6, 0.7),
    (grokking, "LOST_POINTS"): (1, 2, 3, 5, 8),
    (crossings, "WINDOW_FACTOR"): (1.0, 1.25, 1.5, 2.0, 3.0),
    (crossings, "WINDOW_POINTS"): (1, 2, 3, 5, 8, 12),
    (crossings, "POINTS_TO_A_MISS"): (3, 4, 5, 10, 20, 1000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder of the experiment")
    folder = parser.parse_args().folder
    runs = {path.parent.name: open_run(path.parent) for path in sorted((folder / "runs").glob("*/run.json"))}
    of_all = verdicts.measure({name: run for name, run in runs.items() if run.is_complete}, verdicts.DESIGN)
    result = clear(of_all, judging=False)
    chosen = [runs[name] for name in result.folder.values]
    print("| constant | value | true, of those given | unknown |\n|---|---|---|---|")
    for (module, name), values in VALUES.items():
        used = getattr(module, name)
        for value in values:
            setattr(module, name, value)
            print(row(name, value, value == used, told(result, [events_of(run).verdict for run in chosen])))
        setattr(module, name, used)


def told(result: xr.Dataset, said: list[str]) -> xr.Dataset:
    """The result, had these verdicts been given."""
    return result.assign(said=("run", np.array(said)))


def row(name: str, value: float, is_used: bool, result: xr.Dataset) -> str:
    """A line of the table."""
    right, unknown = (scores(result)[key] for key in ("right", "unknown"))
    true, not_told = (round(one["share"] * one["of"]) for one in (right, unknown))
    mark = " (in use)" if is_used else ""
    return f"| {name} | {value:.3g}{mark} | {true} of {right['of']} | {not_told} of {unknown['of']} |"


if __name__ == "__main__":
    main()
