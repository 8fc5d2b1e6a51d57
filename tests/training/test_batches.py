"""The order of the text: complete, seeded, and resumable."""

import torch

from npt_viz.training.batches import Batches, Shuffled

STARTS = (0, 5, 12, 15, 26)


def test_every_token_comes_once_before_any_comes_twice():
    batches = Batches(STARTS, 8, 3, whole=False)
    seen = torch.cat([next(batches).rows for _ in range(13)])
    assert len(seen) == 4 * 26
    for epoch in seen.split(26):
        assert sorted(epoch.tolist()) == list(range(26))


def test_the_same_seed_gives_the_same_order_and_another_another():
    rows = [
        [next(batches).rows.tolist() for _ in range(3)]
        for batches in (Batches(STARTS, 8, s, whole=False) for s in (3, 3, 4))
    ]
    assert rows[0] == rows[1] != rows[2]


def test_whole_sequences_come_until_there_are_enough_tokens():
    batches = Batches(STARTS, 8, 3, whole=True)
    for _ in range(20):
        batch = next(batches)
        assert sum(batch.lengths) == len(batch.rows) >= 8 > sum(batch.lengths[:-1])
        for piece, length in zip(batch.rows.split(list(batch.lengths)), batch.lengths, strict=True):
            assert int(piece[0]) in STARTS and piece.tolist() == list(
                range(int(piece[0]), int(piece[0]) + length)
            )


def test_a_saved_order_goes_on_where_it_was():
    order = Shuffled(17, 3)
    order.take(23)
    state = order.state
    expected = [order.take(5).tolist() for _ in range(9)]
    other = Shuffled(17, 99)
    other.state = state
    assert [other.take(5).tolist() for _ in range(9)] == expected
