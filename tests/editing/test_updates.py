"""Arithmetic of updates, against dense numpy matrices."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from npt_viz.editing.updates import Factors, Origin, Place, Update, check_alpha, sum_of
from npt_viz.errors import NptVizError

GATE, UP, DOWN = Place(2, "gate"), Place(2, "up"), Place(4, "down")


def factors(seed, n=3, inp=7, out=11):
    rng = np.random.default_rng(seed)
    return Factors(rng.normal(size=(n, inp)), rng.normal(size=(n, out)))


def dense(update, place):
    """alpha * ΔW (out, inp); zero where the update does not write."""
    if place not in update.factors:
        return 0.0
    parts = update.factors[place]
    return update.alpha * sum(np.outer(b, a) for a, b in zip(parts.v_a, parts.v_b, strict=True))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * max(1.0, np.abs(expected).max()))


@pytest.fixture
def first():
    return Update(factors={GATE: factors(0), DOWN: factors(1, n=2, inp=11, out=7)}, alpha=0.7)


@pytest.fixture
def second():
    return Update(factors={GATE: factors(2, n=5), UP: factors(3, n=1)}, alpha=-1.3)


def test_negation_negates_every_weight_change(first):
    for place in first.places:
        close(dense(-first, place), -dense(first, place))


def test_sum_difference_and_multiples_are_those_of_the_dense_matrices(first, second):
    for place in (GATE, UP, DOWN):
        close(dense(first + second, place), dense(first, place) + dense(second, place))
        close(dense(first - second, place), dense(first, place) - dense(second, place))
        close(dense(first * 2.5, place), 2.5 * dense(first, place))
        close(dense(2.5 * first, place), 2.5 * dense(first, place))


def test_an_update_minus_itself_is_nothing(first):
    for place in first.places:
        close(dense(first - first, place), 0)
    assert (first - first).norm() < 1e-6


def test_norms_and_singular_values_are_those_of_the_dense_matrix(first, second):
    both = first + second
    for place in both.places:
        matrix = dense(both, place)
        assert both.norms()[place] == pytest.approx(np.linalg.norm(matrix), rel=1e-5)
        found = both.factors[place].singular_values()
        close(found, np.linalg.svd(matrix, compute_uv=False)[: len(found)])
    assert both.norm() == pytest.approx(
        np.sqrt(sum(np.linalg.norm(dense(both, p)) ** 2 for p in both.places)), rel=1e-5
    )


def test_thinning_keeps_the_weight_change_and_drops_what_its_rank_does_not_need():
    wide = factors(4, n=3)
    repeated = Factors(np.tile(wide.v_a, (5, 1)), np.tile(wide.v_b, (5, 1)))
    thin = repeated.thinned()
    assert (len(repeated), len(thin)) == (15, 3)
    close(thin.v_b.T @ thin.v_a, repeated.v_b.T @ repeated.v_a)
    nothing = Factors(np.zeros((4, 7)), np.zeros((4, 11))).thinned()
    assert len(nothing) == 1 and not nothing.v_b.any()
    assert len(Factors(wide.v_a[[0, 0]], wide.v_b[[0, 0]]).thinned()) == 1


def test_thinning_drops_what_float32_rounding_hides_beside_the_largest_part():
    sizes = (1.0, 2e-7, 1e-3)  # Of three orthogonal parts; float32 rounds at 1.2e-7 for each of them.
    thin = Factors(np.eye(3, 7), np.diag(sizes) @ np.eye(3, 11)).thinned()
    assert [len(thin), *thin.singular_values()] == pytest.approx([2, 1.0, 1e-3])


def test_more_factors_than_dimensions_are_thinned_to_the_dimensions():
    many = factors(5, n=40)
    assert len(many.thinned()) == 7
    close(many.thinned().v_b.T @ many.thinned().v_a, many.v_b.T @ many.v_a)


def test_places_come_in_the_order_of_the_forward_pass(second):
    mixed = Update(factors={DOWN: factors(0, inp=11, out=7), UP: factors(1), GATE: factors(2)})
    assert mixed.places == (GATE, UP, DOWN)
    assert mixed.layers == (2, 4)


def test_the_digest_tells_updates_apart_and_knows_the_same_one(first):
    again = Update(factors=dict(reversed(first.factors.items())), alpha=first.alpha)
    assert first.digest() == again.digest()
    assert len(first.digest()) == 16 and int(first.digest(), 16)
    assert len({first.digest(), (first * 2).digest(), (-first).digest(), first.at(0.70001).digest()}) == 4


@pytest.mark.parametrize("place", [GATE, DOWN])
@pytest.mark.parametrize("name", ["v_a", "v_b"])
def test_the_digest_knows_every_entry_of_the_factors(first, place, name):
    values = getattr(first.factors[place], name).copy()
    values[-1, -1] += 1e-3
    changed = replace(first.factors[place], **{name: values})
    assert replace(first, factors={**first.factors, place: changed}).digest() != first.digest()


def test_the_digest_knows_the_projection(first):
    elsewhere = {Place(3, "gate"): first.factors[GATE], DOWN: first.factors[DOWN]}
    assert replace(first, factors=elsewhere).digest() != first.digest()


ORIGIN = Origin(
    rule="minimum_norm",
    prompt="a cat",
    layers=(2,),
    tokens=(4,),
    glyphs=("t",),
    checkpoint="demo",
    checkpoint_fingerprint="0",
)


def test_a_sum_keeps_the_origins_of_its_parts_with_their_strengths(first, second):
    parts = replace(first, origins=(ORIGIN,)), replace(second, origins=(replace(ORIGIN, rule="npt"),))
    both = sum_of(parts)
    assert [(o.rule, o.weight) for o in both.origins] == [("minimum_norm", 0.7), ("npt", -1.3)]
    assert [o.weight for o in (both * 2 + parts[0]).origins] == pytest.approx([1.4, -2.6, 0.7])


def test_an_origin_names_layers_and_at_most_four_tokens():
    assert str(ORIGIN) == "minimum norm, layer 2, token t #4"
    many = replace(ORIGIN, rule="npt", layers=(2, 3), tokens=(0, 2, 4, 6), glyphs=tuple("abcd"))
    assert str(many) == "npt, layers 2, 3, token a #0 b #2 c #4 d #6"
    assert str(replace(many, tokens=(0, 2, 4, 6, 8), glyphs=tuple("abcde"))).endswith("d #6 and 1 more")
    more = replace(many, tokens=(0, 2, 4, 6, 8, 9), glyphs=tuple("abcdef"))
    assert str(more) == "npt, layers 2, 3, token a #0 b #2 c #4 d #6 and 2 more"


def test_updates_and_origins_cannot_be_changed(first):
    for value, name in ((first, "alpha"), (ORIGIN, "rule"), (first.factors[GATE], "v_a")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)


@pytest.mark.parametrize(
    ("v_a", "v_b"), [((2, 3), (3, 3)), ((3,), (3, 3)), ((3, 3), (3,)), ((1, 2, 3), (1, 3))]
)
def test_factors_that_do_not_pair_are_refused(v_a, v_b):
    pair = factors(0)
    object.__setattr__(
        pair, "v_a", np.ones(v_a)
    )  # The annotations, which the tests check, would refuse it first.
    object.__setattr__(pair, "v_b", np.ones(v_b))
    with pytest.raises(ValueError, match="do not pair"):
        pair.__post_init__()


def test_an_update_of_nothing_is_refused():
    with pytest.raises(NptVizError, match="changes no weights"):
        Update(factors={})
    with pytest.raises(NptVizError, match="no update to add"):
        sum_of([])


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), "1", None, True])
def test_a_strength_that_is_no_finite_number_is_refused(alpha):
    with pytest.raises(NptVizError, match="give a finite number"):
        check_alpha(alpha)


def test_an_update_checks_its_strength(first):
    with pytest.raises(NptVizError, match="alpha is nan"):
        first.at(float("nan"))


def test_updates_that_are_not_finite_are_refused(first):
    broken = factors(0)
    broken.v_b[1, 2] = np.nan
    unread = factors(0)
    unread.v_a[2, 0] = np.inf
    for each in (broken, unread):
        with pytest.raises(NptVizError, match=r"the update of model.*gate_proj.* is not finite"):
            Update(factors={GATE: each})
    with pytest.raises(NptVizError, match="overflow float32"):
        first.at(1e39)


def test_updates_of_different_bases_do_not_add(first, second):
    here = Update(factors=first.factors, base={"config": "a", "layers": {"2": "x"}})
    there = Update(factors=second.factors, base={"config": "a", "layers": {"2": "y"}})
    with pytest.raises(NptVizError, match="different base models"):
        sum_of([here, there])
    other_layer = Update(factors=second.factors, base={"config": "a", "layers": {"4": "y"}})
    assert (here + other_layer).base == {"config": "a", "layers": {"2": "x", "4": "y"}}
    with pytest.raises(NptVizError, match="different base models"):
        sum_of([here, Update(factors=second.factors, base={"config": "b", "layers": {"4": "y"}})])
    assert (first + here + second).base == here.base and (first + second).base == {}


def test_the_cosine_of_two_weight_changes_is_that_of_their_dense_matrices():
    random = np.random.default_rng(0)
    one, other = (Factors(random.normal(size=(k, 7)), random.normal(size=(k, 11))) for k in (3, 2))
    dense, dense_other = (f.v_b.astype(float).T @ f.v_a for f in (one, other))
    expected = (dense * dense_other).sum() / np.linalg.norm(dense) / np.linalg.norm(dense_other)
    assert one.cosine(other) == pytest.approx(expected, rel=1e-6)
    assert one.cosine(one.scaled(-2.0)) == pytest.approx(-1.0)
    assert np.isnan(one.cosine(one.scaled(0.0)))
