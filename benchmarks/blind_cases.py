"""Cases for a reader who has not seen a verdict: the curves of networks of `interp experiment verdicts`, in random
order and without their names.

    python -m benchmarks.blind_cases FOLDER OUT [--n 30]      draw them, from the runs in FOLDER
    python -m benchmarks.blind_cases FOLDER OUT --read        take OUT/answers.json, by the key, to FOLDER/blind.json

A case is drawn with equal chances from what `explain` said, so that no verdict is rare, and shows what was counted
after every step, to four times the budget. OUT/cases has the pictures and OUT/README.md what is asked; OUT/key.json
names the runs and is not for who reads. answers.json gives a verdict for every number: {"01": "grokking", …}.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from interp.errors import InputError
from interp.figures import NEUTRAL, TEST, TRAIN, new_panels, write_figure
from interp.machine import read_json
from interp.mathematics.grokking import VERDICTS
from interp.runs import Run, open_run
from interp.studies.outcomes import events_of
from interp.studies.verdicts import ANSWERS, counts_of

ASKED = """# What happened in these networks?

Each picture shows one network: the share of wrong answers after every single step of training, on the pairs that it
is trained on (blue) and on pairs that it was never shown (red). Left over steps, right over the logarithm of steps, to
read factors from. The dotted line is 1 %. Training was planned to the dashed line, the budget. What happened *within
the budget* is asked; what came after it helps to tell whether something lasted.

Give one word for each picture:

- **grokking**: it came to know the pairs never shown (at most about 1 % wrong, or two pairs, for most of the time
  that follows), at three times the step, or later, at which it had come to know its training pairs
- **comprehension**: it came to know the pairs never shown before three times that step (or without ever knowing its
  training pairs)
- **memorization**: it came to know its training pairs, and not the pairs never shown, within the budget
- **confusion**: it came to know neither within the budget
- **collapse**: it came to know the pairs never shown, and lost them again: at the budget more than half of them are
  wrong, and they do not come back

Write them to answers.json, beside this file, by the number of the picture: {"01": "grokking", "02": "memorization", …}.
Where you cannot tell write "unknown". Look at nothing but the pictures and this page.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder of the experiment")
    parser.add_argument("out", type=Path, help="where the cases lie")
    parser.add_argument("--n", type=int, default=30, help="how many")
    parser.add_argument("--read", action="store_true", help="take the answers to the experiment")
    options = parser.parse_args()
    if options.read:
        answers, key = read_json(options.out / "answers.json"), read_json(options.out / "key.json")
        found = {key[number]: answer for number, answer in answers.items()}
        (options.folder / ANSWERS).write_text(json.dumps(found, indent=2) + "\n")
    else:
        write_cases(options.folder, options.out, options.n)


def write_cases(folder: Path, out: Path, n: int, seed: int = 0) -> None:
    """Draw n cases and write them."""
    (out / "cases").mkdir(parents=True, exist_ok=True)
    runs = {path.parent.name: open_run(path.parent) for path in sorted((folder / "runs").glob("*/run.json"))}
    runs = {name: run for name, run in runs.items() if run.is_complete}
    said = {name: events_of(run).verdict for name, run in runs.items()}
    generator = np.random.RandomState(seed)
    left = {verdict: [name for name in runs if said[name] == verdict] for verdict in VERDICTS}
    drawn: list[str] = []
    if len(runs) < n:
        raise InputError(f"{folder} has {len(runs)} complete runs, and {n} cases are asked for")
    while len(drawn) < n:
        verdicts = [verdict for verdict, names in left.items() if names]
        names = left[verdicts[generator.randint(len(verdicts))]]
        drawn.append(names.pop(generator.randint(len(names))))
    generator.shuffle(drawn)
    for number, name in enumerate(drawn, start=1):
        write_figure(case(runs[name], f"Case {number:02d}"), out / "cases" / f"{number:02d}.png")
        print(f"{number}/{n}", flush=True)
    (out / "key.json").write_text(json.dumps({f"{i:02d}": name for i, name in enumerate(drawn, start=1)}, indent=2))
    (out / "README.md").write_text(ASKED)


def case(run: Run, title: str):
    """The wrong shares after every step."""
    training = run.training
    assert training is not None
    counted = counts_of(run)
    figure = new_panels(title, ("over steps", "over the logarithm of steps"), row_height=420, horizontal_spacing=0.1)
    step = counted.step.values
    for col in (1, 2):
        for split, color in (("never shown", TEST), ("trained", TRAIN)):
            share = counted.wrong.sel(split=split).values / counted.pairs.sel(split=split).item()
            name = f"{split} ({counted.pairs.sel(split=split).item()} pairs)"
            line = {"color": color, "width": 1.1}
            figure.add_scatter(
                x=step[col - 1 :], y=share[col - 1 :], name=name, line=line, showlegend=col == 1, row=1, col=col
            )
        figure.add_vline(x=training.steps, line={"color": "#222", "dash": "dash", "width": 1.2}, row=1, col=col)
        figure.add_hline(y=0.01, line={"color": NEUTRAL, "dash": "dot", "width": 1}, row=1, col=col)
    figure.update_yaxes(title_text="wrong answers", tickformat=".0%", range=[-0.02, 1.02])
    figure.update_xaxes(title_text="step (updates)")
    ticks = [10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 3000, 5000]
    figure.update_xaxes(type="log", tickvals=ticks, row=1, col=2)
    figure.update_layout(width=1500, legend={"x": 1, "xanchor": "right", "y": 1.12, "orientation": "h"})
    return figure


if __name__ == "__main__":
    main()
