"""NPT layers inside the model, against a Llama written out token by token."""

from copy import deepcopy

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from conftest import specimen, tiny_model
from literal import LiteralLlama, edited

from npt_viz.adapter import VARIANTS
from npt_viz.capture.running import NoAttention, changed, forward_pass
from npt_viz.errors import NptVizError

PROMPT = torch.tensor([[0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66]])
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def close(found, expected, tolerance=1e-5):
    """Relative to the whole tensor, in the norm."""
    return (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


@pytest.fixture(scope="module")
def literal(tiny_llama):
    return LiteralLlama(tiny_llama)


def logits_of(model, final):
    return model.unembedding(final)


def test_the_literal_llama_is_the_base_model(tiny_llama, literal):
    """The oracle itself, held against Hugging Face."""
    output = tiny_llama.hf(PROMPT, output_hidden_states=True)
    layers, final, logits = literal.run(PROMPT[0])
    for layer in range(1, tiny_llama.n_layers):
        assert close(output.hidden_states[layer][0], layers[layer].hidden)
    assert close(output.hidden_states[-1][0], final)
    assert close(output.logits[0], logits)


@each_variant
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("positions", ["deployed", "trained"])
def test_a_lane_is_the_literal_forward_pass_of_its_variant(
    tiny_llama, literal, variant, components, positions
):
    adapters = {
        layer: specimen(tiny_llama, variant, layer, components=components, seed=layer) for layer in (1, 3)
    }
    found = forward_pass(tiny_llama, PROMPT, [adapters], record=range(5), positions=positions)
    layers, final, logits = literal.run(
        PROMPT[0], {layer: (variant, a) for layer, a in adapters.items()}, rope=positions == "deployed"
    )
    for layer, seen in enumerate(layers):
        assert close(found.layers[layer].hidden[0], seen.hidden)
        assert close(found.layers[layer].attention[0], seen.attention)
        assert close(found.layers[layer].mlp_output[0], seen.mlp_output)
    assert close(found.final[0], final)
    assert close(logits_of(tiny_llama, found.final)[0], logits)


def test_layers_of_different_variants_live_in_one_lane(tiny_llama, literal):
    variants = {0: "N3", 1: "S1-later+residual", 2: "T1", 4: "N5"}
    lane = {layer: specimen(tiny_llama, variant, layer) for layer, variant in variants.items()}
    _, final, _ = literal.run(PROMPT[0], {layer: (variants[layer], lane[layer]) for layer in lane})
    assert close(forward_pass(tiny_llama, PROMPT, [lane]).final[0], final)


def test_dropped_attention_is_the_layer_without_it(tiny_llama, literal):
    _, final, _ = literal.run(PROMPT[0], {1: ("dropped", None), 3: ("dropped", None)})
    lane = {1: NoAttention(), 3: NoAttention()}
    assert close(forward_pass(tiny_llama, PROMPT, [lane]).final[0], final)


def test_one_token_of_a_layer_equals_the_layer_with_that_tokens_update_in_its_weights(tiny_llama):
    """A second oracle: Hugging Face's own layer, copied and edited."""
    layer, variant = 2, "N5"
    adapter = specimen(tiny_llama, variant, layer)
    seen = forward_pass(tiny_llama, PROMPT, [{layer: adapter}], record=[layer, layer + 1]).layers
    hidden, attention = seen[layer].hidden, seen[layer].attention
    for token in (0, 4, 10):
        copy = deepcopy(tiny_llama.parts(layer).layer)
        for target, projection in zip(
            ("gate", "up", "down"), (copy.mlp.gate_proj, copy.mlp.up_proj, copy.mlp.down_proj), strict=True
        ):
            weight, _ = edited(
                variant, projection.weight.double(), adapter.modulations[target], attention[0, token]
            )
            projection.weight.copy_(weight)
        copy.self_attn.o_proj.weight.zero_()
        cos_sin = tiny_llama.backbone.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
        assert close(copy(hidden, position_embeddings=cos_sin)[0, token], seen[layer + 1].hidden[0, token])


@pytest.mark.parametrize("positions", ["deployed", "trained"])
def test_several_lanes_in_one_pass_equal_as_many_passes(tiny_llama, positions):
    lanes = [
        {},
        {3: specimen(tiny_llama, "N1", 3)},
        {1: specimen(tiny_llama, "N3", 1), 3: specimen(tiny_llama, "S0", 3)},
        {1: NoAttention(), 4: specimen(tiny_llama, "T1", 4)},
        {},
    ]
    together = forward_pass(tiny_llama, PROMPT, lanes, record=range(5), positions=positions)
    for i, lane in enumerate(lanes):
        alone = forward_pass(tiny_llama, PROMPT, [lane], record=range(5), positions=positions)
        assert close(together.final[i], alone.final[0])
        for layer in range(5):
            for name in ("hidden", "attention", "mlp_output"):
                assert close(getattr(together.layers[layer], name)[i], getattr(alone.layers[layer], name)[0])


def test_layers_below_the_first_change_run_once(tiny_llama):
    rows = {}
    handles = [
        tiny_llama.parts(layer).mlp.register_forward_hook(
            lambda module, args, output, layer=layer: rows.update({layer: output.shape[0]})
        )
        for layer in range(5)
    ]
    try:
        forward_pass(tiny_llama, PROMPT, [{}, {2: specimen(tiny_llama, "N1", 2)}, {3: NoAttention()}])
    finally:
        for handle in handles:
            handle.remove()
    assert rows == {0: 1, 1: 1, 2: 3, 3: 3, 4: 3}


def test_without_a_change_the_pass_is_the_base_model_bit_for_bit(tiny_llama):
    base = tiny_llama.hf(PROMPT, output_hidden_states=True)
    found = forward_pass(tiny_llama, PROMPT, record=range(5))
    assert torch.equal(logits_of(tiny_llama, found.final), base.logits)
    for layer in range(5):
        assert torch.equal(found.layers[layer].hidden, base.hidden_states[layer])


def test_a_lane_without_a_change_is_the_base_beside_npt_lanes(tiny_llama):
    base = forward_pass(tiny_llama, PROMPT).final
    beside = forward_pass(tiny_llama, PROMPT, [{}, {0: specimen(tiny_llama, "N5", 0)}]).final
    assert close(beside[0], base[0], 1e-6)
    assert not close(beside[1], base[0], 1e-2)


def test_trained_positions_are_the_base_without_rotation(tiny_llama, literal):
    _, final, _ = literal.run(PROMPT[0], rope=False)
    found = forward_pass(tiny_llama, PROMPT, positions="trained").final
    assert close(found[0], final)
    assert not close(found, forward_pass(tiny_llama, PROMPT).final, 1e-2)


def test_one_lane_holds_for_every_prompt_of_a_batch(tiny_llama):
    lane = {1: specimen(tiny_llama, "N4", 1), 3: specimen(tiny_llama, "S0", 3)}
    prompts = torch.randint(2, 258, (3, 7))
    together = forward_pass(tiny_llama, prompts, [lane]).final
    for i in range(3):
        assert close(together[i], forward_pass(tiny_llama, prompts[i : i + 1], [lane]).final[0])


def test_later_tokens_change_nothing_before_them(tiny_llama):
    lane = {1: specimen(tiny_llama, "N5", 1), 3: specimen(tiny_llama, "T1", 3)}
    longer = torch.cat([PROMPT, torch.tensor([[250, 9]])], dim=1)
    n_tokens = PROMPT.shape[1]
    assert close(
        forward_pass(tiny_llama, longer, [lane]).final[:, :n_tokens],
        forward_pass(tiny_llama, PROMPT, [lane]).final,
    )


def greedy(model, lane, steps, *, cache, positions="deployed"):
    """(tokens, logits) of a greedy continuation by Hugging Face's generate."""
    with changed(model, [lane], positions=positions):
        output = model.hf.generate(
            PROMPT,
            attention_mask=torch.ones_like(PROMPT),
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            use_cache=cache,
            pad_token_id=1,
            return_dict_in_generate=True,
            output_logits=True,
        )
    return output.sequences, torch.stack(output.logits)


@each_variant
@pytest.mark.parametrize("positions", ["deployed", "trained"])
def test_cached_generation_is_uncached_generation(tiny_llama, variant, positions):
    if variant == "S0-pooled":  # It has no continuation token by token: test_a_pooled_layer_is_not_continued.
        return
    lane = {layer: specimen(tiny_llama, variant, layer) for layer in (1, 3)}
    cached, cached_logits = greedy(tiny_llama, lane, 9, cache=True, positions=positions)
    whole, whole_logits = greedy(tiny_llama, lane, 9, cache=False, positions=positions)
    assert torch.equal(cached, whole)
    assert close(cached_logits, whole_logits)
    # And both are what one pass over the finished text says.
    once = logits_of(tiny_llama, forward_pass(tiny_llama, cached, [lane], positions=positions).final)
    assert close(cached_logits[:, 0], once[0, PROMPT.shape[1] - 1 : -1])


@each_variant
def test_a_bf16_model_follows_its_float_self(variant):
    half = tiny_model(dtype=torch.bfloat16)
    lane = {layer: specimen(half, variant, layer) for layer in (1, 3)}
    found = forward_pass(half, PROMPT, [lane], record=[1])
    assert found.final.dtype == torch.bfloat16
    _, final, _ = LiteralLlama(half).run(PROMPT[0], {layer: (variant, a) for layer, a in lane.items()})
    # bf16 has 8 bits: five layers of rounding stay within a few hundredths.
    assert close(found.final[0], final, 0.06)


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_an_offloaded_model_gives_the_same_numbers(tmp_path, where):
    plain, moved = tiny_model(), tiny_model()
    lane = {1: specimen(plain, "N5", 1), 3: specimen(plain, "S1-early", 3)}
    expected = forward_pass(plain, PROMPT, [{}, lane], record=[1, 3])
    if where == "cpu":
        cpu_offload(moved.hf, torch.device("cpu"))
    else:
        disk_offload(moved.hf, tmp_path, torch.device("cpu"))
    assert moved.parts(1).gate.weight.is_meta
    found = forward_pass(moved, PROMPT, [{}, lane], record=[1, 3])
    assert torch.equal(found.final, expected.final)
    for layer in (1, 3):
        assert torch.equal(found.layers[layer].mlp_output, expected.layers[layer].mlp_output)
    assert moved.fingerprint([1, 3])["layers"] == plain.fingerprint([1, 3])["layers"]


def test_the_stream_is_what_the_final_norm_reads(tiny_llama, literal):
    lane = {1: specimen(tiny_llama, "N3", 1)}
    found = forward_pass(tiny_llama, PROMPT, [{}, lane])
    layers, _, _ = literal.run(PROMPT[0], {1: ("N3", lane[1])})
    assert close(found.stream[1], layers[-1].output)
    assert torch.equal(tiny_llama.backbone.norm(found.stream), found.final)


@pytest.mark.parametrize("last", [1, 3, 4])
def test_a_pass_that_stops_early_has_seen_the_same_and_runs_nothing_above(tiny_llama, last):
    lanes = [{}, {1: specimen(tiny_llama, "N5", 1)}]
    ran = []
    handles = [
        tiny_llama.parts(layer).layer.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for layer in range(5)
    ]
    try:
        stopped = forward_pass(tiny_llama, PROMPT, lanes, record=range(last + 1), stop_after=last)
    finally:
        for handle in handles:
            handle.remove()
    assert ran == list(range(last + 1))
    whole = forward_pass(tiny_llama, PROMPT, lanes, record=range(last + 1))
    for layer in range(last + 1):
        for name in ("hidden", "attention", "mlp_output"):
            assert torch.equal(getattr(stopped.layers[layer], name), getattr(whole.layers[layer], name))
    if last < 4:
        assert stopped.final.numel() == 0


@pytest.mark.parametrize("variant", ["N1", "N2"])
def test_a_record_taken_inside_a_changed_block_is_from_before_the_change(tiny_llama, variant):
    lane = {2: specimen(tiny_llama, variant)}
    expected = forward_pass(tiny_llama, PROMPT, [lane], record=[2]).layers[2]
    with changed(tiny_llama, [lane]):
        found = forward_pass(tiny_llama, PROMPT, record=[2]).layers[2]
    for name in ("hidden", "attention", "mlp_output"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_a_pooled_layer_is_not_continued(tiny_llama):
    lane = {1: specimen(tiny_llama, "S0-pooled", 1)}
    with pytest.raises(NptVizError, match="token by token"), changed(tiny_llama, [lane]):
        pass


def test_a_pooled_layer_mixes_the_tokens_of_its_own_row_only(tiny_llama):
    lane = {1: specimen(tiny_llama, "S0-pooled", 1)}
    other = PROMPT.flip(1)
    alone = forward_pass(tiny_llama, PROMPT, [lane]).final[0]
    together = forward_pass(tiny_llama, torch.cat([PROMPT, other]), [lane]).final[0]
    assert close(together, alone)
    # Not causal: another last token changes what comes before it.
    ended = torch.cat([PROMPT[:, :-1], PROMPT[:, :1] + 40], dim=1)
    assert not close(forward_pass(tiny_llama, ended, [lane]).final[0, :-1], alone[:-1], 1e-3)
