"""One moment of training."""

from dataclasses import dataclass, field

from torch import Tensor

from interp.models.values import Weights

# Steps of what observers hand over at once, which are written in one file, and of which a state may hold a part: 720 kB
# of the gradients of the canonical network.
BLOCK = 256


@dataclass(frozen=True)
class Snapshot:
    """One moment of training. `kept`: whether the schedule keeps a checkpoint of this step; a snapshot that is not kept
    is given for its metrics. `state` is what the optimizer remembers and, under names that begin with filter|, what its
    gradient filter does; with `weights` it is what exact resume needs. A metric that does not exist (the test loss
    without test pairs) is NaN. `observed` is what observers of training (`interp.training.GradientSketch`) have
    completed since the last snapshot: blocks by their first step, by observer.

    >>> import interp
    >>> experiment = interp.Experiment(interp.Task(7), interp.ModelConfig(d_model=8, d_mlp=4))
    >>> first = next(interp.train(experiment))
    >>> first.step, first.kept, len(first.weights), first.metrics["test_accuracy"] < 0.5
    (0, True, 11, True)
    """

    step: int
    weights: Weights
    metrics: dict[str, float]
    state: dict[str, Tensor]
    kept: bool
    observed: dict[str, dict[int, Tensor]] = field(default_factory=dict)


class DivergedError(RuntimeError):
    """The loss is no longer finite. Everything before `step` is sound.

    >>> error = DivergedError(120, None)
    >>> error.step, str(error)
    (120, 'training diverged: the loss of step 120 is not finite; try a lower training.lr')
    """

    def __init__(self, step: int, last: Snapshot | None) -> None:
        self.step, self.last = step, last
        super().__init__(f"training diverged: the loss of step {step} is not finite; try a lower training.lr")
