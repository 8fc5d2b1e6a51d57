"""Inspection against separate, literal runs of the base model and of an NPT model."""

import numpy as np
import pytest
import torch
from conftest import specimen, tiny_model
from literal import LiteralLlama, vectors
from streams import PROMPT, attention_of, ids_of, live, streams

from npt_viz.adapter import VARIANTS, LayerAdapter
from npt_viz.capture.inspection import inspect
from npt_viz.capture.running import changed
from npt_viz.errors import NptVizError
from npt_viz.model.tokens import display_token


@pytest.mark.parametrize("variant", VARIANTS)
def test_local_fit_is_that_of_the_base_streams(tiny_llama, variant):
    adapter = specimen(tiny_llama, variant, layer=2)
    run = inspect(tiny_llama, live(adapter), PROMPT)
    ids = ids_of(tiny_llama)
    h = streams(tiny_llama, ids)[2]
    a = attention_of(tiny_llama, 2, h)
    adapter = adapter.of_text(a)
    parts = tiny_llama.parts(2)
    z, z_c = parts.mlp_norm(h), parts.mlp_norm(h + a)
    read = z_c if variant in ("S0", "S0-residual") or variant.endswith("+residual") else z
    target = parts.mlp(z_c) + (a if adapter.attention in ("withheld", "mlp_only") else 0)
    gate = parts.gate(read) + adapter.change("gate", a, read, parts.gate(read))
    up = parts.up(read)
    if "up" in adapter.targets:
        up = up + adapter.change("up", a, read, up)
    m = torch.nn.functional.silu(gate) * up
    y = parts.down(m)
    if "down" in adapter.targets:
        y = y + adapter.change("down", a, m, y)
    expected = 1 - ((y - target).norm(dim=-1) / (parts.mlp(read) - target).norm(dim=-1)) ** 2
    found = run.layers[2]
    if adapter.attention == "standard":
        # Without modulation such a layer is already the base's: there is no effect to recover.
        assert np.isnan(found.recovered).all()
    else:
        np.testing.assert_allclose(found.recovered, expected[0].numpy(), rtol=1e-4, atol=1e-5)
    error = (y - target).norm(dim=-1) / target.norm(dim=-1)
    np.testing.assert_allclose(found.relative_error, error[0].numpy(), rtol=1e-4)
    cosine = torch.cosine_similarity(y, target, dim=-1)
    np.testing.assert_allclose(found.cosine, cosine[0].numpy(), rtol=1e-4, atol=1e-5)
    ratio = y.norm(dim=-1) / target.norm(dim=-1)
    np.testing.assert_allclose(found.magnitude_ratio, ratio[0].numpy(), rtol=1e-4)
    change = (gate - parts.gate(read)).norm(dim=-1) / parts.gate(read).norm(dim=-1)
    np.testing.assert_allclose(found.gate_change, change[0].numpy(), rtol=1e-4)
    np.testing.assert_allclose(found.hidden_norm, h[0].norm(dim=-1).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.attention_norm, a[0].norm(dim=-1).numpy(), rtol=1e-4)


def test_scalars_and_norms_are_those_of_the_explicit_vectors(tiny_llama):
    adapter = specimen(tiny_llama, "N5", layer=1, components=3)
    found = inspect(tiny_llama, live(adapter), PROMPT).layers[1]
    h = streams(tiny_llama, ids_of(tiny_llama))[1][0]
    a = attention_of(tiny_llama, 1, h[None])[0]
    z = tiny_llama.parts(1).mlp_norm(h)
    for target in ("gate", "up"):
        v_a, v_b = adapter.modulations[target].v_a(a), adapter.modulations[target].v_b(a)
        dense = torch.einsum("tko,tki->toi", v_b, v_a)
        np.testing.assert_allclose(
            found.scalars[target], torch.einsum("tki,ti->tk", v_a, z).detach().numpy(), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            found.update_norms[target], dense.flatten(1).norm(dim=1).detach().numpy(), rtol=1e-4
        )
        sizes = v_a.norm(dim=-1) * v_b.norm(dim=-1)
        np.testing.assert_allclose(found.component_norms[target], sizes.detach().numpy(), rtol=1e-4)
        effects = (torch.einsum("tki,ti->tk", v_a, z)[..., None] * v_b).norm(dim=-1).detach().numpy()
        np.testing.assert_allclose(found.component_effects[target], effects, rtol=1e-4, atol=1e-6)
        strongest = [found.strongest_component(target, token) for token in range(len(effects))]
        assert strongest == effects.argmax(1).tolist() and len(set(strongest)) > 1


@pytest.mark.parametrize("variant", ["N1", "N2", "N5", "S2", "T1"])
@pytest.mark.parametrize("mode", ["local", "propagated"])
def test_v_a_dot_h_is_that_of_the_explicit_vectors_and_the_stream_before_the_norm(tiny_llama, variant, mode):
    below, adapter = specimen(tiny_llama, "N4", layer=0), specimen(tiny_llama, variant, layer=2, seed=5)
    found = inspect(tiny_llama, live(below, adapter), PROMPT, mode=mode).layers[2]
    literal = LiteralLlama(tiny_llama)
    lane = {0: ("N4", below)} if mode == "propagated" else None
    seen = literal.run(ids_of(tiny_llama)[0], lane)[0][2]
    w = tiny_llama.parts(2).mlp_norm.weight.double()
    rms = (seen.hidden**2).mean(-1).add(tiny_llama.config.rms_norm_eps).sqrt()
    assert set(found.dots_with_h) == set(adapter.targets) - {"down"}
    for target, dots in found.dots_with_h.items():
        learned = adapter.modulations[target]
        for token, (h, a) in enumerate(zip(seen.hidden, seen.attention, strict=True)):
            if variant == "T1":
                strengths = torch.tanh(a @ learned.A.double())
                v_a = [c * column for c, column in zip(strengths, learned.A.double().T, strict=True)]
            else:
                v_a = [vectors(learned, a, j)[0] for j in range(learned.components)]
            np.testing.assert_allclose(dots[token], [float(v @ h) for v in v_a], rtol=1e-4, atol=1e-5)
            # What the documents' number and the layer's own have to do with each other.
            from_h = [float((v * w) @ h / rms[token]) for v in v_a]
            np.testing.assert_allclose(found.scalars[target][token], from_h, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.values("v_a_dot_h"), found.dots_with_h["gate"][:, 0])


def test_v_a_dot_h_is_v_a_dot_z_where_the_norm_changes_nothing():
    model = tiny_model()
    hook = model.parts(2).layer.register_forward_pre_hook(
        lambda module, args: (torch.nn.functional.rms_norm(args[0], (24,)), *args[1:])
    )
    model.parts(2).mlp_norm.weight.fill_(1)
    model.parts(2).mlp_norm.variance_epsilon = 0
    try:
        found = inspect(model, live(specimen(model, "N4", layer=2)), PROMPT, logits=False).layers[2]
    finally:
        hook.remove()
    for target in ("gate", "up"):
        np.testing.assert_allclose(found.dots_with_h[target], found.scalars[target], rtol=1e-4, atol=1e-5)


def test_where_v_a_reads_m_or_is_none_there_is_no_v_a_dot_h(tiny_llama):
    for variant in ("S0", "S1-early"):
        found = inspect(tiny_llama, live(specimen(tiny_llama, variant, layer=2)), PROMPT).layers[2]
        assert np.isnan(found.values("v_a_dot_h")).all() and found.dots_with_h["gate"].shape[1] == 0
    adapter = specimen(tiny_llama, "N5", layer=2)
    down = LayerAdapter(2, adapter.semantics, {"down": adapter.modulations["down"]})
    run = inspect(tiny_llama, live(down), PROMPT)
    assert run.layers[2].dots_with_h == {} and np.isnan(run.layers[2].values("v_a_dot_h")).all()
    assert np.isnan(run.to_frame()["v_a_dot_h"]).all()


def test_the_table_has_v_a_dot_h_of_every_component(tiny_llama):
    run = inspect(tiny_llama, live(specimen(tiny_llama, "N5", layer=2, components=3)), PROMPT)
    frame = run.to_frame()
    names = {f"v_a_dot_h_{target}_{j}" for target in ("gate", "up") for j in range(3)}
    assert {name for name in frame if name.startswith("v_a_dot_h_")} == names
    np.testing.assert_array_equal(frame["v_a_dot_h_up_2"], run.layers[2].dots_with_h["up"][:, 2])


def test_predictions_are_those_of_two_separate_models(tiny_llama):
    adapters = {1: specimen(tiny_llama, "N4", layer=1), 3: specimen(tiny_llama, "N2", layer=3, seed=5)}
    run = inspect(tiny_llama, live(*adapters.values()), PROMPT, top_k=3)
    ids = ids_of(tiny_llama)
    with torch.no_grad():
        base = tiny_llama.hf(input_ids=ids).logits[0]
        with changed(tiny_llama, [adapters]):
            npt = tiny_llama.hf(input_ids=ids).logits[0]
    p, q = (torch.distributions.Categorical(logits=logits) for logits in (base, npt))
    expected = torch.distributions.kl_divergence(p, q)
    assert expected.min() > 1e-3
    np.testing.assert_allclose(run.kl, expected.numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(run.nll_base[:-1], -p.log_prob(ids[0].roll(-1))[:-1].numpy(), rtol=1e-4)
    np.testing.assert_allclose(run.nll_npt[:-1], -q.log_prob(ids[0].roll(-1))[:-1].numpy(), rtol=1e-4)
    assert np.isnan(run.nll_base[-1])
    assert (run.npt_top.ids[:, 0] == npt.argmax(-1).numpy()).all()
    np.testing.assert_allclose(run.base_top.probabilities[:, 0], p.probs.max(-1).values.numpy(), rtol=1e-4)


def test_propagated_reads_the_stream_that_the_layer_below_spoiled(tiny_llama):
    below, above = specimen(tiny_llama, "N1", layer=1), specimen(tiny_llama, "N1", layer=3, seed=5)
    both = inspect(tiny_llama, live(below, above), PROMPT, mode="propagated").layers[3]
    alone = inspect(tiny_llama, live(above), PROMPT, mode="propagated").layers[3]
    local = inspect(tiny_llama, live(below, above), PROMPT, mode="local").layers[3]
    np.testing.assert_allclose(alone.scalar, local.scalar, rtol=1e-4, atol=1e-5)
    assert np.abs(both.scalar - local.scalar).max() > 1e-2
    ids = ids_of(tiny_llama)
    with torch.no_grad(), changed(tiny_llama, [{1: below}]):
        h = tiny_llama.hf(input_ids=ids, output_hidden_states=True).hidden_states[3]
    a = attention_of(tiny_llama, 3, h)
    expected = above.modulations["gate"].scalars(
        above.modulations["gate"].bottleneck(a), tiny_llama.parts(3).mlp_norm(h)
    )
    np.testing.assert_allclose(both.scalar, expected[0].detach().numpy(), rtol=1e-3, atol=1e-4)


def test_only_the_chosen_layers_run(tiny_llama):
    below, above = specimen(tiny_llama, "N1", layer=1), specimen(tiny_llama, "N1", layer=3, seed=5)
    chosen = inspect(tiny_llama, live(below, above), PROMPT, layers=[3])
    alone = inspect(tiny_llama, live(above), PROMPT)
    assert list(chosen.layers) == [3]
    np.testing.assert_array_equal(chosen.kl, alone.kl)


def test_trained_positions_differ_from_deployed_ones(tiny_llama):
    checkpoint = live(specimen(tiny_llama, "N1"))
    deployed = inspect(tiny_llama, checkpoint, PROMPT)
    trained = inspect(tiny_llama, checkpoint, PROMPT, positions="trained")
    assert np.abs(deployed.layers[2].scalar - trained.layers[2].scalar).max() > 1e-3


def test_the_prediction_is_left_out_on_request(tiny_llama):
    run = inspect(tiny_llama, live(specimen(tiny_llama, "N1")), PROMPT, logits=False)
    assert run.kl is None and run.base_top is None
    assert len(run.to_frame()) == len(run.pieces)


@pytest.mark.parametrize("mode, rows", [("local", 1), ("propagated", 2)])
def test_without_a_prediction_nothing_runs_that_is_not_asked_for(tiny_llama, mode, rows):
    checkpoint = live(specimen(tiny_llama, "N4", layer=1), specimen(tiny_llama, "N5", layer=2))
    ran = []
    hooks = [
        tiny_llama.parts(i).layer.register_forward_hook(
            lambda _, args, out, i=i: ran.append((i, len(args[0])))
        )
        for i in range(tiny_llama.n_layers)
    ]
    try:
        found = inspect(tiny_llama, checkpoint, PROMPT, mode=mode, logits=False)
    finally:
        for hook in hooks:
            hook.remove()
    assert ran == [(0, 1), (1, rows), (2, rows)]
    whole = inspect(tiny_llama, checkpoint, PROMPT, mode=mode)
    for layer, of_all in whole.layers.items():
        for name in ("relative_error", "cosine", "magnitude_ratio", "recovered", "update_norm", "scalar"):
            np.testing.assert_allclose(
                getattr(found.layers[layer], name), getattr(of_all, name), rtol=1e-4, atol=1e-6
            )


def test_the_frame_has_a_row_for_every_layer_and_token(tiny_llama):
    checkpoint = live(specimen(tiny_llama, "N5", layer=1), specimen(tiny_llama, "S0", layer=4))
    run = inspect(tiny_llama, checkpoint, PROMPT)
    frame = run.to_frame()
    assert len(frame) == 2 * len(run.tokens)
    row = frame[(frame.layer == 1) & (frame.token == 4)].iloc[0]
    assert row.scalar_down_2 == run.layers[1].scalars["down"][4, 2]
    assert row.kl == run.kl[4]


def test_sixteen_bit_models_are_inspected_in_float32_where_it_counts():
    model = tiny_model(dtype=torch.bfloat16)
    run = inspect(model, live(specimen(model, "N4")), PROMPT)
    assert np.isfinite(run.kl).all()
    assert run.layers[2].relative_error.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layers": [4]}, "layer 4 is no NPT layer of specimens; it has layers 2"),
        ({"layers": []}, "no layer was chosen"),
        ({"mode": "globally"}, "mode 'globally' does not exist"),
        ({"positions": "rotated"}, "positions 'rotated' do not exist"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 98}, "97"),
    ],
)
def test_bad_requests_are_refused_in_one_sentence(tiny_llama, arguments, words):
    arguments = {"prompt": PROMPT, **arguments}
    with pytest.raises(NptVizError, match=words) as caught:
        inspect(tiny_llama, live(specimen(tiny_llama, "N1")), **arguments)
    assert "\n" not in str(caught.value)


def test_an_inspection_says_what_was_asked_of_which_model(tiny_llama):
    run = inspect(tiny_llama, live(specimen(tiny_llama, "N4", layer=2)), "a ")
    assert (run.prompt, run.model, run.checkpoint) == ("a ", "tiny", "specimens")
    assert (run.layers[2].layer, run.layers[2].variant) == (2, "N4")
    assert any("ends with a space" in note for note in run.notes)
    assert run.base_top.ids.shape == run.npt_top.ids.shape == (2, 10)
    glyphs = [display_token(tiny_llama.tokenizer, int(i)).glyph for i in run.npt_top.ids[1]]
    assert list(run.npt_top.glyphs[1]) == glyphs
    # Ids have no text of their own; their glyphs stand for it.
    assert inspect(tiny_llama, live(specimen(tiny_llama, "N4")), [72, 34, 67]).prompt == "".join(
        display_token(tiny_llama.tokenizer, i).glyph for i in (72, 34, 67)
    )


def test_the_number_of_top_tokens_and_a_forced_bos_reach_the_result(tiny_llama):
    checkpoint = live(specimen(tiny_llama, "N1"))
    assert inspect(tiny_llama, checkpoint, "ab", top_k=3).base_top.ids.shape == (2, 3)
    forced = inspect(tiny_llama, checkpoint, "ab", bos=True)
    assert forced.token_ids[0] == tiny_llama.tokenizer.bos_token_id and len(forced.token_ids) == 3


def test_a_chat_prompt_goes_through_the_template():
    model = tiny_model()
    model.tokenizer.chat_template = "{% for message in messages %}<{{ message['content'] }}>{% endfor %}"
    run = inspect(model, live(specimen(model, "N1")), "ab", chat=True)
    assert [token.glyph for token in run.pieces] == ["<", "a", "b", ">"]


def test_scalars_of_the_tanh_rule_are_c_times_z_A(tiny_llama):
    adapter = specimen(tiny_llama, "T1", layer=2, components=1)
    run = inspect(tiny_llama, live(adapter), PROMPT)
    h = streams(tiny_llama, ids_of(tiny_llama))[2]
    a, z = attention_of(tiny_llama, 2, h)[0], tiny_llama.parts(2).mlp_norm(h)[0]
    A = adapter.modulations["gate"].A
    expected = adapter.semantics.scale * torch.tanh(a @ A) * (z @ A)
    np.testing.assert_allclose(run.layers[2].scalars["gate"], expected.detach().numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("logits", "steps"), [(True, 6), (False, 3)])
def test_progress_counts_layers_and_where_they_are_asked_for_predictions(tiny_llama, logits, steps):
    counts = []
    checkpoint = live(specimen(tiny_llama, "N1"))
    inspect(tiny_llama, checkpoint, PROMPT, logits=logits, progress=lambda *both: counts.append(both))
    assert counts == [(i, steps) for i in range(1, steps + 1)]
