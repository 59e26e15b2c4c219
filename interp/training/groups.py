"""Which experiments may train side by side: those whose arrays have one shape and whose steps are the same."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from interp.errors import InputError, flag
from interp.experiment import Experiment, Task, hash_of, section_to_dict

# What may differ. All of it are numbers that enter a step as values, and none a shape: of the task, which examples are
# trained on (as many for each) and their labels; of the model, what its first weights are made with; of training, what
# `interp.training.optimizers` and `gradient_filters` multiply by.
MAY_DIFFER = {
    "task": ("seed", "train_fraction", "train_pairs", "split", "label_noise", "test_seed", "teacher_seed"),
    "model": ("seed", "initialization_scale"),
    "training": (
        "seed",
        "lr",
        "weight_decay",
        "betas",
        "eps",
        "momentum",
        "warmup",
        "filter.strength",
        "filter.memory",
    ),
}


def groups(experiments: Sequence[Experiment]) -> list[list[int]]:
    """The places of the experiments that may train side by side, together; every place once, in the order of the first
    of each group.

    They may differ in the seeds, and in the numbers of training and task that need no other shape (`MAY_DIFFER`), at
    equal numbers of training, of test and of validation examples.

    >>> from dataclasses import replace
    >>> base = Experiment()
    >>> faster = replace(base, training=replace(base.training, lr=0.1))
    >>> longer = replace(base, training=replace(base.training, steps=9000))
    >>> groups([base, longer, faster])
    [[0, 2], [1]]
    """
    found: dict[str, list[int]] = {}
    for place, experiment in enumerate(experiments):
        found.setdefault(group_of(experiment), []).append(place)
    return list(found.values())


def group_of(experiment: Experiment) -> str:
    """A name that is the same for experiments that may train side by side, and for no others.

    >>> from dataclasses import replace
    >>> other = replace(Experiment(), model=replace(Experiment().model, seed=7))
    >>> group_of(Experiment()) == group_of(other)
    True
    """
    return hash_of(_common(experiment))


def check_together(experiments: Sequence[Experiment]) -> None:
    """Raises InputError, with the field and both values, unless all of the experiments may train side by side.

    >>> from interp.experiment import Task
    >>> check_together([Experiment(Task(43)), Experiment(Task(43, seed=1))])
    >>> check_together([Experiment(Task(43)), Experiment(Task(47))])
    Traceback (most recent call last):
        ...
    interp.errors.InputError: experiments that train together have one task.p, and these have 43 and 47
    """
    first = _common(experiments[0])
    for experiment in experiments[1:]:
        other = _common(experiment)
        for name in first | other:
            one, two = first.get(name), other.get(name)
            if one != two:
                told = f"experiments that train together have one {name}, and these have {one!r:.60} and {two!r:.60}"
                if isinstance(experiment.task, Task) and experiment.task.augmentation != "none":
                    told += "; how many mirrors are added depends on the seed: train them one by one (`interp sweep`)"
                raise InputError(told)


def _common(experiment: Experiment) -> dict[str, Any]:
    """What has to be the same, by the name that a person knows it by."""
    task, model, training = experiment.task, experiment.model, experiment.training
    sections = {"task": task, "model": model, "training": training}
    common: dict[str, Any] = {"kind of task": type(task).__name__}
    for section, config in sections.items():
        values = section_to_dict(config)
        common |= {f"{section}.{flag(name)}": value for name, value in _flat(values) if name not in MAY_DIFFER[section]}
    common["number of training examples"] = len(task.train_indices)
    common["number of test examples"] = int(task.mask("test").sum())
    common["number of validation examples"] = int(task.mask("validation").sum())
    return common


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Fields, those of nested configurations with a dot."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
