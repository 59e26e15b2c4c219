"""Watch a neural network grok: train, checkpoint, analyze and explain the transition from memorizing to generalizing.

    import interp

    run = interp.open_run(interp.reference_path())
    run.key_frequencies

Each public name is loaded when it is first asked for, so that `import interp` costs nothing; the list of them is
`__init__.pyi`. Packages are imported by their own names, as in `from interp.mathematics import fourier`.
"""

from pathlib import Path

import lazy_loader

__version__ = "0.1.0"

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["reference_path"]


def __dir__() -> list[str]:
    return sorted(__all__)


def reference_path() -> Path:
    """The folder of the small grokked run that comes with the package.

    Raises InputError where the package is not installed.

    >>> import interp
    >>> interp.open_run(interp.reference_path()).key_frequencies
    [3, 11, 12]
    """
    from importlib import import_module

    try:
        reference = import_module("interp.reference")
    except ModuleNotFoundError:
        from interp.errors import InputError

        raise InputError(
            "the reference run is not there: interp is not installed; run `pip install -e .` in its folder"
        ) from None
    return Path(str(reference.__file__)).parent
