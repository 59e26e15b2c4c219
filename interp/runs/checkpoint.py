"""One set of weights, with its logits, activations and losses, each computed once, when first asked for."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.errors import InputError
from interp.experiment import Examples, ModelConfig, Task, TrainingConfig
from interp.figures import notebook
from interp.mathematics.cross_entropy import PAIRS_AT_ONCE, judge_
from interp.mathematics.losses import CROSS_ENTROPY, chosen_loss
from interp.models import Activations, Reader, Tokens, Weights, check_weights, forward_all, matrices, record
from interp.runs.spectrum import Spectrum


@runtime_checkable
class HasWeights(Protocol):
    """All that an analysis of weights alone may ask: a `Checkpoint`, or somebody's weights at a step (`Weighted`).

    >>> import interp
    >>> checkpoint = interp.open_run(interp.reference_path()).last
    >>> isinstance(checkpoint, HasWeights)
    True
    """

    @property
    def step(self) -> int: ...

    @property
    def weights(self) -> Weights: ...


class Weighted(NamedTuple):
    """Weights of any network at a step.

    >>> member = Weighted(1000, {"layer": torch.zeros(2, 2)})
    >>> member.step, isinstance(member, HasWeights)
    (1000, True)
    """

    step: int
    weights: Weights


class Checkpoint:
    """The weights after `step` updates, and what is computed from them when first asked for: activations, logits,
    losses, key frequencies. Do not write to its tensors and arrays: they are shared.

    Tables over all pairs have the leading axes [p, p] for (a, b), those over examples that are vectors [n]; a split
    without examples has loss and accuracy NaN.

    >>> import interp
    >>> checkpoint = interp.open_run(interp.reference_path()).last
    >>> checkpoint
    Checkpoint(step=3000, add modulo 43, key frequencies [3, 11, 12])
    >>> checkpoint.logits[20, 30].argmax().item()  # 20 + 30 modulo 43
    7
    >>> [list(table.shape) for table in (checkpoint.logits, checkpoint.neurons, checkpoint.attention)]
    [[43, 43, 43], [43, 43, 128], [43, 43, 4, 3]]
    >>> [list(matrix.shape) for matrix in (checkpoint.W_E, checkpoint.W_in, checkpoint.W_out, checkpoint.W_U)]
    [[43, 32], [32, 128], [128, 32], [32, 43]]
    >>> bool(torch.allclose(checkpoint.logits, checkpoint.residual_post @ checkpoint.W_U, atol=1e-3))
    True
    """

    def __init__(
        self,
        step: int,
        weights: Weights,
        task: Examples,
        model: ModelConfig,
        *,
        training: TrainingConfig | None = None,
        where: str = "weights",
    ) -> None:
        check_weights(weights, model, task.sizes, where=where)
        # Whatever asks for phases is given pairs alone: the type is theirs.
        self.step, self.weights, self.task, self.model = step, weights, cast(Task, task), model
        # What is not known to have been trained on another loss was trained on the usual one.
        self.training = TrainingConfig() if training is None else training
        self.trained_on = chosen_loss(self.training)

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, Tensor], task: Examples, model: ModelConfig, step: int = -1
    ) -> "Checkpoint":
        """A checkpoint in memory, from anybody's training loop or notebook; step −1 means unknown.

        Raises InputError, naming the tensor, for weights that are not those of the model.

        >>> import interp
        >>> from interp.models import initial_weights
        >>> task, model = interp.Task(7), interp.ModelConfig(d_model=16, n_heads=2, d_mlp=24)
        >>> Checkpoint.from_weights(initial_weights(model, 7), task, model, step=0)
        Checkpoint(step=0, add modulo 7, key frequencies [])
        """
        return cls(step, {name: weight.detach().clone() for name, weight in weights.items()}, task, model)

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        task: Examples,
        *,
        tokens: Tokens = "a b",
        neurons: str | None = None,
        embedding: str | None = None,
        unembedding: str | None = None,
        step: int = -1,
    ) -> "Checkpoint":
        """A checkpoint of any `torch.nn.Module` that maps pairs to logits: it is run over all pairs here, and what it
        answers is kept. Step −1 means unknown.

        `tokens` says what the module reads: a template ("a b", "a+b=": the signs are the tokens p, p+1, …; with spaces
        also numbers and p+b, "a 114 b 113"), or a function from pairs [n, 2] to its input. Logits [n, T, V] are read
        at the last position, [n, V] as they are; classes beyond p are cut, and `checkpoint.model.module.classes` says
        of how many. `neurons` names the submodule whose output the neurons are (after the nonlinearity, at the last
        position); `embedding` and `unembedding` name the matrices in which each residue has a row or a column, turned
        by their shape, or as NAME:rows or NAME:columns says. Analyses that read what was not given are refused.

        Raises InputError for a name that the module does not have, for an output of another shape, and where two runs
        differ; the module is left as it was.

        >>> import interp
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 7))
        >>> checkpoint = Checkpoint.from_module(net, interp.Task(7), neurons="3", embedding="0.weight")
        >>> checkpoint.logits.shape, checkpoint.neurons.shape, checkpoint.W_E.shape
        (torch.Size([7, 7, 7]), torch.Size([7, 7, 24]), torch.Size([7, 8]))
        """
        found = record(module, task, Reader(tokens, neurons, embedding, unembedding))
        if not all(end.isfinite() for end in found.weights["recorded.logits"].aminmax()):
            raise InputError("the module answers NaN or infinity for some pairs; is this how it is to be asked?")
        return cls(step, found.weights, task, found.model)

    @cached_property
    def activations(self) -> Activations:
        """One forward pass over all pairs, in the type of the weights.

        >>> import interp
        >>> activations = interp.open_run(interp.reference_path()).last.activations
        >>> activations._fields
        ('logits', 'neurons', 'attention', 'residual_mid', 'residual_post')
        >>> bool(torch.allclose(activations.attention.sum(-1), torch.ones(43, 43, 4)))
        True
        """
        with torch.no_grad():
            return forward_all(self.weights, self.model, self.task)

    @property
    def logits(self) -> Float[Tensor, "*examples classes"]:
        return self.activations.logits

    @property
    def neurons(self) -> Float[Tensor, "*examples d_mlp"]:
        """The last layer's neurons after the nonlinearity, at the last position."""
        self._check_holds("neurons")
        return self.activations.neurons

    @property
    def attention(self) -> Float[Tensor, "*examples heads positions"]:
        """The last layer's attention from the last position to each position; of an MLP, and of a recorded module, of
        0 heads."""
        return self.activations.attention

    @cached_property
    def residual_post(self) -> Float[Tensor, "*examples features"]:
        """What `W_U` reads, at the position that answers: the residual stream, normalized where a norm stands
        there."""
        self._check_holds("residual stream")
        return self.activations.residual_post

    @cached_property
    def W_E(self) -> Float[Tensor, "p features"]:
        """The embedding of the residues, without that of `=`; where a and b have vocabularies of their own, that for a
        and that for b side by side; without embedding, their rows of W_in, so too."""
        if self.model.is_recorded:
            self._check_holds("embedding")
            return self.weights["recorded.W_E"]
        if self.model.embedding == "none" and self.model.family == "mlp":
            return torch.cat(self.weights["mlp.W_in"].split(self.task.sizes[0]), dim=1)
        b = self.model.first_token_of_b(self.task.p)
        both = self.weights["embed.W_E"][: b + self.task.p]
        return torch.cat(both.split(self.task.p), dim=1) if b else both

    @property
    def token_rows(self) -> tuple[Int[Tensor, " n"], ...]:
        """The rows of `embed.W_E` that are residues, in phase order: those that a and b share, or those of a and those
        of b.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> clock = circuit_neurons([1], per_frequency=16, circuit="clock")
        >>> [rows.tolist() for rows in circuit_checkpoint(Task(7, "multiply"), clock).token_rows]
        [[1, 3, 2, 6, 4, 5]]
        """
        phase, b = self.task.coordinates, self.model.first_token_of_b(self.task.p)
        return tuple(torch.from_numpy(rows) for rows in ((phase.rows, b + phase.columns) if b else (phase.rows,)))

    @property
    def W_in(self) -> Float[Tensor, "inputs d_mlp"]:
        """The last layer's input matrix."""
        return matrices(self.weights, self.model).W_in

    @property
    def W_out(self) -> Float[Tensor, "d_mlp features"]:
        """The last layer's output matrix."""
        return matrices(self.weights, self.model).W_out

    @property
    def W_U(self) -> Float[Tensor, "features classes"]:
        """The unembedding, with the norm before it folded in (`interp.models.transformer`); W_Eᵀ where that is tied to
        it, and W_out itself where nothing comes after it."""
        if self.model.is_recorded:
            self._check_holds("unembedding")
            return self.weights["recorded.W_U"]
        return matrices(self.weights, self.model).last

    @cached_property
    def W_L(self) -> Float[Tensor, "d_mlp classes"]:
        """The last layer's neurons' map to the logits, W_out W_U, in float64.

        >>> import interp
        >>> checkpoint = interp.open_run(interp.reference_path()).last
        >>> checkpoint.W_L.shape, checkpoint.W_L.dtype
        (torch.Size([128, 43]), torch.float64)
        >>> bool(torch.allclose(checkpoint.W_L.float(), checkpoint.W_out @ checkpoint.W_U, atol=1e-4))
        True
        """
        return matrices({name: weight.double() for name, weight in self.weights.items()}, self.model).W_L

    def _check_holds(self, what: str) -> None:
        """Raises InputError where a recorded module was not asked for `what`."""
        if self.model.is_recorded and what not in (holds := self.model.module.holds):
            raise InputError(
                f"of this module no {what} was recorded ({', '.join(('logits', *holds))}); where it has one, name it "
                "when the module is brought"
            )

    @cached_property
    def _judged(self) -> tuple[Float[Tensor, " pairs"], Bool[Tensor, " pairs"]]:
        labels = torch.from_numpy(self.task.labels).clamp(min=0)
        some = zip(self.logits.flatten(0, -2).split(PAIRS_AT_ONCE), labels.split(PAIRS_AT_ONCE), strict=True)
        losses, correct = zip(
            *(judge_(logits.T.to(torch.float64, copy=True), right) for logits, right in some), strict=True
        )
        return torch.cat(losses), torch.cat(correct)

    @cached_property
    def losses(self) -> Float[np.ndarray, " pairs"]:
        """The cross-entropy of every pair in nats, float64; NaN where the operation is not defined.

        >>> import interp
        >>> checkpoint = interp.open_run(interp.reference_path())[0]
        >>> checkpoint.losses.shape, round(checkpoint.losses.mean()), round(math.log(43))  # it guesses
        ((1849,), 4, 4)
        """
        return np.where(self.task.defined, self._judged[0].numpy(), np.nan)

    @cached_property
    def correct(self) -> Bool[np.ndarray, " pairs"]:
        """Whether the logit of the (trained) label is larger than every other, for every pair.

        >>> import interp
        >>> run = interp.open_run(interp.reference_path())
        >>> bool(run[0].correct.mean() < 0.1), bool(run.last.correct.all())
        (True, True)
        """
        return self._judged[1].numpy() & self.task.defined

    def loss(self, split: str) -> float:
        """The mean cross-entropy over the pairs of a split (`Task.mask`); NaN where there are none.

        >>> import interp
        >>> checkpoint = interp.open_run(interp.reference_path())[0]
        >>> [round(checkpoint.loss(split)) for split in ("train", "test")], round(math.log(43))  # it guesses
        ([4, 4], 4)
        """
        mask = self.task.mask(split)
        return float(self.losses[mask].mean()) if mask.any() else math.nan

    def trained_loss(self, split: str) -> float:
        """The mean of the loss that it was trained on, `trained_on`, which is the cross-entropy where its training says
        nothing else.

        >>> import interp
        >>> task, model = interp.Task(7), interp.ModelConfig(d_model=16, n_heads=2, d_mlp=24)
        >>> from interp.models import initial_weights
        >>> squared = interp.TrainingConfig(loss="squared-error")
        >>> checkpoint = Checkpoint(0, initial_weights(model, 7), task, model, training=squared)
        >>> round(checkpoint.loss("train"), 1), round(checkpoint.trained_loss("train"), 1)
        (2.1, 0.3)
        """
        chosen = np.flatnonzero(self.task.mask(split))
        if self.trained_on is CROSS_ENTROPY or not len(chosen):
            return self.loss(split)
        outputs = self.logits.flatten(0, -2)[torch.from_numpy(chosen)].T
        return self.trained_on.judge(outputs, torch.from_numpy(self.task.labels[chosen]))[0].mean().item()

    def accuracy(self, split: str) -> float:
        """The share of correct answers over the pairs of a split (`Task.mask`); NaN where there are none.

        >>> import interp
        >>> run = interp.open_run(interp.reference_path())
        >>> run[100].accuracy("train"), run[100].accuracy("test") < 0.5, run.last.accuracy("test")
        (1.0, True, 1.0)
        """
        mask = self.task.mask(split)
        return float(self.correct[mask].mean()) if mask.any() else math.nan

    @cached_property
    def spectrum(self) -> Spectrum:
        """The power and the coefficients of every frequency in the neurons and logits. Raises InputError for examples
        that are no pairs over Z_p.

        >>> import interp
        >>> interp.open_run(interp.reference_path()).last.spectrum.neuron_frequencies.unique().tolist()
        [3, 11, 12]
        """
        if not isinstance(self.task, Task):
            raise InputError("frequencies are those of pairs over Z_p, and the examples of this checkpoint are vectors")
        return Spectrum(self.activations, None if self.model.is_recorded else self.W_L, self.task)

    @property
    def key_mask(self) -> Bool[Tensor, " K"]:
        """Which of the frequencies 1 … K are key (`Spectrum.key_mask`).

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> circuit_checkpoint(Task(7), circuit_neurons([2])).key_mask.tolist()
        [False, True, False]
        """
        return self.spectrum.key_mask

    @property
    def key_frequencies(self) -> list[int]:
        """This checkpoint's own key frequencies.

        >>> from interp.testing import circuit_checkpoint, circuit_neurons
        >>> circuit_checkpoint(Task(11), circuit_neurons([2, 5])).key_frequencies
        [2, 5]
        """
        return self.spectrum.key_frequencies

    _repr_html_ = notebook.of_checkpoint

    def __repr__(self) -> str:
        known = f", key frequencies {self.key_frequencies}" if isinstance(self.task, Task) else ""
        return f"Checkpoint(step={self.step}, {self.task.title}{known})"
