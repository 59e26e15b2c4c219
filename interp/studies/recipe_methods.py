"""The ways of training that recipes compares: each changes an experiment in one thing, at one of a few strengths."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from interp.errors import check_choice
from interp.experiment import DecayFactors, Experiment, GradientFilter, Regularizers

# A base by its name: AdamW without weight decay, where a method has to cause grokking, and with it, where it can help.
BASES = {"no decay": 0.0, "decay 1": 1.0}
NOTHING = "nothing"
Change = Callable[[Experiment, float], Experiment]


@dataclass(frozen=True)
class Method:
    """A way of training: the strengths that are tried of it, in what they are (`of`), and on which bases."""

    name: str
    change: Change
    strengths: tuple[float, ...] = (1.0,)
    of: str = ""
    bases: tuple[str, ...] = tuple(BASES)


@dataclass(frozen=True)
class Setting:
    """A method at a strength on a base.

    >>> next(one for one in settings() if one.method.name == "dropout").name
    'no decay: dropout 0.1'
    """

    base: str
    method: Method
    strength: float

    @property
    def name(self) -> str:
        """In words: the strength where there are several."""
        strength = f" {self.strength:g}" if self.method.of else ""
        return f"{self.base}: {self.method.name}{strength}"

    def applied(self, experiment: Experiment) -> Experiment:
        """An experiment of AdamW as this setting trains it."""
        based = _training(experiment, weight_decay=BASES[self.base])
        return self.method.change(based, self.strength)


def settings(names: Sequence[str] = ()) -> list[Setting]:
    """Those of all methods, or of some with nothing to compare them with, those of one base and method beside each
    other. Raises InputError for a name that no method has.

    >>> [one.name for one in settings(["StableMax"])]
    ['no decay: nothing', 'no decay: StableMax', 'decay 1: nothing', 'decay 1: StableMax']
    """
    known = [method.name for method in METHODS]
    for name in names:
        check_choice("methods", name, known)
    return list(_settings({NOTHING, *(names or known)}))


def _settings(names: set[str]) -> Iterator[Setting]:
    for base, decay in BASES.items():
        for method in METHODS:
            if base in method.bases and method.name in names:
                for strength in method.strengths:
                    if not (method.name == WEIGHT_DECAY and strength == decay):  # that is nothing
                        yield Setting(base, method, strength)


def _training(experiment: Experiment, **fields: Any) -> Experiment:
    return replace(experiment, training=replace(experiment.training, **fields))


def _model(experiment: Experiment, **fields: Any) -> Experiment:
    return replace(experiment, model=replace(experiment.model, **fields))


def _regularized(**fields: Any) -> Change:
    """By a regularizer: the field named "strength" has the strength."""

    def change(experiment: Experiment, strength: float) -> Experiment:
        values: dict[str, Any] = {name: strength if of is STRENGTH else of for name, of in fields.items()}
        return _training(experiment, regularizers=Regularizers(**values))

    return change


def _decaying(group: str) -> Change:
    """Weight decay of one group of weights alone."""
    factors = {"embedding": 0.0, "attention": 0.0, "mlp": 0.0, "unembedding": 0.0} | {group: 1.0}
    return lambda experiment, strength: _training(experiment, weight_decay=strength, decay=DecayFactors(**factors))


def _clamped(norm: Literal["global", "tensors"]) -> Change:
    """Norms that stay what they are at the start, where weights are so many times as large as usual."""

    def change(experiment: Experiment, strength: float) -> Experiment:
        return _training(_scaled(experiment, strength), regularizers=Regularizers(norm=norm))

    return change


def _scaled(experiment: Experiment, strength: float) -> Experiment:
    return _model(experiment, initialization_scale=strength)


def _filtered(**fields: Any) -> Change:
    def change(experiment: Experiment, strength: float) -> Experiment:
        values: dict[str, Any] = {name: strength if of is STRENGTH else of for name, of in fields.items()}
        return _training(experiment, filter=GradientFilter(**values))

    return change


def _by_sgd(experiment: Experiment, strength: float) -> Experiment:
    """Its learning rate is one at which it memorizes."""
    return _training(experiment, optimizer="sgd", lr=SGD_RATE, weight_decay=strength)


def _by_polar_steps(experiment: Experiment, strength: float) -> Experiment:
    """Egalitarian gradient descent: every singular value of a step is the learning rate."""
    return _training(experiment, optimizer="sgd", momentum=0.0, lr=strength, filter=GradientFilter(kind="polar"))


STRENGTH = object()
SGD_RATE = 0.1
WEIGHT_DECAY = "weight decay"
ALONE = ("no decay",)
METHODS = (
    Method(NOTHING, lambda experiment, strength: experiment),
    Method(WEIGHT_DECAY, lambda one, strength: _training(one, weight_decay=strength), (0.3, 1.0, 3.0), "weight decay"),
    Method("decay of embeddings alone", _decaying("embedding"), (1.0,), "weight decay", ALONE),
    Method("decay of attention alone", _decaying("attention"), (1.0,), "weight decay", ALONE),
    Method("decay of the MLP alone", _decaying("mlp"), (1.0,), "weight decay", ALONE),
    Method("decay of the unembedding alone", _decaying("unembedding"), (1.0,), "weight decay", ALONE),
    Method("L2 in the loss", _regularized(l2=STRENGTH), (3e-4, 1e-3, 3e-3), "λ"),
    Method("L1, proximal", _regularized(l1=STRENGTH), (0.01, 0.03, 0.1), "λ"),
    Method("L1 in the loss", _regularized(l1=STRENGTH, l1_form="subgradient"), (1e-5, 1e-4, 1e-3), "λ"),
    Method("dropout", _regularized(dropout=STRENGTH), (0.1, 0.2, 0.5), "share of neurons"),
    Method("weight noise", _regularized(weight_noise=STRENGTH), (0.003, 0.01, 0.03), "σ"),
    Method("gradient noise", _regularized(gradient_noise=STRENGTH), (1e-5, 1e-4, 1e-3), "σ"),
    Method("norm clamp", _clamped("global"), (0.5, 0.8, 1.0), "α", ALONE),
    Method("norm clamp of each tensor", _clamped("tensors"), (0.5, 0.8, 1.0), "α", ALONE),
    Method("scaled initial weights", _scaled, (0.3, 0.5, 0.8), "α"),
    Method("mirrored pairs", lambda one, strength: replace(one, task=replace(one.task, augmentation="mirror"))),
    Method("label smoothing", lambda one, strength: _training(one, label_smoothing=strength), (0.03, 0.1, 0.3), "ε"),
    Method("StableMax", lambda one, strength: _training(one, loss="stablemax")),
    Method("squared error", lambda one, strength: _training(one, loss="squared-error")),
    Method("⊥Grad", _filtered(orthogonal=True)),
    Method("Grokfast", _filtered(kind="ema", memory=0.98, strength=STRENGTH), (1.0, 2.0, 5.0), "λ"),
    Method("Muon", lambda one, strength: _training(one, optimizer="muon", lr=strength), (3e-3, 1e-2, 3e-2), "lr"),
    Method(
        "RMSProp with L2",
        lambda one, strength: _training(one, optimizer="rmsprop", lr=2e-3, weight_decay=strength),
        (3e-4, 1e-3, 3e-3),
        "λ",
        ALONE,
    ),
    Method("SGD with L2", _by_sgd, (1e-4, 3e-4, 1e-3), "λ", ALONE),
    Method("SGD of polar gradients", _by_polar_steps, (3e-3, 1e-2, 3e-2), "lr", ALONE),
)
