"""What a configuration beside the weights, or stored with them, says in its author's words, in ours."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from interp.errors import InputError
from interp.experiment import experiment_from_toml, section_from_dict
from interp.interchange.importing.sources import Source
from interp.machine import read_json

Fields = dict[str, Any]

_OPERATIONS = {
    **dict.fromkeys(("add", "addition", "plus", "sum", "x+y", "a+b", "(x+y)", "mod_add", "modular_addition"), "add"),
    **dict.fromkeys(("subtract", "subtraction", "minus", "sub", "x-y", "a-b"), "subtract"),
    **dict.fromkeys(("multiply", "multiplication", "mul", "x*y", "a*b", "product"), "multiply"),
    **dict.fromkeys(("divide", "division", "div", "x/y", "a/b"), "divide"),
    **dict.fromkeys(("x2+y2", "x^2+y^2", "x**2+y**2"), "x2+y2"),
    **dict.fromkeys(("x2+xy+y2", "x^2+xy+y^2", "x**2+x*y+y**2"), "x2+xy+y2"),
    **dict.fromkeys(("x3+xy", "x^3+xy", "x**3+x*y"), "x3+xy"),
}


def _operation(value: Any) -> str | None:
    """An operation by its name, or by a formula such as `lambda x: (x[0]+x[1])%59`, which is read and never run."""
    if not isinstance(value, str) or len(value) > 200:
        return None
    formula = re.sub(r"^lambda [\w, ]+:|%\s*\w+|\bmod\s+\w+|\s", "", value.lower())
    formula = formula.replace("x[0]", "x").replace("x[1]", "y").strip("()")
    return _OPERATIONS.get(formula)


def _activation(value: Any) -> str | None:
    name = value.lower() if isinstance(value, str) else None
    return {
        "relu": "relu",
        "gelu": "gelu",
        "square": "square",
        "quad": "square",
        "quadratic": "square",
        "x^2": "square",
    }.get(name or "")


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _share(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value <= 1 else None


# Their key → where it goes, and how it is read. What cannot be read so is as if it were not there.
_KEYS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("p", "C", "prime", "modulus", "mod"), ("task", "p", _whole)),
    **dict.fromkeys(("operation", "fn_name", "function", "op", "funcs", "func"), ("task", "operation", _operation)),
    **dict.fromkeys(
        ("train_fraction", "frac_train", "frac", "train_frac", "training_fraction"), ("task", "train_fraction", _share)
    ),
    **dict.fromkeys(("attn_coeff", "attention_rate"), ("model", "attention_rate", _share)),
    **dict.fromkeys(("act_fn", "act_type", "activation", "act"), ("model", "activation", _activation)),
    **dict.fromkeys(("n_heads", "num_heads", "n_head", "heads"), ("model", "n_heads", _whole)),
    **dict.fromkeys(("n_layers", "num_layers", "n_layer"), ("model", "n_layers", _whole)),
    **dict.fromkeys(("d_model", "dim", "hidden_size", "n_embd"), ("model", "d_model", _whole)),
    **dict.fromkeys(("d_head",), ("model", "d_head", _whole)),
    **dict.fromkeys(("d_mlp", "d_ff"), ("model", "d_mlp", _whole)),
}


def from_keys(content: Mapping[Any, Any]) -> tuple[Fields, Fields]:
    """The fields of task and model that a dictionary of somebody's configuration tells."""
    found: dict[str, Fields] = {"task": {}, "model": {}}
    for key, value in content.items():
        if isinstance(key, str) and key in _KEYS:
            section, name, read = _KEYS[key]
            if (known := read(value)) is not None:
                found[section].setdefault(name, known)
    if "attn_coeff" in content:
        # Zhong et al.'s code: `attention_dir` is stored, misspelt, and never read; every position sees every other.
        found["model"].setdefault("causal", False)
    elif content.get("attention_dir") in ("causal", "bidirectional"):
        found["model"].setdefault("causal", content["attention_dir"] == "causal")
    if isinstance(content.get("diff_vocab"), bool):
        found["model"].setdefault("vocabularies", "two" if content["diff_vocab"] else "one")
    if isinstance(content.get("eqn_sign"), bool):
        found["model"].setdefault("prompt", "ab=" if content["eqn_sign"] else "ab")
    return found["task"], found["model"]


def configuration_of(source: Source, given: Path | None = None) -> tuple[Fields, Fields, str]:
    """Fields of task and model, and where they are from: the file that is given, or one beside the weights
    (`config.json`, `config_NAME.json` beside `model_NAME.pt`, `NAME.json` beside `NAME.pt`), or what lies in the same
    dictionary as the weights."""
    path = given or next((path for path in _beside(source.path) if path.is_file()), None)
    if path is None:
        inside = {key: value for key, value in source.beside.items() if not isinstance(value, Mapping)}
        for name in ("config", "cfg", "args", "hparams", "hyperparameters"):
            if isinstance(source.beside.get(name), Mapping):
                inside = {**inside, **source.beside[name]}
        task, model = from_keys(inside)
        return task, model, "the file of weights" if task or model else ""
    if path.suffix == ".toml":
        return *_from_toml(path), path.name
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is no configuration: it holds a {type(content).__name__}, expected an object")
    return *(_ours(content) if content.get("model_type") == "interp" else from_keys(content)), path.name


def raw_configuration(source: Source, given: Path | None = None) -> dict[str, Any] | None:
    """The configuration as its author wrote it, where there is one: the file that is given or lies beside the weights,
    or what is stored with them."""
    path = given or next((path for path in _beside(source.path) if path.is_file()), None)
    if path is not None:
        if path.suffix == ".toml":
            import tomllib

            try:
                return tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InputError(f"cannot read {path}: {error}") from None
        content = read_json(path)
        return content if isinstance(content, dict) else None
    inside = (source.beside.get(name) for name in ("config", "cfg", "args", "hparams", "hyperparameters"))
    return next((dict(content) for content in inside if isinstance(content, Mapping)), None)


def _ours(content: Mapping[str, Any]) -> tuple[Fields, Fields]:
    """What the config.json of an exported run says; what weights were drawn from it does not."""
    task, model = (content[name] if isinstance(content.get(name), dict) else {} for name in ("task", "model"))
    section_from_dict("model", model)  # its values are checked here
    told, _ = from_keys({name: task.get(name) for name in ("p", "operation", "train_fraction")})
    return told, {name: value for name, value in model.items() if name not in ("family", "seed")}


def _beside(weights: Path) -> list[Path]:
    stem = weights.stem.removesuffix(".safetensors")
    names = [f"{stem}.json", re.sub(r"^[a-zA-Z]+_", "config_", stem) + ".json", f"config_{stem}.json", "config.json"]
    return [weights.parent / name for name in dict.fromkeys(names)]


def _from_toml(path: Path) -> tuple[Fields, Fields]:
    """The fields that a file of ours gives; the file is checked whole, as in training."""
    import tomllib

    experiment_from_toml(path)
    content = tomllib.loads(path.read_text(encoding="utf-8"))

    def fields(section: str) -> Fields:
        return {key.replace("-", "_"): value for key, value in content.get(section, {}).items()}

    return fields("task"), fields("model")


def shown(fields: Mapping[str, Any]) -> str:
    """Fields in one line."""
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in fields.items())
