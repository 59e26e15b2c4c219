"""Recording somebody's own training loop: a run, which can be read while it grows."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from interp.errors import InputError
from interp.experiment import Examples, ModelConfig, TrainingConfig, recorded_section, section_to_dict
from interp.interchange.importing.modules import load_strictly
from interp.interchange.layouts.fitting import fit
from interp.interchange.layouts.leftovers import of_no_use
from interp.interchange.layouts.matching import Match, converted, match, recognize
from interp.interchange.layouts.tables import LAYOUTS, layout_named
from interp.models import Reader, Tokens, Weights, own_weights, record, weight_shapes
from interp.runs import (
    Checkpoint,
    Run,
    RunWriter,
    as_step,
    finite,
    load_loop_state,
    loop_state_tensors,
    weights_digest,
    write_loop_state,
)

_SIZES = ("n_heads", "d_head", "d_model", "d_mlp")


class LoopState(NamedTuple):
    """What a loop needs to go on: the step, the state dict that was saved with it, and the optimizer's."""

    step: int
    weights: dict[str, Tensor]
    optimizer: Any


class Recorder:
    """Keeps the checkpoints of your own training loop as a run in the folder `out`, which `interp explain`, `report`,
    `watch` and all others then read (of a module `compare`, and exports to other libraries, have too little):

        with interp.Recorder("checkpoints/mine", task, net, tokens="a b", neurons="act") as recorder:
            for step in range(n_steps + 1):
                if step % 100 == 0:
                    recorder.save(step, optimizer=optimizer)
                ...  # one update

    `model` is your `torch.nn.Module`, which is run over all pairs at every save (`tokens`, `neurons`, `embedding` and
    `unembedding` are those of `Checkpoint.from_module`), or a ModelConfig; then weights are saved under our names, or
    in a layout that `interp import` knows, `layout` where several fit. The split is that of `task`. `training`, where
    you can say it in our words, tells explanations of learning rate and weight decay. A run is written by one process
    at a time; a kill at any moment leaves one that opens.

    With `resume` a run that is there is gone on with, after its last step, and `load_state` gives what your loop needs
    to take up where it was.

    >>> from tempfile import TemporaryDirectory
    >>> import interp
    >>> net = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 7))
    >>> with TemporaryDirectory() as folder:
    ...     with Recorder(f"{folder}/mine", interp.Task(7), net, neurons="3") as recorder:
    ...         recorder.save(0)
    ...         recorder.save(10, net.state_dict(), learning_rate=0.01)
    ...     recorder.run.steps, sorted(recorder.run.rows[1])[:3]
    ([0, 10], ['learning_rate', 'step', 'test_accuracy'])
    """

    def __init__(
        self,
        out: str | Path,
        task: Examples,
        model: ModelConfig | nn.Module,
        *,
        training: TrainingConfig | None = None,
        tokens: Tokens = "a b",
        neurons: str | None = None,
        embedding: str | None = None,
        unembedding: str | None = None,
        layout: str | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self._reader = Reader(tokens, neurons, embedding, unembedding)
        self._module = model if isinstance(model, nn.Module) else None
        self._copy: nn.Module | None = None  # of the module, for state dicts
        self._layout = layout
        if self._module is not None:
            known = record(self._module, task, self._reader).model
        elif not isinstance(model, ModelConfig):
            raise InputError(f"a recorder needs a ModelConfig or a torch.nn.Module, got a {type(model).__name__}")
        elif model.is_recorded:
            raise InputError("a ModelConfig of family 'module' is what is recorded of one: give the module itself")
        else:
            known = model
        if resume and (Path(out) / "run.json").is_file():
            self._writer = RunWriter.reopen(out)
            try:
                self._check_same(task, known, training)
            except BaseException:
                self._writer.close()
                raise
            self._layout = layout or self.run.info["recorder"]["layout"]
        else:
            if not overwrite and (Path(out) / "run.json").is_file():
                raise InputError(f"{out} already exists; resume=True goes on with it, overwrite=True replaces it")
            noted = {"recorder": {"layout": layout}}
            self._writer = RunWriter.create(out, task, known, training, overwrite=overwrite, noted=noted)

    @property
    def run(self) -> Run:
        """The run, which can be read while it grows."""
        return self._writer.run

    def save(
        self,
        step: int | Any,  # what is no integer, and a metric that is no number, is told by name
        weights: Mapping[str, Tensor] | nn.Module | None = None,
        optimizer: Any = None,
        *,
        keep: bool = True,
        **metrics: float | Tensor | Any,
    ) -> None:
        """Keep the weights after exactly `step` updates: a state dict or a module; of a recorder that has the module,
        by default its weights now. Steps ascend.

        Losses and accuracies of the splits are computed from these weights. `metrics` are yours; those called like ours
        are kept as `given_…`, as many loops log the loss from before the update. Without `keep` these numbers alone are
        written, and no checkpoint. With `optimizer`, an optimizer or any nested state
        (`{"adam": optimizer.state_dict(), "random": torch.get_rng_state()}`), what `load_state` gives is kept, in place
        of the one before. A step that is there already, with these weights, stays as it is: a loop that was killed
        before its first state begins anew.

        Raises InputError for weights that are not those of the model, and for a state that cannot be kept exactly.
        """
        step = as_step(step)
        if weights is None and self._module is None:
            raise InputError("this recorder has no module: give save the weights too")
        theirs = weights.state_dict() if isinstance(weights, nn.Module) else weights
        kept = self._recorded(theirs) if self._module is not None else self._ours(theirs or {})
        kept = {name: weight.detach().to("cpu", torch.float32) for name, weight in kept.items()}
        known = _metrics(Checkpoint(step, kept, self.run.task, self.run.model, training=self.run.training))
        given = {f"given_{name}" if name in known else name: value for name, value in metrics.items()}
        state = None  # before anything is written: what cannot be kept leaves no step without its state
        if optimizer is not None:
            if theirs is None and self._module is not None:
                theirs = self._module.state_dict()
            tensors = {name: value for name, value in (theirs or {}).items() if isinstance(value, Tensor)}
            moments = optimizer.state_dict() if hasattr(optimizer, "state_dict") else optimizer
            state = loop_state_tensors({"weights": tensors, "optimizer": moments})
        if self._has(step, weights_digest(kept) if keep else None, known | given):
            pass
        elif keep:
            self._writer.append(step, kept, known | given)
        else:
            self._writer.log(step, known | given)
        if state is not None:
            write_loop_state(self._writer, step, state)

    def _has(self, step: int, digest: str | None, metrics: Mapping[str, Any]) -> bool:
        """Whether the line of this step is there. Raises InputError where it is one of other weights or numbers."""
        if self._writer.last_step is None or step > self._writer.last_step:
            return False
        row = next((row for row in self.run.rows if row["step"] == step), None)
        if row is None:
            return False  # the writer says that steps ascend
        if row.get("weights") != digest or (digest is None and {"step": step} | finite(metrics) != row):
            other = "other weights" if digest is not None else "other numbers"
            raise InputError(f"{self.run.path} has step {step} already, with {other}; steps ascend")
        return True

    def load_state(self) -> LoopState | None:
        """What was kept at the last save with an optimizer, None where there was none. What the run has of later steps
        is removed: your loop writes it again.

        >>> from tempfile import TemporaryDirectory
        >>> import interp
        >>> net, task = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(16, 7)), interp.Task(7)
        >>> with TemporaryDirectory() as folder:
        ...     with Recorder(f"{folder}/mine", task, net) as recorder:
        ...         recorder.save(0, optimizer=torch.optim.AdamW(net.parameters()))
        ...         recorder.save(1)
        ...     with Recorder(f"{folder}/mine", task, net, resume=True) as recorder:
        ...         recorder.load_state().step, recorder.run.steps
        (0, [0])
        """
        found = load_loop_state(self.run)
        if found is None:
            return None
        step, state = found
        self._writer.cut_back(step)
        return LoopState(step, state["weights"], state["optimizer"])

    def close(self) -> None:
        """Flush what was logged and let the run go; leaving `with` does it too."""
        self._writer.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- weights -----------------------------------------------------------------------------------------------------

    def _recorded(self, weights: Mapping[str, Tensor] | None) -> Weights:
        """What the module answers, with its weights now or with those given, which go into a copy of it."""
        module = self._module
        assert module is not None
        if weights is not None:
            self._copy = module = copy.deepcopy(module) if self._copy is None else self._copy
            load_strictly(module, weights, "the weights")
        model, kept, _ = record(module, self.run.task, self._reader)
        if model != self.run.model:
            raise InputError(
                f"the module is now {model.module.in_words}, and the run is of {self.run.model.module.in_words}"
            )
        return kept

    def _ours(self, weights: Mapping[str, Tensor]) -> Weights:
        """The weights under our names: as they are, or from the layout that fits the model."""
        model, task = self.run.model, self.run.task
        shapes = {name: tuple(weight.shape) for name, weight in weights.items() if isinstance(weight, Tensor)}
        if self._layout is None and shapes == weight_shapes(model, task.sizes):
            return dict(weights)
        weights = {name: weight.detach().cpu() for name, weight in weights.items() if isinstance(weight, Tensor)}
        sizes = {name: getattr(model, name) for name in _SIZES if getattr(model, name) is not None}
        layouts = list(LAYOUTS.values()) if self._layout is None else [layout_named(self._layout)]
        found: dict[str, Weights] = {}
        refused = []
        for fitting in recognize(shapes, layouts, sizes):
            try:
                found[fitting.layout.name] = _fitted(fitting, weights, model, task.sizes[0])
            except InputError as error:
                refused.append(str(error))
        if not found:
            why = refused[0] if refused else _why_none(shapes, layouts, sizes)
            raise InputError(
                f"the weights are in no layout of this model: {why}. Give them under our names "
                "(interp.models.weight_shapes), or give the recorder the torch.nn.Module itself"
            )
        names = list(found)
        if any(not torch.equal(found[names[0]][key], other[key]) for other in found.values() for key in other):
            raise InputError(
                f"the weights can be read in the layouts {', '.join(map(repr, names))}, and are not the same in each; "
                "give the recorder the right one as layout="
            )
        if self._layout is None:
            self._layout = names[0]
            self._note()
        return found[names[0]]

    # ---- run.json ----------------------------------------------------------------------------------------------------

    def _note(self) -> None:
        """run.json says that the loop is not ours, and in which layout it gives its weights."""
        self._writer.note(recorder={"layout": self._layout})

    def _check_same(self, task: Examples, model: ModelConfig, training: TrainingConfig | None) -> None:
        """Raises InputError unless the run that is there is of this task, model and training, and was recorded."""
        run = self.run
        if not isinstance(run.info.get("recorder"), dict) or "layout" not in run.info["recorder"]:
            raise InputError(f"{run.path} was not written by a recorder, so none goes on with it")
        for name, mine, its in (
            ("task", task, run.task),
            ("model", model, run.model),
            ("training", training, run.training),
        ):
            if mine != its:
                raise InputError(f"{run.path} has another {name}: {_differing(mine, its)}; record into another folder")


def _fitted(fitting: Match, weights: Mapping[str, Tensor], model: ModelConfig, p: int) -> Weights:
    """The weights, from a layout that their names and shapes fit. Raises InputError where they make another model."""
    recognized = {entry.theirs: weights[entry.theirs] for entry in fitting.tensors.values()}
    for name in fitting.left_over:
        if of_no_use(name, weights[name], recognized) is None:
            raise InputError(f"in the layout {fitting.layout.name!r} there is no place for tensor {name!r}")
    given = {name: value for name, value in section_to_dict(model).items() if name not in ("family", "seed")}
    fitted = fit(converted(fitting, weights), fitting.sizes, given, p)
    if (made := replace(fitted.model, seed=model.seed)) != model:
        raise InputError(f"in the layout {fitting.layout.name!r} they make another model: {_differing(made, model)}")
    return fitted.weights


def _why_none(shapes: Mapping[str, tuple[int, ...]], layouts: list, sizes: Mapping[str, int]) -> str:
    misses = [found for layout in layouts if not isinstance(found := match(layout, shapes, sizes), Match)]
    near = max(misses, key=lambda miss: miss.found)
    return f"the nearest is {near.layout.name!r}, but {near.reason}"


def _differing(mine: Any, its: Any) -> str:
    """The fields that differ, in words."""
    if mine is None or its is None or type(mine) is not type(its):
        return f"{type(mine).__name__} in place of {type(its).__name__}"
    one, other = recorded_section(mine), recorded_section(its)
    names = [name for name in {**other, **one} if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {one.get(name)!r} in place of {other.get(name)!r}"[:200] for name in names[:3])


def _metrics(checkpoint: Checkpoint) -> dict[str, float]:
    """Losses and accuracies over the splits, named as in training here, and the norm of all weights. A split that is
    not known has none."""
    task, found = checkpoint.task, {}
    if task.split_known:
        splits = {"train": "train", "test": "test", "unmirrored": "unmirrored_test"}
        if (task.mask("held_out") != task.mask("unmirrored")).any():
            splits["held_out"] = "held_out"
        if task.mask("validation").any():
            splits["validation"] = "validation"
        for split, name in splits.items():
            found |= {f"{name}_loss": checkpoint.trained_loss(split), f"{name}_accuracy": checkpoint.accuracy(split)}
    square = sum(float(weight.double().square().sum()) for weight in own_weights(checkpoint.weights).values())
    return found | {"weight_norm": math.sqrt(square)}
