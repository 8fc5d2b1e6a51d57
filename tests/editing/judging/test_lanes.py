"""Groups of lanes against the bytes that their activations take."""

import pytest
from conftest import specimen

from npt_viz.editing.judging import lanes
from npt_viz.editing.judging.lanes import lane_batches


@pytest.mark.parametrize(("spare", "sizes"), [(0, [2, 2, 1]), (-1, [1, 1, 1, 1, 1])])
def test_a_group_of_lanes_takes_at_most_the_bytes_it_may(tiny_llama, monkeypatch, spare, sizes):
    """gate, up and their product: three float32 activations of (token, d_ffn) a lane."""
    n_tokens = 7
    monkeypatch.setattr(lanes, "BATCH_BYTES", 2 * 3 * n_tokens * 31 * 4 + spare)
    every = [{layer: specimen(tiny_llama, "N1", layer)} for layer in range(5)]
    groups = list(lane_batches(tiny_llama, every, n_tokens))
    assert [len(group) for group in groups] == sizes
    assert [list(lane) for group in groups for lane in group] == [[0], [1], [2], [3], [4]]
