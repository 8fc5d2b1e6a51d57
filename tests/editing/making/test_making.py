"""Updates from source tokens, against dense matrices written out from the formulas."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from conftest import specimen
from literal import SCALE, LiteralLlama, pooled_update, rank_one_update, tanh_update

from npt_viz.adapter import VARIANTS
from npt_viz.capture import layer_trace
from npt_viz.capture.running import changed
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.making.from_source import checkpoint_fingerprint, update_from
from npt_viz.editing.making.keys import whitened_key
from npt_viz.editing.making.readings import layer_readings, projection_inputs, reference_inputs
from npt_viz.editing.making.rules import UpdateRule
from npt_viz.editing.updates import Place
from npt_viz.errors import NptVizError
from npt_viz.model.tokens import encode

SOURCE = "the cat the dog sat"
TEXTS = ("A quiet morning by the river.", "Two plus three is five; six is more.")
WEIGHT_CHANGES = [name for name in VARIANTS if name[0] in "NT" or name == "S2"]


def checkpoint(model, variant, layers=(2,), **shape):
    adapters = {layer: specimen(model, variant, layer, seed=layer, **shape) for layer in layers}
    return Checkpoint.from_adapters(adapters, model, "specimen")


def dense(update, place):
    """ΔW (out, inp) in float64, without alpha."""
    parts = update.factors[place]
    return torch.from_numpy(parts.v_b).double().T @ torch.from_numpy(parts.v_a).double()


def close(found, expected, tolerance=1e-5):
    return (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


def literal_attention(model, layer, text=SOURCE):
    """(token, model) from the Llama written out token by token."""
    layers, _, _ = LiteralLlama(model).run(torch.tensor(encode(model, text).ids))
    return layers[layer].attention


def literal_update(variant, modulation, attention, components=None):
    scale = SCALE.get(variant, 1.0)
    if variant == "T1":
        return tanh_update(modulation, attention, scale)
    if components is not None:
        modulation = deepcopy(modulation)
        kept = torch.zeros(modulation.components).index_fill_(0, torch.tensor(components), 1.0)
        modulation.W_b_up.data *= kept[:, None, None]
    return rank_one_update(modulation, attention, scale)


@pytest.mark.parametrize("variant", WEIGHT_CHANGES)
@pytest.mark.parametrize("token", [-1, 4])
def test_the_npt_rule_writes_the_tokens_own_weight_change(tiny_llama, variant, token):
    npt = checkpoint(tiny_llama, variant)
    update = update_from(tiny_llama, npt, SOURCE, layer=2, token=token)
    attention = literal_attention(tiny_llama, 2)
    assert [place.target for place in update.places] == list(VARIANTS[variant].targets)
    for place in update.places:
        modulation = npt.adapter(2).modulations[place.target]
        assert close(dense(update, place), literal_update(variant, modulation, attention[token]))


@pytest.mark.parametrize("variant", ["N5", "T1"])
@pytest.mark.parametrize("tokens", [(3, 8, -2), tuple(range(19))], ids=["few", "more tokens than the rank"])
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_several_tokens_are_combined_on_their_weight_changes(tiny_llama, variant, tokens, combine):
    npt = checkpoint(tiny_llama, variant)
    update = update_from(tiny_llama, npt, SOURCE, layer=2, token=tokens, rule=UpdateRule(combine=combine))
    attention = literal_attention(tiny_llama, 2)
    for place in update.places:
        modulation = npt.adapter(2).modulations[place.target]
        total = sum(literal_update(variant, modulation, attention[t]) for t in tokens)
        assert close(dense(update, place), total / (len(tokens) if combine == "mean" else 1))


def test_many_tokens_need_no_more_factors_than_the_rank_of_their_sum(tiny_llama):
    update = update_from(tiny_llama, checkpoint(tiny_llama, "N1"), SOURCE, layer=2, token="all")
    assert {len(parts) for parts in update.factors.values()} == {3 * 7}


@pytest.mark.parametrize("tokens", [(5,), tuple(range(19))])
def test_only_the_chosen_components_are_written(tiny_llama, tokens):
    npt = checkpoint(tiny_llama, "N4")
    rule = UpdateRule(components=(0, 2), combine="sum")
    update = update_from(tiny_llama, npt, SOURCE, layer=2, token=tokens, rule=rule)
    attention = literal_attention(tiny_llama, 2)
    for place in update.places:
        modulation = npt.adapter(2).modulations[place.target]
        expected = sum(literal_update("N4", modulation, attention[t], (0, 2)) for t in tokens)
        assert close(dense(update, place), expected)


def test_several_layers_are_read_from_the_base_or_from_the_running_npt_model(tiny_llama):
    npt = checkpoint(tiny_llama, "N4", layers=(1, 3))
    local = update_from(tiny_llama, npt, SOURCE, layer=(1, 3))
    running = update_from(tiny_llama, npt, SOURCE, layer=(1, 3), rule=UpdateRule(mode="propagated"))
    ids = torch.tensor(encode(tiny_llama, SOURCE).ids)
    base, _, _ = LiteralLlama(tiny_llama).run(ids)
    lane = {layer: ("N4", npt.adapter(layer)) for layer in (1, 3)}
    propagated, _, _ = LiteralLlama(tiny_llama).run(ids, lane)
    for update, seen in ((local, base), (running, propagated)):
        for place in update.places:
            modulation = npt.adapter(place.layer).modulations[place.target]
            assert close(
                dense(update, place), literal_update("N4", modulation, seen[place.layer].attention[-1])
            )
    assert not close(dense(running, Place(3, "gate")), dense(local, Place(3, "gate")), 1e-2)


def test_trained_positions_read_the_source_without_rotation(tiny_llama):
    npt = checkpoint(tiny_llama, "N1")
    update = update_from(tiny_llama, npt, SOURCE, layer=2, rule=UpdateRule(positions="trained"))
    layers, _, _ = LiteralLlama(tiny_llama).run(torch.tensor(encode(tiny_llama, SOURCE).ids), rope=False)
    expected = literal_update("N1", npt.adapter(2).modulations["gate"], layers[2].attention[-1])
    assert close(dense(update, Place(2, "gate")), expected)


@pytest.mark.parametrize("token", [-1, 7])
def test_the_exact_patch_replaces_attention_at_its_token(tiny_llama, token):
    update = update_from(tiny_llama, checkpoint(tiny_llama, "N1"), SOURCE, layer=2, token=token, rule="exact")
    ids = torch.tensor(encode(tiny_llama, SOURCE).ids)
    layers, _, _ = LiteralLlama(tiny_llama).run(ids)
    literal, seen = LiteralLlama(tiny_llama), layers[2]
    z = literal.norm(seen.hidden[token], "model.layers.2.post_attention_layernorm")
    mlp = deepcopy(tiny_llama.parts(2).mlp).double()
    for place in update.places:
        getattr(mlp, f"{place.target}_proj").weight += dense(update, place)
    assert close(mlp(z), seen.attention[token] + seen.mlp_output[token])


@pytest.mark.parametrize("reads", ["z_C", "z"])
@pytest.mark.parametrize("variant", ["N1", "N5", "T1", "S2", "S0", "S1-early", "S1-later+residual"])
@pytest.mark.parametrize("rule", ["minimum_norm", "whitened"])
def test_another_key_has_the_same_effect_at_the_source_token(tiny_llama, variant, rule, reads):
    npt = checkpoint(tiny_llama, variant)
    settings = UpdateRule(name=rule, reads=reads, reference=TEXTS)
    update = update_from(tiny_llama, npt, SOURCE, layer=2, rule=settings)
    ids = torch.tensor([encode(tiny_llama, SOURCE).ids])
    reading = layer_readings(tiny_llama, ids, [2])[2]
    x, a = reading.mlp_input(reads)[-1], reading.attention[-1]
    adapter, mlp = npt.adapter(2), tiny_llama.parts(2).mlp
    modulated = adapter.mlp(mlp, a, x)
    edited = deepcopy(mlp)
    for place in update.places:
        weight = getattr(edited, f"{place.target}_proj").weight
        weight += dense(update, place).float()
        assert len(update.factors[place]) == 1
    assert close(edited(x), modulated.output, 1e-4)


@pytest.mark.parametrize("token", [0, -1, "all"])
def test_a_pooled_layer_writes_the_weight_change_of_the_whole_source(tiny_llama, token):
    npt = checkpoint(tiny_llama, "S0-pooled")
    update = update_from(tiny_llama, npt, SOURCE, layer=2, token=token)
    literal = pooled_update(npt.adapter(2).modulations["gate"], literal_attention(tiny_llama, 2))
    assert close(dense(update, Place(2, "gate")), literal)
    assert any("the same at every token" in detail for detail in update.origins[0].details)


def test_the_minimum_norm_key_is_the_smallest_with_its_effect(tiny_llama):
    npt = checkpoint(tiny_llama, "N1", components=1)
    own = update_from(tiny_llama, npt, SOURCE, layer=2)
    least = update_from(tiny_llama, npt, SOURCE, layer=2, rule="minimum_norm")
    whitened = update_from(
        tiny_llama, npt, SOURCE, layer=2, rule=UpdateRule(name="whitened", reference=TEXTS)
    )
    assert least.norm() < min(own.norm(), whitened.norm())


def test_the_whitened_key_leaks_least_into_its_reference(tiny_llama):
    npt, place = checkpoint(tiny_llama, "N1", components=1), Place(2, "gate")
    x = reference_inputs(tiny_llama, TEXTS, [place]).inputs[place].double()
    leak = {}
    for rule in ("npt", "minimum_norm", "whitened"):
        settings = UpdateRule(name=rule, reference=TEXTS, ridge=1e-6)
        update = update_from(tiny_llama, npt, SOURCE, layer=2, rule=settings)
        leak[rule] = float((x @ dense(update, place).T).square().mean())
    assert leak["whitened"] < min(leak["npt"], leak["minimum_norm"])
    # And no other key with the same effect does better: the optimum from the normal equations.
    reading = layer_readings(tiny_llama, torch.tensor([encode(tiny_llama, SOURCE).ids]), [2])[2]
    source = reading.z_C[-1].double()
    moment = x.T @ x / len(x) + 1e-6 * (x.T @ x / len(x)).diagonal().mean() * torch.eye(x.shape[1])
    key = torch.linalg.solve(moment, source)
    found = torch.from_numpy(update.factors[place].v_a[0])
    assert close(found, key / (key @ source), 1e-3)


@pytest.mark.parametrize("positions", ["deployed", "trained"])
@pytest.mark.parametrize("reads", ["z_C", "z"])
def test_whitening_and_protecting_act_on_the_input_and_positions_of_the_rule(tiny_llama, reads, positions):
    """The key is the one of the normal equations over what the projection reads, and 0 on what is protected."""
    npt, place = checkpoint(tiny_llama, "N1", components=1), Place(2, "gate")
    settings = UpdateRule(name="whitened", reference=TEXTS, ridge=0.02, reads=reads, positions=positions)
    update = update_from(tiny_llama, npt, SOURCE, layer=2, rule=settings)

    def inputs(text):
        ids = torch.tensor(encode(tiny_llama, text).ids)
        literal = LiteralLlama(tiny_llama)
        seen = literal.run(ids, rope=positions == "deployed")[0][2]
        stream = seen.hidden + (seen.attention if reads == "z_C" else 0)
        norm = "model.layers.2.post_attention_layernorm"
        return torch.stack([literal.norm(h, norm) for h in stream]).double()

    x = torch.cat([inputs(text) for text in TEXTS])
    moment = x.T @ x / len(x)
    moment += 0.02 * moment.diagonal().mean() * torch.eye(x.shape[1])
    source = inputs(SOURCE)[-1]
    key = torch.linalg.solve(moment, source)
    assert close(torch.from_numpy(update.factors[place].v_a[0]), key / (key @ source), 1e-4)
    (detail,) = update.origins[0].details
    assert detail == f"key whitened by the second moment of {reads} over {len(x)} tokens, ridge 0.02"
    kept = update_from(tiny_llama, npt, SOURCE, layer=2, rule=replace(settings, protect=("one two", "hm")))
    v_a = torch.from_numpy(kept.factors[place].v_a[0]).double()
    for text in ("one two", "hm"):
        assert (inputs(text) @ v_a).abs().max() < 1e-4 * (source @ v_a).abs()
    assert "gate of layer 2: key projected off 2 protected prompts, which left " in kept.origins[0].details[1]


@pytest.mark.parametrize("rule", ["minimum_norm", "whitened"])
def test_another_key_writes_the_effect_of_the_chosen_components_alone(tiny_llama, rule):
    npt, place = checkpoint(tiny_llama, "N1"), Place(2, "gate")
    settings = UpdateRule(name=rule, components=(0, 2), reference=TEXTS)
    update = update_from(tiny_llama, npt, SOURCE, layer=2, rule=settings)
    reading = layer_readings(tiny_llama, torch.tensor([encode(tiny_llama, SOURCE).ids]), [2])[2]
    x, attention = reading.z_C[-1].double(), literal_attention(tiny_llama, 2)[-1]
    own = literal_update("N1", npt.adapter(2).modulations["gate"], attention, (0, 2))
    assert close(dense(update, place) @ x, own.double() @ x, 1e-4)


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize("rule", ["exact", "minimum_norm"])
def test_several_tokens_of_a_key_of_their_own_are_combined(tiny_llama, rule, combine):
    npt = checkpoint(tiny_llama, "N4")
    one = [update_from(tiny_llama, npt, SOURCE, layer=2, token=t, rule=rule) for t in (3, 8)]
    both = update_from(
        tiny_llama, npt, SOURCE, layer=2, token=(8, 3), rule=UpdateRule(name=rule, combine=combine)
    )
    for place in both.places:
        total = dense(one[0], place) + dense(one[1], place)
        assert close(dense(both, place), total / (2 if combine == "mean" else 1))


def test_all_tokens_are_those_that_are_no_attention_sink(tiny_llama, monkeypatch):
    npt, place = checkpoint(tiny_llama, "N1"), Place(2, "gate")
    assert reference_inputs(tiny_llama, TEXTS[:1], [place]).tokens == tuple((0, t) for t in range(29))
    monkeypatch.setattr(layer_trace, "attention_sinks", lambda hidden: torch.arange(len(hidden)) == 1)
    every = update_from(tiny_llama, npt, SOURCE, layer=2, token="all")
    assert every.origins[0].tokens == (0, *range(2, 19)) and every.origins[0].details == ()
    (note,) = update_from(tiny_llama, npt, SOURCE, layer=2, token=(1, 4)).origins[0].details
    assert "a chosen token is an attention sink" in note
    some = reference_inputs(tiny_llama, TEXTS[:1], [place])
    assert some.tokens == ((0, 0), *((0, t) for t in range(2, 29))) and len(some.inputs[place]) == 28
    # What a protected prompt reads at its sink is protected too.
    kept = update_from(tiny_llama, npt, SOURCE, layer=2, rule=UpdateRule(protect=("one",)))
    protected = reference_inputs(tiny_llama, ("one",), [place], with_sinks=True).inputs[place].double()
    assert len(protected) == 3
    assert (dense(kept, place) @ protected.T).norm() < 1e-4 * dense(kept, place).norm()
    monkeypatch.setattr(layer_trace, "attention_sinks", lambda hidden: torch.ones(len(hidden), dtype=bool))
    assert len(update_from(tiny_llama, npt, "abc", layer=2, token="all").origins[0].tokens) == 3


def test_the_fingerprint_of_a_checkpoint_tells_weights_layers_and_rules_apart(tiny_llama):
    def fingerprint(adapters):
        npt = Checkpoint.from_adapters(adapters, tiny_llama, "specimen")
        return checkpoint_fingerprint(npt, sorted(adapters, reverse=True))

    one, two = specimen(tiny_llama, "N1", 1, seed=1), specimen(tiny_llama, "N1", 2, seed=2)
    known = fingerprint({1: one, 2: two})
    assert len(known) == 16 and int(known, 16)
    npt = Checkpoint.from_adapters({1: deepcopy(one), 2: deepcopy(two)}, tiny_llama, "again")
    assert checkpoint_fingerprint(npt, [1, 2]) == checkpoint_fingerprint(npt, [2, 1]) == known
    other = deepcopy(two)
    next(other.parameters()).data[-1, -1, -1] += 1
    louder = deepcopy(two)
    louder.semantics = replace(two.semantics, scale=0.5)
    elsewhere = specimen(tiny_llama, "N1", 3, seed=2)
    assert (
        len({known, *(fingerprint({1: one, each.layer: each}) for each in (other, louder, elsewhere))}) == 4
    )


@pytest.mark.parametrize("n", [5, 13, 40])
def test_the_whitened_key_is_the_normal_equations_solution_with_few_and_many_tokens(n):
    reference, x = torch.randn(n, 13), torch.randn(2, 13)
    moment = (reference.T @ reference / n).double()
    moment += 0.03 * moment.diagonal().mean() * torch.eye(13)
    for source, key in zip(x.double(), whitened_key(x, reference, 0.03), strict=True):
        expected = torch.linalg.inv(moment) @ source
        assert close(key, expected / (expected @ source))


@pytest.mark.parametrize("variant", ["N1", "N5", "T1"])
@pytest.mark.parametrize("rule", ["npt", "minimum_norm", "whitened"])
def test_protected_prompts_do_not_notice_the_edit(tiny_llama, variant, rule):
    npt = checkpoint(tiny_llama, variant, layers=(1, 3))
    settings = UpdateRule(name=rule, protect=("one two", "xyz?"), reference=TEXTS)
    update = update_from(tiny_llama, npt, SOURCE, layer=(1, 3), alpha=2.0, rule=settings)

    def logits(text, *updates):
        ids = torch.tensor([encode(tiny_llama, text).ids])
        with changed(tiny_llama, [edited_lane(tiny_llama, updates)]):
            return tiny_llama.hf(ids).logits

    for text in ("one two", "xyz?"):
        torch.testing.assert_close(logits(text, update), logits(text), rtol=0, atol=1e-3)
    assert (logits(SOURCE, update) - logits(SOURCE)).abs().max() > 0.02


def test_projection_keeps_the_effect_at_the_source(tiny_llama):
    npt, place = checkpoint(tiny_llama, "N1", components=1), Place(2, "gate")
    free = update_from(tiny_llama, npt, SOURCE, layer=2)
    kept = update_from(tiny_llama, npt, SOURCE, layer=2, rule=UpdateRule(protect=("one two",)))
    reading = layer_readings(tiny_llama, torch.tensor([encode(tiny_llama, SOURCE).ids]), [2])[2]
    x = reading.z_C[-1].double()
    assert close(dense(kept, place) @ x, dense(free, place) @ x, 1e-4)
    assert "projected off 1 protected prompt, which left" in kept.origins[0].details[0]


def test_protecting_everything_leaves_no_update(tiny_llama):
    rule = UpdateRule(protect=(SOURCE, "a long prompt with very many different tokens in it: 0123456789"))
    with pytest.raises(NptVizError, match="protect fewer or shorter prompts"):
        update_from(tiny_llama, checkpoint(tiny_llama, "N1"), SOURCE, layer=2, rule=rule)


def test_the_intermediate_of_the_readings_is_what_down_reads(tiny_llama):
    seen = []
    handle = tiny_llama.parts(2).down.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        ids = torch.tensor([encode(tiny_llama, SOURCE).ids])
        tiny_llama.hf(ids)
    finally:
        handle.remove()
    reading = layer_readings(tiny_llama, ids, [2])[2]
    assert close(projection_inputs(tiny_llama, 2, reading.z_C)["down"], seen[0][0])


def test_an_additive_variant_is_written_as_the_smallest_weight_change_and_says_so(tiny_llama):
    update = update_from(tiny_llama, checkpoint(tiny_llama, "S0"), SOURCE, layer=2)
    assert update.origins[0].rule == "minimum_norm"
    assert "smallest weight change" in update.origins[0].details[0]
    with pytest.raises(NptVizError, match="adds a bias and has no components"):
        update_from(
            tiny_llama, checkpoint(tiny_llama, "S0"), SOURCE, layer=2, rule=UpdateRule(components=(0,))
        )


def test_an_update_knows_where_it_came_from(tiny_llama):
    npt = checkpoint(tiny_llama, "N4", layers=(1, 2))
    update = update_from(tiny_llama, npt, SOURCE, layer=(2, 1), token=(-1, 2), alpha=0.5)
    origin = update.origins[0]
    assert (origin.layers, origin.tokens, origin.glyphs) == ((1, 2), (2, 18), ("e", "t"))
    assert origin.checkpoint_fingerprint == checkpoint_fingerprint(npt, [1, 2])
    assert origin.checkpoint_fingerprint != checkpoint_fingerprint(npt, [1])
    assert update.base == tiny_llama.fingerprint([1, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 9}, "layer 9 is no NPT layer"),
        ({"layer": ()}, "no layer was chosen"),
        ({"token": 19}, "token 19 does not exist: the source text has 19 tokens"),
        ({"token": -20}, "token -20 does not exist"),
        ({"token": ()}, "no token was chosen"),
        ({"token": "last"}, "give a position"),
        ({"alpha": float("nan")}, "finite number"),
        ({"rule": "best"}, "choose one of npt, exact, minimum_norm, whitened"),
        ({"rule": UpdateRule(components=(3,))}, "component 3 does not exist"),
        ({"rule": UpdateRule(components=(0, -1))}, "component -1 does not exist"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(tiny_llama, arguments, message):
    npt = checkpoint(tiny_llama, "N1")
    with pytest.raises(NptVizError, match=message) as caught:
        update_from(tiny_llama, npt, SOURCE, **({"layer": 2} | arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "best", "the update's name is 'best'; choose one of npt, exact, minimum_norm, whitened"),
        ("combine", "max", "the update's combine is 'max'; choose one of mean, sum"),
        ("reads", "h", "the update's reads is 'h'; choose one of z_C, z"),
        ("mode", "propagate", "mode 'propagate' does not exist; choose local or propagated"),
        ("positions", "trained_", "positions 'trained_' do not exist; choose deployed or trained"),
    ],
)
def test_settings_that_do_not_exist_are_refused(field, value, message):
    rule = UpdateRule()
    object.__setattr__(rule, field, value)  # The annotations, which the tests check, would refuse it first.
    with pytest.raises(NptVizError, match=message):
        rule.__post_init__()


def test_settings_out_of_range_are_refused():
    with pytest.raises(NptVizError, match="give a positive share"):
        UpdateRule(ridge=0.0)
    with pytest.raises(NptVizError, match="name at least one"):
        UpdateRule(components=())


def test_a_component_named_twice_is_refused():
    with pytest.raises(NptVizError, match="component 0 is named twice and would be written twice"):
        UpdateRule(components=(0, 1, 0))


def test_the_sinks_of_propagated_readings_are_those_of_the_base_model(tiny_llama):
    """The NPT stream may be inflated everywhere; which tokens count does not depend on the mode."""
    lane = {1: specimen(tiny_llama, "N5", 1)}
    ids = torch.tensor([encode(tiny_llama, SOURCE).ids])
    base, npt = (layer_readings(tiny_llama, ids, [2], lane=each)[2] for each in (None, lane))
    assert torch.equal(base.is_sink, npt.is_sink)
    assert not torch.allclose(base.z, npt.z)
