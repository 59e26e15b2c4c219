"""The verb `run`: train into a folder, and look on."""

from collections.abc import Callable
from pathlib import Path

from interp.errors import InputError
from interp.experiment import Experiment, preset
from interp.figures import in_words, training_bar
from interp.models import Snapshot
from interp.runs import Run
from interp.sweeps.driver import run_experiment


def run(
    experiment: Experiment | str,
    out: str | Path,
    *,
    overwrite: bool = False,
    device: str = "cpu",
    observe: str | None = None,
    report: Callable[[Snapshot], None] | None = None,
) -> Run:
    """Train an experiment, or the preset of that name, into a new run in the folder `out`, and return the run. A bar
    shows how far it is, in a notebook and in a terminal; `report`, which is called with every snapshot after it was
    written, takes its place.

    As `interp train --preset NAME --out OUT` does: the same bytes, and Ctrl-C leaves a run that `interp resume` goes on
    with. Raises what `interp.sweeps.run_experiment` raises, InputError for a preset or a folder that cannot be.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> model = interp.ModelConfig(d_model=16, n_heads=2, d_mlp=32)
    >>> small = interp.Experiment(interp.Task(7), model, interp.TrainingConfig(steps=10, checkpoint_every=5))
    >>> with TemporaryDirectory() as folder:
    ...     print(run(small, f"{folder}/small").steps)
    [0, 5, 10]
    """
    if isinstance(experiment, str):
        experiment = preset(experiment)
    if not isinstance(experiment, Experiment):
        raise InputError(
            f"expected an Experiment or the name of a preset, got {type(experiment).__name__}; `interp presets` lists "
            "them, and interp.Experiment(task, model, training) makes one"
        )
    how = {"overwrite": overwrite, "device": device, "observe": observe}
    if report is not None:
        return run_experiment(experiment, out, report=report, **how)
    with training_bar(experiment.training.steps, f"training {out}") as update:
        return run_experiment(
            experiment, out, report=lambda snapshot: update(snapshot.step, in_words(snapshot.metrics)), **how
        )
