"""Series of bare weights, measured by the analyses that ask for weights alone."""

import numpy as np
import pytest
import torch

from interp import InputError, reference_path
from interp.analysis import discover, measure_series
from interp.runs import Weighted, open_run


def test_norms_of_any_network() -> None:
    series = [Weighted(step, {"layer": torch.full((2, 2), float(step)), "bias": torch.ones(3)}) for step in (1, 2, 5)]
    result = measure_series(series, "weight_norms")
    assert result.step.values.tolist() == [1, 2, 5]
    np.testing.assert_allclose(result.l2.sel(tensor="layer"), [2, 4, 10])
    np.testing.assert_allclose(result.total_l2, np.sqrt(np.array([4, 16, 100]) + 3))
    assert np.isnan(result.embedding_l2).all()
    assert np.isnan(result.unembedding_l2).all()


@pytest.mark.parametrize("name", [name for name, one in discover().items() if one.asks == "weights"])
def test_bare_weights_of_a_run_give_what_its_checkpoints_give_where_weights_are_enough(name: str) -> None:
    run = open_run(reference_path())
    steps = run.steps[:3]
    of_checkpoints = measure_series((run[step] for step in steps), name)
    bare = measure_series((Weighted(step, run[step].weights) for step in steps), name)
    known = [variable for variable in bare.data_vars if np.isfinite(bare[variable]).all()]
    assert known
    for variable in known:
        np.testing.assert_array_equal(bare[variable], of_checkpoints[variable])
    plotted = discover()[name].module.plot(bare)
    assert len(plotted.data)


@pytest.mark.parametrize("name", [name for name, one in discover().items() if one.asks != "weights"])
def test_what_asks_for_more_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} asks for more than weights"):
        measure_series([Weighted(0, {"layer": torch.ones(2)})], name)


def test_an_empty_series_and_one_of_several_networks_are_refused() -> None:
    with pytest.raises(InputError, match="no members"):
        measure_series([], "weight_norms")
    with pytest.raises(ValueError, match="tensor"):
        measure_series([Weighted(0, {"one": torch.ones(2)}), Weighted(1, {"other": torch.ones(2)})], "weight_norms")
