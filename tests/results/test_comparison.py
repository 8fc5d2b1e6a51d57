"""Alignment against difflib and against the slow, literal form; differences against numpy on the tokens themselves."""

from dataclasses import replace
from difflib import SequenceMatcher
from functools import cache

import numpy as np
import pytest
from comparison_checker import literal_alignment
from stated import drawn, sinks
from stated_comparisons import run_on

from npt_viz.errors import NptVizError
from npt_viz.results.comparison import COMPARED, aligned, compare
from npt_viz.results.sentences.comparison import comparison

PAIRS = 200


def random_pairs():
    """Prompts of up to 37 tokens: of few words, so that they repeat, or one made of the other by cuts and insertions."""
    random = np.random.default_rng(17)
    for i in range(PAIRS):
        a = random.integers(0, random.integers(2, 40), random.integers(0, 37)).tolist()
        if i % 2:
            b = random.integers(0, random.integers(2, 40), random.integers(1, 37)).tolist()
        else:
            b = [token for token in a if random.random() > 0.2]
            at = int(random.integers(0, len(b) + 1))
            b[at:at] = random.integers(0, 50, random.integers(0, 7)).tolist()
        yield a, b


def longest_common_subsequence(a, b):
    @cache
    def of(i, j):
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + of(i + 1, j + 1)
        return max(of(i + 1, j), of(i, j + 1))

    return of(0, 0)


def test_the_alignment_of_200_random_pairs_is_difflibs_and_the_literal_one():
    n_same = n_short = 0
    for a, b in random_pairs():
        pairs = aligned(a, b)
        same = [(pair.a, pair.b) for pair in pairs if pair.kind == "same"]
        blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
        assert same == [(i + k, j + k) for i, j, n in blocks for k in range(n)]
        assert same == literal_alignment(a, b)
        # Every token stands in one column, in its order, and equal tokens beside each other.
        assert [pair.a for pair in pairs if pair.a is not None] == list(range(len(a)))
        assert [pair.b for pair in pairs if pair.b is not None] == list(range(len(b)))
        assert all(a[i] == b[j] for i, j in same)
        longest = longest_common_subsequence(tuple(a), tuple(b))
        # Runs of tokens stay together, for which difflib gives up some tokens; never all, and never one too many.
        assert bool(same) == bool(longest) and len(same) <= longest
        n_same, n_short = n_same + len(same), n_short + (len(same) < longest)
    assert n_same > 1000 and 0 < n_short < PAIRS / 3


def test_a_token_that_is_frequent_in_a_long_prompt_is_aligned_as_well():
    a = [1, 2] * 211
    b = [3, *a[7:]]
    assert sum(pair.kind == "same" for pair in aligned(a, b)) == len(a) - 7


def test_deleted_tokens_stand_before_those_that_took_their_place():
    kinds = [(pair.kind, pair.a, pair.b) for pair in aligned([1, 2, 3, 4], [1, 7, 8, 4, 9])]
    assert kinds == [
        ("same", 0, 0), ("deleted", 1, None), ("deleted", 2, None), ("inserted", None, 1), ("inserted", None, 2),
        ("same", 3, 3), ("inserted", None, 4),
    ]  # fmt: skip


def two_runs():
    """Two prompts of 13 and 14 tokens that share 11; the layer of A has one more beneath."""
    a_ids = list(range(51, 64))
    b_ids = [*a_ids[:4], 97, 98, 99, *a_ids[6:]]
    a = run_on(a_ids, drawn(1, 13, 0.4), is_sink=sinks(13, 0), kl=np.abs(drawn(2, 13, 0.3)), first=a_ids)
    b = run_on(b_ids, drawn(3, 14, 0.7), is_sink=sinks(14, 2), kl=np.abs(drawn(4, 14, 0.1)), first=[51] * 14)
    lower = run_on(a_ids, drawn(5, 13, 0.1), layer=3)
    return replace(a, layers=a.layers | lower.layers), b


def test_every_number_is_b_minus_a_of_the_same_token():
    a, b = two_runs()
    found = compare(a, b)
    assert found.layers == (7, 7) and found.rows == ((7, 7),)
    assert set(found.metrics) == set(COMPARED)
    for metric in COMPARED:
        columns = found.columns(metric)
        of_a, of_b = (getattr(run, metric, None) for run in (a, b))
        if of_a is None:
            of_a, of_b = a.layers[7].values(metric), b.layers[7].values(metric)
        for column, pair in enumerate(found.pairs):
            for values, position, numbers in ((columns.a, pair.a, of_a), (columns.b, pair.b, of_b)):
                np.testing.assert_equal(values[column], np.nan if position is None else numbers[position])
        np.testing.assert_array_equal(columns.difference, columns.b - columns.a)
        np.testing.assert_array_equal(found.differences(metric)[0], columns.difference)
    assert found.same.sum() == 11 and len(found.pairs) == 16
    # 0 is a sink of A, 2 one of B.
    assert [found.pairs[i].a for i in np.flatnonzero(found.counts())] == [1, 3, *range(6, 13)]
    assert found.counts(with_sinks=True).sum() == 11


def test_the_largest_differences_are_those_beyond_the_spread_and_then_the_largest():
    ids, own = list(range(51, 80)), drawn(1, 29, 0.4)
    other = own + 0.5 + drawn(2, 29, 0, 0.01)
    other[[3, 17, 23]] += (-0.45, 0.4, 7.0)
    found = compare(run_on(ids, own, is_sink=sinks(29, 23)), run_on(ids, other))
    difference = np.delete(other - own, 23)
    size = 3 * 1.4826 * np.median(np.abs(difference - np.median(difference)))
    assert found.spread("recovered").size == pytest.approx(size) and found.spread("recovered").n == 28
    rows = found.largest("recovered")
    # Token 3 differs least of all, and is far from what is usual here.
    assert [row.pair.a for row in rows if row.stands_out] == [17, 3]
    assert [row.stands_out for row in rows] == [True, True, *[False] * 26]
    rest = [abs(row.difference) for row in rows[2:]]
    assert rest == sorted(rest, reverse=True) and len(found.largest("recovered", 5)) == 5
    assert found.largest("recovered", with_sinks=True)[0].pair.a == 23


def test_few_tokens_stand_out_from_nothing_and_rounding_never_does():
    few = compare(run_on([5, 6, 7, 8, 9], drawn(1, 5, 0.4)), run_on([5, 6, 7, 8, 9], [9.0, 0, 0, 0, 0]))
    assert np.isnan(few.spread("recovered").size) and not any(
        row.stands_out for row in few.largest("recovered")
    )
    ids, own = list(range(51, 80)), drawn(1, 29, 0.4)
    jitter = np.where(np.arange(29) < 4, 1e-7, 0.0)
    assert not any(
        row.stands_out for row in compare(run_on(ids, own), run_on(ids, own + jitter)).largest("recovered")
    )
    jitter[2] = 0.01
    found = compare(run_on(ids, own), run_on(ids, own + jitter))
    assert [row.pair.a for row in found.largest("recovered") if row.stands_out] == [2]


def test_two_layers_are_compared_with_each_other():
    a, b = two_runs()
    found = compare(a, b, layer=(3, 7))
    assert found.rows == ((3, 7),) and "layer" in found.differs
    np.testing.assert_array_equal(found.columns("recovered").a[:4], a.layers[3].recovered[:4].astype(float))
    only_lower = replace(a, layers={3: a.layers[3]})
    assert compare(only_lower, b).layers == (3, 7)
    with pytest.raises(NptVizError, match="layer 5 does not run as NPT in A, whose NPT layers are 3, 7"):
        compare(a, b, layer=5)
    with pytest.raises(NptVizError, match="layer 3 does not run as NPT in B"):
        compare(a, b, layer=3)


def test_what_differs_is_named():
    a, b = two_runs()
    assert compare(a, b).differs == ("layers", "prompt")
    assert compare(a, a).differs == ()
    other = replace(a, checkpoint="d", mode="propagated", positions="trained", n_edits=2)
    found = compare(a, other)
    assert found.differs == ("checkpoint", "mode", "positions", "n_edits")
    words = "d on m, layer 7 of NPT layers 3, 7, propagated, positions as trained, 2 permanent updates beneath, “51 52"
    assert found.sides[1].words.startswith(words)


@pytest.mark.parametrize("metric", ["x", "", None, ["kl"]])
def test_a_metric_that_is_none_is_a_sentence_with_the_choices(metric):
    found = compare(*two_runs())
    for call in (
        found.columns,
        found.differences,
        found.spread,
        found.largest,
        lambda name: comparison(found, name),
    ):
        with pytest.raises(NptVizError) as error:
            call(metric)
        assert all(name in str(error.value) for name in COMPARED) and repr(metric) in str(error.value)


def test_other_models_are_refused_in_a_sentence():
    a, b = two_runs()
    small, large = (
        "3 layers, d_model 24, d_ffn 31, vocabulary 258",
        "5 layers, d_model 24, d_ffn 31, vocabulary 258",
    )
    with pytest.raises(NptVizError, match=r"A ran on m .3 layers.*B on n .5 layers.*one base model"):
        compare(replace(a, base=small), replace(b, base=large, model="n"))
    compare(replace(a, base=small), replace(b, base=small, model="under another name"))
    piece = b.pieces[1]._replace(raw="'other'")
    with pytest.raises(NptVizError, match="tokenizers differ: token 52 is ' w52' in A and 'other' in B"):
        compare(a, replace(b, pieces=(b.pieces[0], piece, *b.pieces[2:])))


def test_the_table_has_a_row_for_each_column_and_no_predictions_where_there_are_none():
    a, b = two_runs()
    table = compare(a, b).to_frame()
    assert (
        len(table) == 16
        and list(table.kind).count("deleted") == 2
        and list(table.kind).count("inserted") == 3
    )
    same = table[table.kind == "same"]
    expected = [float(b.layers[7].recovered[j] - a.layers[7].recovered[i]) for i, j in zip(same.token_a.astype(int), same.token_b.astype(int), strict=True)]  # fmt: skip
    np.testing.assert_allclose(same.recovered_difference, expected, rtol=1e-6)
    assert compare(a, b).other_choices is not None
    without = compare(replace(a, kl=None, npt_top=None), b)
    assert without.other_choices is None and "kl" not in without.metrics and "kl_a" not in without.to_frame()
