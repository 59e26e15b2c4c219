"""The networks that one loop trains, one or many: their losses and gradients, metrics, updates and copies.

On a CPU every network has a core to itself (`OnCores`) and is the same to the last bit as alone: of the factored form
with any number of threads, of every other model as alone with one thread. A GPU is not filled by one small network:
there all are one batch (`AsOneBatch`), each the same as alone up to rounding: the plain one-layer transformer by its
closed form in batched products (`interp.models.many_networks`), every other model vectorized and differentiated by
torch.func.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.experiment import Experiment, ModelConfig
from interp.machine import one_thread
from interp.mathematics.losses import Loss, chosen_loss
from interp.models import Each, Weights, embed, is_factored, many_networks, transform, weight_shapes
from interp.training.batches import Batch, parts_of_test, parts_of_train
from interp.training.gradient_filters import FilteredGradients, split_state
from interp.training.loss import evaluate, loss_and_gradient, mean, threads_of_torch
from interp.training.metrics import METRICS, measured, of_parts
from interp.training.optimizers import WeightUpdater
from interp.training.regularizing import Regularizing, split_held
from interp.training.stacked_updates import StackedUpdater

Judged = tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]  # the losses of examples, and which are answered correctly
ManyJudged = tuple[Float[Tensor, "S n"], Bool[Tensor, "S n"]]


def networks(
    experiments: Sequence[Experiment],
    starts: Sequence[Mapping[str, Tensor]],
    device: str,
    each: Each,
    *,
    tf32: bool = False,
    by_tables: bool = False,
) -> "OnCores | AsOneBatch":
    """The networks of these experiments, with copies of the weights that they start from, in float32."""
    if _are_one_batch(experiments, device):
        return AsOneBatch(experiments, starts, device, tf32=tf32)
    return OnCores(experiments, starts, device, each, tf32=tf32, by_tables=by_tables)


def _are_one_batch(experiments: Sequence[Experiment], device: str) -> bool:
    return not _has_cores(device) and (len(experiments) > 1 or is_factored(experiments[0].model))


def _has_cores(device: str) -> bool:
    """Whether every network is worked on by a thread of its own."""
    return device == "cpu"


@contextlib.contextmanager
def products_in(device: str, *, tf32: bool) -> Iterator[None]:
    """How a GPU multiplies float32 matrices meanwhile: exactly, or with inputs rounded to the 11 bits of TF32.

    >>> with products_in("cuda", tf32=True):
    ...     torch.backends.cuda.matmul.allow_tf32
    True
    """
    if device == "cpu":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


# ---- a core each -----------------------------------------------------------------------------------------------------


class OnCores:
    """Networks each of which is worked on by one thread. Of a single one the parts of its batch are shared out."""

    def __init__(
        self,
        experiments: Sequence[Experiment],
        starts: Sequence[Mapping[str, Tensor]],
        device: str,
        each: Each,
        *,
        tf32: bool = False,
        by_tables: bool = False,
    ) -> None:
        self._experiments, self._model, self._each = experiments, experiments[0].model, each
        self._device, self._tf32 = device, tf32
        self._loss, self._by_tables = chosen_loss(experiments[0].training), by_tables
        names = weight_shapes(self._model, experiments[0].task.sizes)
        # Copies, each in one piece, because fused updates read memory in order: somebody's `linear.weight.T` is not.
        copied = {"memory_format": torch.contiguous_format, "copy": True}
        self.weights: list[Weights] = [
            {name: start[name].detach().to(device, torch.float32, **copied) for name in names} for start in starts
        ]
        self._updater = WeightUpdater(self.weights, [one.training for one in experiments])
        self._filters = [
            FilteredGradients([one.training.filter], own) for one, own in zip(experiments, self.weights, strict=True)
        ]
        self._regularizing = [
            Regularizing(one.training, own) for one, own in zip(experiments, self.weights, strict=True)
        ]
        self._train, self._test = (
            [Batch.of(one.task, split, device) for one in experiments] for split in ("train", "test")
        )
        self._validation = _validation_sets(experiments, device)
        self._parts = [_on(device, parts_of_test(one.task)) for one in experiments]
        self._parts_of_train = [_on(device, parts_of_train(one.task)) for one in experiments]
        self._answers: list[tuple[float, Bool[Tensor, " n"]]] = []
        self._gradients: list[Weights] = []

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """What a step is computed in: the threads of torch, and its products."""
        threads = one_thread() if len(self.weights) > 1 else threads_of_torch(self._model)
        with threads, products_in(self._device, tf32=self._tf32):
            yield

    def losses(self, step: int) -> list[float]:
        """The loss of every network on the batch of update number `step`; its gradient is kept for `update`."""
        batches = self._batches(step)
        over, within = self._shared()

        def of_one(regularizing: Regularizing, batch: Batch) -> tuple[float, Bool[Tensor, " n"], Weights]:
            weights, drop = regularizing.given_to_loss(step), regularizing.dropping(step)
            how = {"loss": self._loss, "by_tables": self._by_tables, "drop": drop}
            with torch.enable_grad():  # the threads that share have it off
                return loss_and_gradient(weights, self._model, batch, within, **how)

        losses, answers, gradients = zip(*over(of_one, self._regularizing, batches), strict=True)
        self._answers, self._gradients = list(zip(losses, answers, strict=True)), list(gradients)
        return list(losses)

    @property
    def gradients(self) -> list[Weights]:
        """That of every network, as `losses` found it."""
        return self._gradients

    def train_losses(self) -> list[float]:
        """The loss of every network on all that it is trained on, after `losses`."""
        if self._experiments[0].training.batch_size is not None or any(one.is_noisy for one in self._regularizing):
            self._answers = [(mean(of_all), correct) for of_all, correct in self._judged(self._train)]
        return [loss for loss, _ in self._answers]

    def metrics(self) -> list[dict[str, float]]:
        """METRICS of every network, after `train_losses`."""
        every = zip(self._answers, self._judged(self._test), self._parts, self._gradients, self.weights, strict=True)
        found = [measured(train, (*test, parts), gradient, weights) for train, test, parts, gradient, weights in every]
        if self._validation:
            for values, (losses, correct) in zip(found, self._judged(self._validation), strict=True):
                values |= {"validation_loss": mean(losses), "validation_accuracy": mean(correct)}
        if not self._parts_of_train[0]:
            return found
        # Of the training batch the mean loss alone is known.
        judged = zip(found, self._judged(self._train), self._parts_of_train, strict=True)
        return [metrics | of_parts(*train, parts) for metrics, train, parts in judged]

    def update(self, step: int) -> None:
        """Update number `step` (from 0)."""
        given = [one.gradient(step, of_loss) for one, of_loss in zip(self._regularizing, self._gradients, strict=True)]
        pairs = zip(self._filters, given, strict=True)
        self._updater.update(step, [one.of(step, gradient) if one.is_used else gradient for one, gradient in pairs])
        for one in self._regularizing:
            one.after(step)

    def copies(self) -> list[tuple[Weights, dict[str, Tensor]]]:
        """Weights and training state of every network, in the CPU's memory."""
        return [
            (
                {name: weight.to("cpu", copy=True) for name, weight in own.items()},
                self._updater.state(place) | self._filters[place].states()[0] | self._regularizing[place].state(),
            )
            for place, own in enumerate(self.weights)
        ]

    def restore(self, states: Sequence[dict[str, Tensor]], step: int) -> None:
        """Continue at this step with these states of training."""
        rests, held = zip(*map(split_held, states), strict=True)
        for one, norms in zip(self._regularizing, held, strict=True):
            one.restore(norms)
        parts = [split_state(state) for state in rests]
        self._updater.restore([of_optimizer for of_optimizer, _ in parts])
        for one, (_, remembered) in zip(self._filters, parts, strict=True):
            one.restore([remembered], step)

    def _batches(self, step: int) -> list[Batch]:
        if (size := self._experiments[0].training.batch_size) is None:
            return self._train
        pairs = zip(self._train, self._experiments, strict=True)
        return [every.minibatch(size, step, one.training.seed) for every, one in pairs]

    def _judged(self, batches: Sequence[Batch]) -> list[Judged]:
        over, within = self._shared()
        return list(
            over(
                lambda own, batch: evaluate(
                    own, self._model, batch, within, loss=self._loss, by_tables=self._by_tables
                ),
                self.weights,
                batches,
            )
        )

    def _shared(self) -> tuple[Each, Each]:
        """The parts of one network's batch are shared out, or the networks."""
        return (map, self._each) if len(self.weights) == 1 else (self._each, map)


def _on(device: str, parts: Mapping[str, Bool[Tensor, " n"]]) -> dict[str, Bool[Tensor, " n"]]:
    return {part: which.to(device) for part, which in parts.items()}


def _validation_sets(experiments: Sequence[Experiment], device: str) -> list[Batch]:
    """What each is chosen on; empty where nothing is."""
    batches = [Batch.of(one.task, "validation", device) for one in experiments]
    return batches if len(batches[0]) else []  # as many examples of each


# ---- one batch -------------------------------------------------------------------------------------------------------


class AsOneBatch:
    """Networks whose weights are stacked along a first axis S and trained by the same operations. All numbers that are
    told of them come from the device at once: to ask for each of a thousand networks would take longer than a step."""

    def __init__(
        self,
        experiments: Sequence[Experiment],
        starts: Sequence[Mapping[str, Tensor]],
        device: str,
        *,
        tf32: bool = False,
    ) -> None:
        self._experiments, self._model, self._p = experiments, experiments[0].model, experiments[0].task.n_classes
        self._device, self._tf32, self._loss = device, tf32, chosen_loss(experiments[0].training)
        self._stacked = {
            name: torch.stack([start[name].detach().to(torch.float32) for start in starts]).to(device)
            for name in weight_shapes(self._model, experiments[0].task.sizes)
        }
        self._updater = StackedUpdater(self._stacked, [one.training for one in experiments])
        self._filter = FilteredGradients([one.training.filter for one in experiments], self._stacked, stacked=True)
        self._train_sets = [Batch.of(one.task, "train", device) for one in experiments]
        self._train = _stacked_batches(self._train_sets)
        self._test = _stacked_batches([Batch.of(one.task, "test", device) for one in experiments])
        self._validation = _validation_sets(experiments, device)
        self._judged: ManyJudged = torch.empty(0, 0), torch.empty(0, 0, dtype=torch.bool)
        self._gradients: Weights = {}

    @property
    def weights(self) -> list[Weights]:
        """Those of every network, as views."""
        every = zip(*(values.unbind() for values in self._stacked.values()), strict=True)
        return [dict(zip(self._stacked, own, strict=True)) for own in every]

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """What a step is computed in."""
        with products_in(self._device, tf32=self._tf32):
            yield

    def losses(self, step: int) -> list[float]:
        """The loss of every network on the batch of update number `step`; its gradient is kept for `update`."""
        batch, one_hot = self._train, None
        if (size := self._experiments[0].training.batch_size) is not None:
            pairs = zip(self._train_sets, self._experiments, strict=True)
            batch = _stacked_batches([every.minibatch(size, step, one.training.seed) for every, one in pairs])
        elif is_factored(self._model):
            one_hot = self._one_hot
        if is_factored(self._model):
            losses, correct, self._gradients = many_networks.losses_and_gradients(
                self._stacked, self._model, _examples(batch), one_hot, loss=self._loss
            )
        else:
            gradient_of_one = torch.func.grad(_mean_loss(self._model, self._loss), has_aux=True)
            self._gradients, (losses, correct) = torch.func.vmap(gradient_of_one)(self._stacked, *batch)
        self._judged = losses, correct
        return losses.mean(1).tolist()

    def train_losses(self) -> list[float]:
        """The loss of every network on all that it is trained on, after `losses`."""
        if self._experiments[0].training.batch_size is not None:
            self._judged = self._judge(self._train)
        return self._judged[0].mean(1).tolist()

    def metrics(self) -> list[dict[str, float]]:
        """METRICS of every network, after `train_losses`."""
        (losses, correct), (test_losses, test_correct) = self._judged, self._judge(self._test)
        every = torch.ones_like(test_correct)
        columns = {"train_loss": losses.mean(1), "train_accuracy": correct.double().mean(1)}
        for part, which in {"test": every, **self._parts}.items():
            columns[f"{part}_loss"] = _means(test_losses, which)
            columns[f"{part}_accuracy"] = _means(test_correct.double(), which)
        for part, which in self._parts_of_train.items():
            columns |= {f"{part}_loss": _means(losses, which), f"{part}_accuracy": _means(correct.double(), which)}
        if self._validation:
            chosen_on, right = self._judge(_stacked_batches(self._validation))
            columns |= {"validation_loss": chosen_on.mean(1), "validation_accuracy": right.double().mean(1)}
        columns |= {"gradient_norm": _norms(self._gradients), "weight_norm": _norms(self._stacked)}
        rows = torch.stack(list(columns.values()), 1).tolist()
        names = list(METRICS) + [name for name in columns if name not in METRICS]
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        return [
            {name: values[name] for name in names if own or not name.startswith("held_out")}
            for values, own in zip(found, self._has_held_out, strict=True)
        ]

    def update(self, step: int) -> None:
        """Update number `step` (from 0)."""
        of_loss = self._gradients
        self._updater.update(step, self._filter.of(step, of_loss) if self._filter.is_used else of_loss)

    def copies(self) -> list[tuple[Weights, dict[str, Tensor]]]:
        """Weights and training state of every network, in the CPU's memory: views of one copy of all."""
        copied = {name: weight.to("cpu", copy=True) for name, weight in self._stacked.items()}
        states = zip(self._updater.states(), self._filter.states(), strict=True)
        return [
            ({name: weight[place] for name, weight in copied.items()}, of_optimizer | remembered)
            for place, (of_optimizer, remembered) in enumerate(states)
        ]

    def restore(self, states: Sequence[dict[str, Tensor]], step: int) -> None:
        """Continue at this step with these states of training."""
        parts = [split_state(state) for state in states]
        self._updater.restore([of_optimizer for of_optimizer, _ in parts])
        self._filter.restore([remembered for _, remembered in parts], step)

    def _judge(self, batch: tuple[Tensor, Tensor]) -> ManyJudged:
        if is_factored(self._model):
            return many_networks.evaluate(self._stacked, self._model, _examples(batch), loss=self._loss)
        if not batch[1].numel():
            return batch[1].double(), batch[1].bool()
        with torch.no_grad():
            _, judged = torch.func.vmap(_mean_loss(self._model, self._loss))(self._stacked, *batch)
        return judged

    @cached_property
    def _one_hot(self) -> tuple[Float[Tensor, "S n p"], Float[Tensor, "S n p"]]:
        return _examples(self._train).one_hot(self._p, torch.float32)

    @cached_property
    def _parts(self) -> dict[str, Bool[Tensor, "S m"]]:
        of_each = [parts_of_test(one.task) for one in self._experiments]
        every = dict.fromkeys(part for parts in of_each for part in parts)
        # Where held-out pairs are no part of their own, they are the unmirrored ones.
        return {
            part: torch.stack([parts.get(part, parts["unmirrored_test"]) for parts in of_each]).to(self._test[1].device)
            for part in every
        }

    @cached_property
    def _parts_of_train(self) -> dict[str, Bool[Tensor, "S n"]]:
        of_each = [parts_of_train(one.task) for one in self._experiments]
        return {part: torch.stack([parts[part] for parts in of_each]).to(self._train[1].device) for part in of_each[0]}

    @cached_property
    def _has_held_out(self) -> list[bool]:
        return ["held_out" in parts_of_test(one.task) for one in self._experiments]


def _stacked_batches(batches: Sequence[Batch]) -> tuple[Tensor, Int[Tensor, "S n"]]:
    return torch.stack([batch.inputs for batch in batches]), torch.stack([batch.labels for batch in batches])


def _examples(batch: tuple[Tensor, Int[Tensor, "S n"]]) -> many_networks.ManyExamples:
    inputs, labels = batch
    return many_networks.ManyExamples(inputs[:, :, 0].contiguous(), inputs[:, :, 1].contiguous(), labels)


def _means(values: Float[Tensor, "S m"], which: Bool[Tensor, "S m"]) -> Float[Tensor, " S"]:
    """The mean of those values of every network; NaN where there are none."""
    return torch.where(which, values, 0).sum(1) / which.sum(1)


def _norms(stacked: Weights) -> Float[Tensor, " S"]:
    return torch.stack([weight.double().square().flatten(1).sum(1) for weight in stacked.values()]).sum(0).sqrt()


def _mean_loss(model: ModelConfig, loss: Loss) -> Callable[[Weights, Tensor, Tensor], tuple[Tensor, Judged]]:
    """The mean loss of one network, with what it is the mean of, as a function that torch.func can differentiate."""

    def of_one(weights: Weights, inputs: Tensor, labels: Int[Tensor, " n"]) -> tuple[Tensor, Judged]:
        outputs = transform(weights, model, embed(weights, model, inputs)).logits.T
        losses, correct = loss.differentiable(outputs, labels)
        return losses.mean(), (losses, correct)

    return of_one
