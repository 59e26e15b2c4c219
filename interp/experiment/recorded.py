"""Configurations as JSON values: what is hashed, and what run.json and TOML files hold.

A field that came after the format was first written says so, `field(default=…, metadata={"later": True})`: it is not
recorded where it has its default, a nested configuration as a whole, so that the experiments that there were before it
keep their hashes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from interp.errors import InputError, check_choice, flag, unknown_name
from interp.experiment.model import ModelConfig
from interp.experiment.samples import Samples
from interp.experiment.task import Task
from interp.experiment.training import TrainingConfig

SECTIONS: dict[str, type] = {"task": Task, "model": ModelConfig, "training": TrainingConfig}
# What a section can be besides, by the word that it then records as its `kind`.
KINDS: dict[str, dict[str, type]] = {"task": {"samples": Samples}}


def hash_of(values: Any) -> str:
    """16 hex digits of the SHA-256 of the sorted, compact JSON of `values`.

    >>> hash_of({"lr": 0.01, "p": 113}) == hash_of({"p": 113, "lr": 0.01})
    True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def json_values(value: Any) -> Any:
    """The JSON values of plain data: numpy's numbers as Python's, keys as strings, None for a number that is not
    finite.

    >>> json_values({"loss": np.float32(0.5), 113: [math.nan, np.int64(7)]})
    {'loss': 0.5, '113': [None, 7]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(name): json_values(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def section_to_dict(config: Any) -> dict[str, Any]:
    """The JSON values of a configuration, every field present, nested ones too. A number in a float field is a float,
    so that lr = 1 and lr = 1.0 are one experiment.

    >>> section_to_dict(TrainingConfig(lr=1))["lr"], section_to_dict(ModelConfig())["vocabularies"]
    (1.0, 'one')
    """
    return _values(config, recorded=False)


def recorded_section(config: Any) -> dict[str, Any]:
    """The JSON values of a configuration, without the later fields that are at their default.

    >>> "vocabularies" in recorded_section(ModelConfig())
    False
    >>> recorded_section(ModelConfig(vocabularies="two"))["vocabularies"]
    'two'
    """
    return _values(config, recorded=True)


def _values(config: Any, *, recorded: bool) -> dict[str, Any]:
    types = get_type_hints(type(config))
    names = {kind: name for kinds in KINDS.values() for name, kind in kinds.items()}
    values: dict[str, Any] = {"kind": names[type(config)]} if type(config) in names else {}
    for field in fields(config):
        value, kind = getattr(config, field.name), types[field.name]
        if recorded and field.metadata.get("later") and value == field.default:
            continue
        if is_dataclass(value):
            value = _values(value, recorded=recorded)
        elif kind is float:
            value = float(value)
        elif get_origin(kind) is tuple and float in get_args(kind):
            value = [float(entry) for entry in value]
        values[field.name] = value
    return json.loads(json.dumps(values))


def section_from_dict(section: str, values: Mapping[str, Any], base: Any = None) -> Any:
    """One of the three configurations from a mapping; names may use - or _; what is not given is taken from `base`, if
    that is of the same kind, or the defaults.

    Raises InputError for a name that does not exist (with the nearest that does) and for a value of the wrong type.

    >>> section_from_dict("model", {"d-mlp": 64}).d_mlp
    64
    >>> section_from_dict("model", {"d_mpl": 64})
    Traceback (most recent call last):
        ...
    interp.errors.InputError: unknown field in [model] 'd_mpl'; did you mean 'd-mlp'?
    """
    kinds = KINDS.get(section, {})
    kind = SECTIONS[section]
    if "kind" in values and kinds:
        check_choice(f"{section}.kind", values["kind"], kinds)
        kind = kinds[values["kind"]]
        values = {name: value for name, value in values.items() if name != "kind"}
    elif base is not None and not values:
        return base
    return _from_dict(section, kind, values, base if type(base) is kind else None)


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, lists within lists too."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


@cache
def _checker(kind: Any) -> Any:
    """What checks values of a type; made once, which takes longer than all its checks of a run."""
    from pydantic import TypeAdapter  # which only who reads a configuration has to wait for

    return TypeAdapter(kind)


def _from_dict(section: str, kind: type, values: Mapping[str, Any], base: Any) -> Any:
    from pydantic import ValidationError

    types = get_type_hints(kind)
    given = {}
    for name, value in values.items():
        field_name = name.replace("-", "_")
        if field_name not in types:
            raise unknown_name(f"field in [{section}]", name, sorted(map(flag, types)))
        path = f"{section}.{flag(field_name)}"
        if is_dataclass(types[field_name]):
            if not isinstance(value, Mapping):
                raise InputError(f"{path} must be a table of fields, got {value!r}")
            within = getattr(base, field_name) if base is not None else None
            given[field_name] = _from_dict(path, types[field_name], value, within)
            continue
        as_field = _tuples(value)
        try:
            given[field_name] = _checker(types[field_name]).validate_python(as_field, strict=True)
        except ValidationError as error:
            raise InputError(f"{path}: {error.errors()[0]['msg'].lower()}, got {value!r}") from None
    return replace(base, **given) if base is not None else kind(**given)


def choices_of(name: str) -> tuple[str, ...]:
    """The words that a field can have, by its full name, where these are fixed; none of any other field.

    >>> choices_of("training.optimizer"), choices_of("model.norm.kind"), choices_of("model.tied")
    (('adamw', 'adam', 'sgd', 'rmsprop', 'muon'), ('none', 'layer', 'rms'), ('true', 'false'))
    >>> choices_of("training.lr"), choices_of("final")
    ((), ())
    """
    section, *path = name.replace("-", "_").split(".")
    kinds: list[Any] = [SECTIONS.get(section), *KINDS.get(section, {}).values()]
    for part in path:
        kinds = [get_type_hints(kind).get(part) for kind in kinds if is_dataclass(kind)]
    choices: list[str] = []
    for kind in kinds:
        if kind is bool:
            choices += ["true", "false"]
        elif get_origin(kind) is Literal:
            choices += get_args(kind)
        elif kind is not None and not is_dataclass(kind):
            return ()
    return tuple(dict.fromkeys(choices))
