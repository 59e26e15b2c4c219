"""Configurations as JSON values: what is hashed, and what run.json and TOML files hold."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, get_type_hints

from interp.errors import InputError, flag, unknown_name
from interp.experiment.model import ModelConfig
from interp.experiment.task import Task
from interp.experiment.training import TrainingConfig

# Not written at their default, so that the experiments that there were before them keep their hashes.
LATER_FIELDS = ("vocabularies",)


SECTIONS: dict[str, type] = {"task": Task, "model": ModelConfig, "training": TrainingConfig}


def hash_of(values: Any) -> str:
    """16 hex digits of the SHA-256 of the sorted, compact JSON of `values`."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def section_to_dict(config: Any) -> dict[str, Any]:
    """The JSON values of a configuration, every field present. A number in a float field is a float, so that lr = 1 and
    lr = 1.0 are one experiment."""
    types = get_type_hints(type(config))
    values: dict[str, Any] = {
        name: float(value) if types[name] is float else value for name, value in asdict(config).items()
    }
    if "betas" in values:
        values["betas"] = [float(beta) for beta in values["betas"]]
    return json.loads(json.dumps(values))


def recorded_section(config: Any) -> dict[str, Any]:
    """The JSON values of a configuration, without those of LATER_FIELDS that are at their default."""
    defaults = type(config).__dataclass_fields__
    values = section_to_dict(config)
    return {
        name: value for name, value in values.items() if name not in LATER_FIELDS or value != defaults[name].default
    }


def section_from_dict(section: str, values: Mapping[str, Any], base: Any = None) -> Any:
    """One of the three configurations from a mapping; names may use - or _; what is not given is taken from `base` or
    the defaults.

    Raises InputError for a name that does not exist (with the nearest that does) and for a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    kind = SECTIONS[section]
    types = get_type_hints(kind)
    given = {}
    for name, value in values.items():
        field_name = name.replace("-", "_")
        if field_name not in types:
            raise unknown_name(f"field in [{section}]", name, sorted(map(flag, types)))
        as_field = tuple(value) if isinstance(value, list) else value
        try:
            given[field_name] = TypeAdapter(types[field_name]).validate_python(as_field, strict=True)
        except ValidationError as error:
            raise InputError(
                f"{section}.{flag(field_name)}: {error.errors()[0]['msg'].lower()}, got {value!r}"
            ) from None
    return replace(base, **given) if base is not None else kind(**given)
