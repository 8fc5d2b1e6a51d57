"""Keys of an update on inputs whose directions are known."""

import numpy as np
import pytest
import torch

from npt_viz.editing.making.keys import without_effect_on
from npt_viz.editing.updates import Factors
from npt_viz.errors import NptVizError

WIDTH, OUT = 7, 5


@pytest.mark.parametrize("unit", [1e-2, 1.0, 1e2])
def test_a_key_is_projected_off_all_that_is_read_but_for_what_rounding_leaves(unit):
    """Three directions are read with strengths 1, 1e-3 and 1e-7: the last is below PROTECTED_SHARE and stays."""
    protected = unit * torch.diag(torch.tensor([1.0, 1e-3, 1e-7])) @ torch.eye(3, WIDTH)
    factors = Factors(np.ones((2, WIDTH)), np.random.default_rng(0).normal(size=(2, OUT)))
    kept, share = without_effect_on(factors, protected, torch.ones(1, WIDTH), "it")
    np.testing.assert_allclose(kept.v_a, [[0, 0, 1, 1, 1, 1, 1]] * 2, atol=1e-6)
    # Of seven equal parts of the effect at the source two are gone, and v_b makes up for them.
    assert share == pytest.approx(5 / 7)
    np.testing.assert_allclose(kept.v_b, factors.v_b * 7 / 5, rtol=1e-6)


@pytest.mark.parametrize(("rest", "refused"), [(2e-3, False), (5e-4, True)])
def test_a_projection_that_leaves_less_than_a_thousandth_of_the_effect_is_refused(rest, refused):
    protected, source = torch.eye(1, 2), torch.tensor([[1.0, rest]])
    factors = Factors(np.ones((1, 2)), np.ones((1, OUT)))
    if refused:
        with pytest.raises(
            NptVizError, match=r"it: .* \(1 directions of 2\), so nothing of the update is left"
        ):
            without_effect_on(factors, protected, source, "it")
    else:
        assert without_effect_on(factors, protected, source, "it")[1] == pytest.approx(rest, rel=1e-2)
