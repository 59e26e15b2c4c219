"""What an analysis is, and which ones there are: the files of `interp.analyses` and what other packages add.

An analysis is a module (see CONTRIBUTING) with `REFERENCE`, and

    measure(checkpoint, *, …) → xr.Dataset     one checkpoint, the same shapes at every step, or
    compute(run, *, …) → xr.Dataset            a whole run, with a dimension `step` where it has one; where it takes
                                               long, it has a parameter `progress`, which wraps the steps it walks over
    summary(result) → dict                     the numbers of a result, NaN where unknown
    plot(result) → plotly figure

What else it may say of itself, and what holds otherwise:

    NEEDS: tuple[str, ...] = ()                the analyses whose results its `compute` reads
    FAMILIES: tuple[str, ...] = all of them    the families of models that it can be asked about
    ASKS: str = "phases"                       what it needs: "weights" alone, "answers" to labeled examples of any
                                               kind, or "phases", those of pairs over Z_p, or "operations", answers
                                               for each of several operations
    READS: tuple[str, ...] = ("network",)      what it reads beside weights and answers to all examples: "neurons", or
                                               "network", anything else (matrices, gradients, other inputs or weights);
                                               () for none. Of a recorded module only what was recorded can be read
    CORE: bool = False                         whether the story needs it: the core is what runs when nothing is named
    ON_REQUEST: bool = False                   left out where all are asked for: it takes long
    MOST_STEPS: int | None = None              at most so many checkpoints of a run (`interp.analysis.steps_to_show`)
    OBSERVES: tuple[str, ...] = ()             what has to have been observed while a run was trained ("gradients",
                                               `interp train --observe`): it is asked for by its name alone
    SCALES: dict[str, Scale] = {"": "signed"}  on what scale which numbers of its summary are compared
    TABLES: tuple[tuple[str, ...], ...] = ()   sets of axes, beside the step, that make one table with a row for each
                                               combination (`interp.analysis.table`); without it a variable of more
                                               than two axes has a table of its own, its last axis along the columns
    PLACE: int | None = None                   its place among the analyses of its group; the others follow, by name
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, Literal, get_args

import xarray as xr

from interp.analysis.sources import source_digest
from interp.errors import InputError, unknown_name
from interp.experiment import Examples, Family, ModelConfig, Operations, Task, hash_of, json_values
from interp.figures import readable

ENTRY_POINTS = "interp.analyses"
PLUG_IN = "plug-in"
_FIRST_GROUPS = ("dynamics", "circuit", "norms")
Scale = Literal["magnitude", "share", "index", "signed"]


@dataclass(frozen=True)
class Analysis:
    """One analysis, by name.

    >>> analysis = find("frequency_ablation")
    >>> analysis.title
    'Frequency ablation. What does the network lose without a frequency, and what is left when it has no other?'
    >>> analysis.asks, analysis.of_run, analysis.parameters["threshold"]
    ('phases', False, 0.85)
    """

    name: str
    module: ModuleType

    @property
    def title(self) -> str:
        """The first paragraph of its docstring."""
        return " ".join((self.module.__doc__ or self.name).strip().partition("\n\n")[0].split()).rstrip(".")

    @property
    def needs(self) -> tuple[str, ...]:
        """The analyses whose results its `compute` reads."""
        return tuple(getattr(self.module, "NEEDS", ()))

    @property
    def families(self) -> tuple[str, ...]:
        """The families of models that it can be asked about."""
        return tuple(getattr(self.module, "FAMILIES", get_args(Family)))

    @property
    def asks(self) -> Literal["weights", "answers", "phases", "operations"]:
        """What it needs of what it is given: weights alone; answers to labeled examples of any kind; phases, those of
        pairs over Z_p, which is what an analysis asks that says nothing; or answers for each of several operations."""
        return getattr(self.module, "ASKS", "phases")

    @property
    def reads(self) -> tuple[str, ...]:
        """What it reads of a network beside its weights and its answers to all examples: "neurons", or "network" for
        anything else, which is what an analysis reads that says nothing and asks for more than weights."""
        return tuple(getattr(self.module, "READS", () if self.asks == "weights" else ("network",)))

    def lacks(self, model: ModelConfig) -> tuple[str, ...]:
        """What it reads and a model does not have: of a recorded module there is only what was recorded."""
        return tuple(what for what in self.reads if what not in model.module.holds) if model.is_recorded else ()

    def is_for(self, task: Examples, model: ModelConfig) -> bool:
        """Whether it can be asked about runs of this model on these examples."""
        kind = {"phases": Task, "operations": Operations}.get(self.asks, object)
        is_about = isinstance(task, kind)
        return model.family in self.families and is_about and not self.lacks(model)

    def check_is_for(self, task: Examples, model: ModelConfig) -> None:
        """Raises InputError unless the analysis can be asked about this model on these examples."""
        self.check_family(model)
        if lacking := self.lacks(model):
            what = "the network itself (matrices, gradients or other inputs)" if "network" in lacking else lacking[0]
            held = ", ".join(("logits", *model.module.holds))
            hint = "" if "network" in lacking else f"; name its {lacking[0]} when it is imported or recorded"
            raise InputError(f"{self.name} reads {what}, and of this module {held} were recorded{hint}")
        if self.asks == "operations" and not self.is_for(task, model):
            raise InputError(f"{self.name} is about several operations in one network, and this one is of {task.title}")
        if not self.is_for(task, model) and isinstance(task, Operations):
            raise InputError(
                f"{self.name} is about one table over Z_p, and this network has several ({task.title}); `interp "
                f"extract RUN {task.operations[0]}` makes a run of one, and checkpoint.of_operation a checkpoint"
            )
        if not self.is_for(task, model):
            raise InputError(f"{self.name} is about pairs over Z_p, and these examples are vectors: {task.title}")

    @property
    def group(self) -> str:
        """The folder it lies in, or "plug-in" for one that another package adds."""
        within, *names = self.module.__name__.removeprefix("interp.analyses.").split(".")
        return within if names and self.module.__name__.startswith("interp.analyses.") else PLUG_IN

    @property
    def core(self) -> bool:
        """Whether the story of a run needs it."""
        return getattr(self.module, "CORE", False)

    @property
    def on_request(self) -> bool:
        """Whether it is left out where all are asked for."""
        return getattr(self.module, "ON_REQUEST", False)

    @property
    def observes(self) -> tuple[str, ...]:
        """What has to have been observed while a run was trained: of most runs it is not there, so the analysis is left
        out where several are asked for at once."""
        return tuple(getattr(self.module, "OBSERVES", ()))

    @property
    def tables(self) -> tuple[tuple[str, ...], ...]:
        """The sets of axes, beside the step, that make a table of rows (`interp.analysis.table`)."""
        return tuple(getattr(self.module, "TABLES", ()))

    @property
    def most_steps(self) -> int | None:
        """At how many checkpoints of a run it is measured at most; None: at all."""
        return getattr(self.module, "MOST_STEPS", None)

    @property
    def reading_place(self) -> tuple:
        """What sorts analyses as one reads them: what happened first, then the circuit, then the weights; the other
        groups by name, and what other packages add last."""
        groups = (self.group == PLUG_IN, _FIRST_GROUPS.index(self.group) if self.group in _FIRST_GROUPS else math.inf)
        return *groups, self.group, getattr(self.module, "PLACE", math.inf), self.name

    def check_family(self, model: ModelConfig) -> None:
        """Raises InputError unless the analysis can be asked about this model."""
        if model.family not in self.families:
            raise InputError(
                f"{self.name} is about a model.family of {' or '.join(map(repr, self.families))}, and this is "
                f"{model.family!r}"
            )

    @property
    def of_run(self) -> bool:
        """Whether it sees a whole run (`compute`) and not one checkpoint at a time (`measure`)."""
        return hasattr(self.module, "compute")

    @property
    def function(self) -> Callable[..., xr.Dataset]:
        """Its `compute` or `measure`."""
        return self.module.compute if self.of_run else self.module.measure

    def summary(self, result: xr.Dataset) -> dict[str, Any]:
        """What its `summary` says of a result, as JSON values: None for what is not finite."""
        return json_values(self.module.summary(result))

    def lines(self, result: xr.Dataset) -> list[str]:
        """The summary for a person: what its `in_words` makes of it, and otherwise a line for every entry."""
        told = self.summary(result)
        if (in_words := getattr(self.module, "in_words", None)) is not None:
            return in_words(told)
        return [f"{key.replace('_', ' ')}: {readable(value)}" for key, value in told.items()]

    @property
    def scales(self) -> dict[str, Scale]:
        """The scales on which numbers of its summary are compared (`interp.explanation.quantities`), by the dotted name
        of a number or of what it is in; others are not compared. Where it does not say (SCALES), "" stands for all."""
        return getattr(self.module, "SCALES", {"": "signed"})

    @property
    def parameters(self) -> dict[str, Any]:
        """Its keyword parameters and their defaults; `progress` is none of them."""
        signature = inspect.signature(self.function).parameters
        return {name: p.default for name, p in signature.items() if p.kind is p.KEYWORD_ONLY and name != "progress"}

    @property
    def shows_progress(self) -> bool:
        """Whether its `compute` takes `progress`, which wraps the steps that it walks over."""
        return self.of_run and "progress" in inspect.signature(self.function).parameters

    def resolve(self, given: dict[str, Any]) -> dict[str, Any]:
        """All parameters, `given` before defaults. Raises InputError, with the nearest name, for one that does not
        exist."""
        for name in given:
            if name not in self.parameters:
                raise unknown_name(f"parameter of {self.name}", name, self.parameters)
        return self.parameters | given

    @property
    def version(self) -> str:
        """A hash of its source, of what that imports of interp, directly or not, and of the analyses it needs."""
        digest = source_digest(self.module, "Run" if self.of_run else "Checkpoint")
        return hash_of([digest, *(find(name).version for name in self.needs)])


@cache
def discover() -> dict[str, Analysis]:
    """Every analysis, by name, in alphabetical order: the files of the package and the entry points of the group
    `interp.analyses`.

    Raises InputError when two have one name, naming both. One that cannot be imported is left out with a warning: a
    plug-in that is broken must not make the other analyses unavailable.

    >>> {"weight_norms", "neuron_periodicity", "transitions"} <= discover().keys()
    True
    """
    try:
        package = import_module("interp.analyses")
    except ModuleNotFoundError:
        raise InputError(
            "interp.analyses is not installed; in the folder of the source: pip install -c constraints.txt -e ."
        ) from None
    modules = {}
    for info in walk_packages(package.__path__, "interp.analyses."):
        name = info.name.rpartition(".")[2]
        if name in modules:
            raise InputError(f"two analyses are called {name!r}: {modules[name]} and {info.name}")
        if not info.ispkg:
            modules[name] = info.name
    own = set(modules.values())
    for point in entry_points(group=ENTRY_POINTS):
        if modules.get(point.name, point.value) != point.value:
            raise InputError(f"two analyses are called {point.name!r}: {modules[point.name]} and {point.value}")
        modules[point.name] = point.value
    found = {}
    for name in sorted(modules):
        try:
            found[name] = Analysis(name, import_module(modules[name]))
        except Exception as error:
            if modules[name] in own:
                raise
            warnings.warn(
                f"the analysis {name!r} is left out: {modules[name]} cannot be imported ({error})", stacklevel=2
            )
    return found


def find(name: str) -> Analysis:
    """An analysis by name; InputError with the nearest name for one that does not exist.

    >>> find("weight_norms").asks
    'weights'
    >>> find("weight_norm")
    Traceback (most recent call last):
        ...
    interp.errors.InputError: unknown analysis 'weight_norm'; did you mean 'weight_norms'?
    """
    known = discover()
    if name not in known:
        raise unknown_name("analysis", name, known)
    return known[name]


def select(words: Iterable[str | Analysis], task: Examples, model: ModelConfig) -> list[Analysis]:
    """The analyses that are asked for: by name, by group, "core", or "all" but those on request; those that ask for
    observations by name alone. A word for several means those that can be asked about the examples and the model.
    Raises InputError, with the nearest word, for one that is none."""
    known = discover()
    several = {
        "core": [analysis for analysis in known.values() if analysis.core],
        "all": [analysis for analysis in known.values() if not (analysis.on_request or analysis.observes)],
    }
    for analysis in (one for one in known.values() if not one.observes):
        several.setdefault(analysis.group, []).append(analysis)
    selected = {}
    for word in words:
        if isinstance(word, Analysis):
            chosen = [word]
        elif word in known:
            chosen = [known[word]]
        elif word in several:
            chosen = [analysis for analysis in several[word] if analysis.is_for(task, model)]
            if not chosen:
                raise InputError(f"no analysis of {word!r} can be asked about {task.title} and a {model.family}")
        else:
            raise unknown_name("analysis", word, (*known, *several))
        selected |= {analysis.name: analysis for analysis in chosen}
    return list(selected.values())
