"""Activations that are not finite are traced to the first layer, part and token; no analysis shows NaN instead."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from conftest import specimen, tiny_model
from onpage import save_variant

import npt_viz
from npt_viz.__main__ import main
from npt_viz.analysis.ablation import ablation_table
from npt_viz.analysis.class_floor import class_floor
from npt_viz.analysis.continuation import continuations
from npt_viz.analysis.downstream import downstream
from npt_viz.analysis.health import health
from npt_viz.analysis.reconstruction import reconstruction
from npt_viz.capture.layer_trace import traces
from npt_viz.capture.running import NoAttention, forward_pass
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.cases import Case
from npt_viz.editing.judging.scorecard import scorecard
from npt_viz.editing.judging.sweep import alpha_sweep
from npt_viz.editing.making.from_source import update_from
from npt_viz.errors import NotFiniteError
from npt_viz.question import Question
from npt_viz.results.attribution import Quantity
from npt_viz.training.spec import AdapterSpec

PROMPT = "the cat the dog"
IDS = [int(i) for i in tiny_model(1).tokenizer(PROMPT)["input_ids"]]
TOO_LARGE = 5
"""The token after which layer 1 of the overflowing model leaves float16: c."""


@cache
def overflowing():
    """In float16 the MLP of layer 1 overflows at "c", whose embedding alone has axis 0; every weight is finite."""
    model = tiny_model(dtype=torch.float32)
    embedding = model.hf.get_input_embeddings().weight
    embedding[:, 0] = 0
    embedding[IDS[TOO_LARGE - 1], 0] = 50
    for layer in range(model.n_layers):
        parts = model.parts(layer)
        parts.attention.o_proj.weight[0] = 0
        parts.down.weight[0] = 0
    for projection in (model.parts(1).gate, model.parts(1).up):
        projection.weight[:, 0] = 100
    model.parts(1).down.weight[1] = 100
    model.hf.to(torch.float16)
    return model


def literal_first(model, ids):
    """(layer, part, token) by Hugging Face's own run, its parts looked at one after the other."""
    seen = {}

    def keep(name):
        return lambda module, args, output: seen.__setitem__(
            name, output[0] if isinstance(output, tuple) else output
        )

    handles = []
    for i, layer in enumerate(model.hf.model.layers):
        handles += [
            layer.self_attn.register_forward_hook(keep((i, "attention output"))),
            layer.mlp.register_forward_hook(keep((i, "MLP's output"))),
        ]
    try:
        model.hf(input_ids=torch.tensor([ids]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    for (layer, part), values in seen.items():
        for token, row in enumerate(values.reshape(len(ids), -1).tolist()):
            if not np.isfinite(row).all():
                return layer, part, token
    return None


def test_the_bases_own_overflow_is_named_by_layer_part_and_token():
    model = overflowing()
    layer, part, token = literal_first(model, IDS)
    assert (layer, part) == (1, "MLP's output") and token == TOO_LARGE - 1
    with pytest.raises(NotFiniteError) as caught:
        forward_pass(model, torch.tensor([IDS]))
    sentence = str(caught.value)
    assert "tiny itself overflows in float16" in sentence
    assert f"the {part} of layer {layer} is " in sentence and f"at token {token} (c)" in sentence
    assert sentence.endswith("open the model with dtype float32 or bfloat16")


def checkpoint_of(model, layers=(2, 3)):
    return Checkpoint.from_adapters(
        {layer: specimen(model, "N1", layer, seed=layer) for layer in layers}, model, "made"
    )


def trained(model, checkpoint):
    return next(
        iter(npt_viz.train(model, AdapterSpec(layers=(2,), rank=3), [PROMPT * 4] * 8, "direct", steps=1))
    )


ANALYSES = {
    "inspect": lambda m, c: npt_viz.inspect(m, c, PROMPT),
    "inspect, no logits": lambda m, c: npt_viz.inspect(m, c, PROMPT, logits=False),
    "traces": lambda m, c: traces(m, {2: c.adapter(2)}, IDS),
    "reconstruction": lambda m, c: reconstruction(m, c, Question(prompt=PROMPT)),
    "ablation": lambda m, c: ablation_table(m, c.adapter(2), IDS),
    "downstream": lambda m, c: downstream(m, c, [IDS]),
    "continuations": lambda m, c: continuations(m, c, Question(prompt=PROMPT), n_tokens=3),
    "class floor": lambda m, c: class_floor(m, c.adapter(2), [PROMPT * 4] * 8),
    "attribution": lambda m, c: npt_viz.attribution(m, c, PROMPT, Quantity(kind="update_norm", token=8, layer=2)),
    "preview": lambda m, c: npt_viz.preview_update(m, c, PROMPT, layer=2),
    "transplant": lambda m, c: npt_viz.transplant(m, c, PROMPT, PROMPT, layers=2),
    "training": trained,
}  # fmt: skip


@pytest.mark.parametrize("name", ANALYSES)
def test_no_analysis_shows_nan_instead(name):
    model = overflowing()
    with pytest.raises(NotFiniteError, match=r"MLP's output of layer 1 is \w+ at token \d+"):
        ANALYSES[name](model, checkpoint_of(model))


@pytest.mark.parametrize("name", ANALYSES)
def test_a_weight_that_turned_nan_in_memory_is_named(name):
    model = tiny_model()
    model.parts(2).attention.o_proj.weight[3, 5] = torch.nan
    with pytest.raises(
        NotFiniteError, match=r"model\.layers\.2\.self_attn\.o_proj\.weight holds 1 NaN .* \[3, 5\]"
    ):
        ANALYSES[name](model, checkpoint_of(model))


def swollen(model, factor=1e18):
    """N1 in layer 2 whose product of factors leaves float32, though each weight is finite."""
    adapter = specimen(model, "N1", 2)
    for parameter in adapter.parameters():
        parameter.mul_(factor)
    return Checkpoint.from_adapters({2: adapter, 3: specimen(model, "N1", 3)}, model, "swollen")


NOT_OF_THE_ADAPTER = ("class floor", "training")
"""They begin with a fresh adapter."""


@pytest.mark.parametrize("name", [name for name in ANALYSES if name not in NOT_OF_THE_ADAPTER])
def test_an_adapter_whose_product_overflows_is_named_with_its_largest_weight(name):
    model = tiny_model()
    sentence = r"NPT layer 2 overflows, its largest weight is .* in layer_2_np\.W_\w+"
    if name == "preview":  # There the update is no adapter any more.
        sentence = "layer 2 is NaN at token 0 .*choose a smaller change$"
    with pytest.raises(NotFiniteError, match=sentence):
        ANALYSES[name](model, swollen(model))


def test_a_layer_that_overflows_on_the_bases_stream_alone_is_found_too():
    """Layer 3 on the base's own a; in the running model layer 2 leaves nothing of the stream that it reads."""
    model = tiny_model()
    with pytest.raises(NotFiniteError, match="NPT layer 2 overflows"):
        traces(
            model,
            {2: swollen(model).adapter(2)},
            IDS,
            kept_pass=forward_pass(model, torch.tensor([IDS]), [{}, {}], record=[2]),
        )


def test_a_nan_that_training_left_in_a_live_adapter_is_named():
    model = tiny_model()
    adapter = specimen(model, "N4", 2)
    adapter.modulation("up").W_b_up[1, 2, 3] = torch.nan
    with pytest.raises(
        NotFiniteError, match=r"layer_2_np\.W_b_up_up\.1 holds 1 NaN .*\[2, 3\]; open an earlier"
    ):
        npt_viz.inspect(model, Checkpoint.from_adapters({2: adapter}, model, "live"), PROMPT)


def test_logits_that_overflow_are_told_from_a_state_that_does(tiny_llama):
    model = tiny_model()
    model.hf.lm_head.weight[9] = 3e38
    with pytest.raises(
        NotFiniteError, match="its logits after token 0 are not finite in float32, though its state there is"
    ):
        npt_viz.inspect(model, checkpoint_of(model), PROMPT)
    assert np.isfinite(npt_viz.inspect(tiny_llama, checkpoint_of(tiny_llama), PROMPT).kl).all()


def test_the_positions_of_a_batch_are_those_of_the_row(tiny_llama):
    model = overflowing()
    ids = torch.tensor([[3] * 7, IDS[:7]])
    with pytest.raises(NotFiniteError, match=rf"at token {TOO_LARGE - 1} \(c\)"):
        forward_pass(model, ids, record=[2], stop_after=2)


def test_a_sweep_leaves_a_gap_where_a_strength_overflows():
    """Where the stream can no longer be squared its norm is 0, and every logit: no number, and no overflow to see."""
    model = tiny_model()
    update = update_from(model, checkpoint_of(model), PROMPT, layer=2, token=4)
    sweep = alpha_sweep(
        model, update, PROMPT, "a", "b", alphas=[0.5, 1e37], unrelated=["x y"], neutral=["z " * 20]
    )
    assert np.isfinite(sweep.margin[0]) and np.isnan(sweep.margin[1])
    assert np.isfinite(sweep.perplexity[0]) and np.isnan(sweep.perplexity[1])
    with pytest.raises(NotFiniteError, match="choose a smaller change"):
        scorecard(model, [], [update.at(1e37)], Case(context="x", prompt=PROMPT, new="a", unrelated=("y",)))


def test_nan_that_means_nothing_to_recover_stays(tiny_llama):
    checkpoint = Checkpoint.from_adapters(
        {2: specimen(tiny_llama, "S0-residual", 2)}, tiny_llama, "S0-residual"
    )
    run = npt_viz.inspect(tiny_llama, checkpoint, PROMPT)
    assert np.isnan(run.layers[2].recovered).all() and np.isnan(run.layers[2].update_norm).all()
    assert np.isfinite(run.kl).all()


def test_a_lane_without_attention_does_not_hide_the_bases_overflow():
    with pytest.raises(NotFiniteError, match="MLP's output of layer 1"):
        forward_pass(overflowing(), torch.tensor([IDS]), [{}, {1: NoAttention()}], may_overflow=True)


def test_health_reports_it_as_a_finding():
    model = overflowing()
    report = health(model, checkpoint_of(model), [PROMPT * 6] * 4)
    assert report.findings[0].rule == "not_finite"
    assert "MLP's output of layer 1" in report.findings[0].meaning


def test_commands_say_it_once_and_end_with_1(tmp_path, capsys):
    model = overflowing()
    model.hf.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    checkpoint = save_variant(tmp_path / "npt", model, "N1")
    asked = [
        "--model",
        str(tmp_path / "model"),
        "--dtype",
        "float16",
        "--checkpoint",
        checkpoint,
        "--prompt",
        PROMPT,
    ]
    for command in ("inspect",):
        assert main([command, *asked, "--json"]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.splitlines()[-1].startswith("npt_viz: ") and "MLP's output of layer 1" in err
    assert main(["health", *asked[:-2], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["rule"] == "not_finite"
