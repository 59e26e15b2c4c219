"""What the study of double descent trains: one curve over widths for each way to train, which differ in one thing."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from interp.errors import InputError, check_choice, check_integer, check_number, flag
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.studies.design import Design
from interp.studies.digit_networks import digit_run
from interp.sweeps import GridRun

Trained = Literal["digits", "addition"]
N_HEADS = 4
MODULUS = 59
# What addition takes where a field is left as it is: a width has to hold four heads, and without decay nothing groks.
ADDITION: dict[str, Any] = {
    "widths": (4, 8, 12, 16, 20, 24, 32, 48, 64),
    "sizes": (1360, 1090),
    "noises": (0.0,),
    "weight_decays": (1.0,),
    "samples": (),
    "lr": 1e-2,
}


@dataclass(frozen=True)
class Arm:
    """One curve: so many training examples, label noise, weight decay.

    >>> Arm(800, 0.2, 0.0).name
    'n 800, noise 0.2, decay 0'
    """

    n: int
    noise: float
    decay: float

    @property
    def name(self) -> str:
        """In words."""
        return f"n {self.n}, noise {self.noise:g}, decay {self.decay:g}"


@dataclass(frozen=True, kw_only=True)
class DoubleDescentDesign(Design):
    """Widths, and what is changed beside them: the first size, noise and weight decay are the base, each other one is
    a curve that differs from it in that alone. The defaults are those of digits; of addition they are widths 4 8 12 16
    20 24 32 48 64, sizes 1360 1090, no noise, weight decay 1, no samples, lr 1e-2.

    >>> DoubleDescentDesign(task="addition").arms
    [Arm(n=1360, noise=0.0, decay=1.0), Arm(n=1090, noise=0.0, decay=1.0)]
    """

    task: Trained = "digits"
    """Handwritten digits by an MLP of one hidden layer; or addition modulo p by a transformer of one layer, the
    widths of whose residual stream are varied (4 heads, four times as many neurons)."""
    p: int = MODULUS
    """The modulus, of the task addition."""
    draws: int = 5
    """Training sets, with their label noise. They are the independent observations."""
    seeds: int = 1
    """Initial weights for each of them, averaged within it."""
    widths: tuple[int, ...] = (3, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64)
    """Hidden neurons (digits), or the width of the residual stream (addition)."""
    sizes: tuple[int, ...] = (800, 400)
    """Training examples."""
    noises: tuple[float, ...] = (0.2, 0.0, 0.4)
    """Shares of the training labels that are wrong."""
    weight_decays: tuple[float, ...] = (0.0, 0.3)
    """Weight decays of AdamW."""
    width: int = 16
    """The width at which the number of training examples is varied."""
    samples: tuple[int, ...] = (100, 200, 300, 400, 500, 600, 800, 1000)
    """These numbers of training examples; none leaves that curve out."""
    steps: int = 2000
    """Steps of a run, on all examples at once."""
    lr: float = 3e-3
    """The learning rate."""
    checkpoints: int = 24
    """Steps at which a network is looked at, evenly spaced in their logarithm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, get_args(Trained))
        if self.task == "addition":
            for field in fields(self):
                # By identity, so that the default of digits can be given to addition too.
                if field.name in ADDITION and getattr(self, field.name) is field.default:
                    object.__setattr__(self, field.name, ADDITION[field.name])
        check_integer("p", self.p, 2, 4096)
        if self.task == "digits" and self.p != MODULUS:
            raise InputError(f"--p {self.p} is the modulus of addition, and digits have none: add --task addition")
        for name, lowest in {"widths": 3, "sizes": 1, "noises": 1, "weight_decays": 1, "samples": 0}.items():
            values = getattr(self, name)
            if len(values) < lowest:
                raise InputError(f"{flag(name)} has {len(values)} values, and {lowest} are needed at least")
            if len(set(values)) != len(values):
                raise InputError(f"{flag(name)} names a value twice: {' '.join(map(str, values))}")
        for name in ("widths", "sizes", "samples"):
            for value in getattr(self, name):
                check_integer(flag(name), value, 1)
        for noise in self.noises:
            check_number(flag("noises"), noise, 0, 1)
        for decay in self.weight_decays:
            check_number(flag("weight_decays"), decay, 0)
        check_integer("draws", self.draws, 1, 1000)
        check_integer("checkpoints", self.checkpoints, 2, 1000)
        check_integer("steps", self.steps, 1)
        check_integer("width", self.width, 1)
        check_number("lr", self.lr, 0, above=True)

    @property
    def base(self) -> Arm:
        """What the others differ from."""
        return Arm(self.sizes[0], self.noises[0], self.weight_decays[0])

    @property
    def arms(self) -> list[Arm]:
        """The curves over widths, the base first.

        >>> [arm.name for arm in DoubleDescentDesign(noises=(0.2,)).arms]
        ['n 800, noise 0.2, decay 0', 'n 400, noise 0.2, decay 0', 'n 800, noise 0.2, decay 0.3']
        """
        n, noise, decay = self.base.n, self.base.noise, self.base.decay
        others = [Arm(other, noise, decay) for other in self.sizes[1:]]
        others += [Arm(n, other, decay) for other in self.noises[1:]]
        others += [Arm(n, noise, other) for other in self.weight_decays[1:]]
        return [self.base, *others]

    def networks(self) -> Iterator[tuple[int, int]]:
        """Draw and seed of every network of a point. No two draws have the same initial weights, or they would not be
        independent."""
        return ((draw, seed) for draw in range(self.draws) for seed in range(self.seeds))

    def run(self, width: int, arm: Arm, draw: int, seed: int) -> GridRun:
        """One network."""
        initial = draw + 1000 * seed
        if self.task == "digits":
            how: dict[str, Any] = {"steps": self.steps, "lr": self.lr, "checkpoint_log": self.checkpoints}
            return digit_run(width, arm.n, arm.noise, draw, initial, weight_decay=arm.decay, **how)
        task = Task(self.p, train_pairs=arm.n, seed=draw, label_noise=arm.noise)
        model = ModelConfig(d_model=width, n_heads=N_HEADS, d_mlp=4 * width, seed=initial)
        training = TrainingConfig(
            steps=self.steps,
            lr=self.lr,
            weight_decay=arm.decay,
            checkpoint_every=None,
            checkpoint_log=self.checkpoints,
            log_every=max(1, self.steps // 20),
        )
        name = f"d{width}-n{arm.n}-noise{arm.noise:g}-decay{arm.decay:g}-draw{draw}-seed{initial}"
        return GridRun(name, Experiment(task, model, training))

    def grid(self) -> list[GridRun]:
        """Every network once, also where a curve over widths and the one over examples share it."""
        places = [(width, arm) for arm in self.arms for width in self.widths]
        places += [(self.width, Arm(n, self.base.noise, self.base.decay)) for n in self.samples]
        runs = [self.run(width, arm, *network) for width, arm in places for network in self.networks()]
        return list({run.name: run for run in runs}.values())
