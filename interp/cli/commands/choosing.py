"""The command that chooses among runs."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from interp.cli.commands.arguments import Positional
from interp.cli.output import say


@dataclass(frozen=True)
class Best:
    """The best setting of the runs under a folder, chosen on validation pairs and reported on test pairs.

    Runs that differ in seeds alone are one setting. They need validation pairs: --task.validation-fraction."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The folder of the runs, at any depth."""
    by: str = "validation-loss"
    """What is best: validation-loss (the least) or validation-accuracy (the highest)."""

    def run(self) -> int:
        from interp.cli.progress import walk
        from interp.figures import as_accuracy, as_count, as_number
        from interp.studies import best

        found = best(self.folder, self.by, progress=partial(walk, what="runs"))
        setting, words = found.setting, found.by.replace("_", " ")
        n_seeds = len(setting.runs)
        mean = "" if n_seeds == 1 else f", mean of {n_seeds} seeds"
        value = as_accuracy if found.by.endswith("accuracy") else as_number
        say(f"best         {setting.in_words}")
        next_best = f"; next {value(found.others[0].chosen_by)} ({found.others[0].in_words})" if found.others else ""
        of = as_count(1 + len(found.others), "setting")
        say(f"chosen by    {words} {value(setting.chosen_by)}{mean}, of {of}{next_best}")
        low, high = found.interval
        sure = f" (95 %: {100 * low:.1f} to {100 * high:.1f} %)" if low < high else ""
        unseen = f"held-out accuracy {as_accuracy(found.held_out_accuracy)}{sure}"
        known = f"test accuracy {as_accuracy(found.test_accuracy)}, {unseen}, loss {as_number(found.test_loss)}"
        say(f"reported     {known}")
        for run in setting.runs:
            say(f"run          {run}")
        for note in found.notes:
            say(f"note         {note}")
        return 0
