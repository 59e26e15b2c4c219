"""Watch a neural network grok: train, checkpoint, analyze and explain the transition from memorizing to generalizing.

    import interp

    run = interp.open_run(interp.reference_path())
    run.key_frequencies

Each name below is loaded when it is first asked for, so that `import interp` costs nothing; modules are imported by
their own names, as in `from interp import fourier`.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "Experiment",
    "InputError",
    "ModelConfig",
    "Run",
    "RunWriter",
    "Snapshot",
    "Task",
    "TrainingConfig",
    "analyze",
    "compare",
    "import_run",
    "open_run",
    "preset",
    "reference_path",
    "train",
]

if TYPE_CHECKING:
    from pathlib import Path

    from interp.analysis.walk import analyze
    from interp.errors import InputError
    from interp.experiment.experiment import Experiment, ModelConfig, TrainingConfig, preset
    from interp.experiment.task import Task
    from interp.explanation.comparison import compare
    from interp.interchange.importing import import_run
    from interp.runs.checkpoint import Checkpoint
    from interp.runs.run import Run, open_run
    from interp.runs.writer import RunWriter
    from interp.training.loop import Snapshot, train
else:  # a type checker that saw `__getattr__` would believe in every name
    _HOME = {
        "Checkpoint": "runs.checkpoint",
        "Experiment": "experiment.experiment",
        "InputError": "errors",
        "ModelConfig": "experiment.experiment",
        "Run": "runs.run",
        "RunWriter": "runs.writer",
        "Snapshot": "training.loop",
        "Task": "experiment.task",
        "TrainingConfig": "experiment.experiment",
        "analyze": "analysis.walk",
        "compare": "explanation.comparison",
        "import_run": "interchange.importing",
        "open_run": "runs.run",
        "preset": "experiment.experiment",
        "train": "training.loop",
    }

    def __getattr__(name: str) -> object:
        """A public name, from the module it lives in."""
        if name == "fourier":
            from interp.mathematics import fourier

            return fourier
        if name not in _HOME:
            raise AttributeError(f"module 'interp' has no attribute {name!r}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = getattr(import_module(f"interp.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def reference_path() -> "Path":
    """The folder of the small grokked run that comes with the package."""
    from importlib import import_module
    from pathlib import Path

    try:
        reference = import_module("interp.reference")
    except ModuleNotFoundError:
        from interp.errors import InputError

        raise InputError(
            "the reference run is not there: interp is not installed; run `pip install -e .` in its folder"
        ) from None
    return Path(str(reference.__file__)).parent
