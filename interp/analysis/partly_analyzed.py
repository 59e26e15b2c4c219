"""What is raised where some of what was asked for could be computed."""

from typing import TYPE_CHECKING

from interp.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


class PartlyAnalyzed(InputError):
    """Some of the analyses that were asked for could not be computed; `results` has the others, by name.

    >>> PartlyAnalyzed("a checkpoint is damaged", {}).results
    {}
    """

    def __init__(self, message: str, results: "dict[str, xr.Dataset]") -> None:
        super().__init__(message)
        self.results = results
