"""What the NPT layers read and wrote, against the Llama written out token by token."""

from dataclasses import fields

import numpy as np
import torch
from conftest import specimen, tiny_model
from literal import LiteralLlama

from npt_viz.capture.layer_trace import attention_sinks, fit_columns, fit_of, local_trace, traces
from npt_viz.capture.layer_view import views_of

PROMPT = torch.tensor([0, 72, 103, 31, 31, 200, 5, 97, 14, 140, 66])
VARIANTS = {1: "N1", 2: "N3", 3: "S0"}


def close(found, expected, tolerance=1e-5):
    return (found.double() - expected.double()).norm() <= tolerance * expected.double().norm()


def test_both_modes_are_the_literal_base_and_npt_model(tiny_llama):
    adapters = {layer: specimen(tiny_llama, v, layer, seed=layer) for layer, v in VARIANTS.items()}
    literal = LiteralLlama(tiny_llama)
    base, _, _ = literal.run(PROMPT)
    npt, _, _ = literal.run(PROMPT, {layer: (v, adapters[layer]) for layer, v in VARIANTS.items()})
    seen = traces(tiny_llama, adapters, PROMPT.tolist())
    for layer, variant in VARIANTS.items():
        target = base[layer].mlp_output + (0 if variant == "N3" else base[layer].attention)
        for mode, run in (("local", base), ("propagated", npt)):
            found = getattr(seen, mode)[layer]
            assert close(found.hidden, run[layer].hidden)
            assert close(found.attention, run[layer].attention)
            assert close(found.target, target)
            assert close(found.base_attention, base[layer].attention)
        assert close(seen.propagated[layer].output, npt[layer].mlp_output)
    assert not close(seen.local[3].output, npt[3].mlp_output)


def test_a_token_that_dwarfs_the_others_is_a_sink(tiny_llama):
    adapters = {0: specimen(tiny_llama, "N1", 0)}
    hook = tiny_llama.hf.model.embed_tokens.register_forward_hook(
        lambda module, args, output: torch.cat([100 * output[:, :1], output[:, 1:]], dim=1)
    )
    try:
        found = traces(tiny_llama, adapters, PROMPT.tolist()).is_sink
    finally:
        hook.remove()
    assert found.tolist() == [True] + [False] * 10
    assert not traces(tiny_llama, adapters, PROMPT.tolist()).is_sink.any()


def test_a_sink_is_above_ten_times_the_lower_median():
    def hidden(*norms):
        return torch.tensor(norms, dtype=torch.float32)[:, None] * torch.nn.functional.normalize(
            torch.randn(len(norms), 7), dim=-1
        )

    assert attention_sinks(hidden(2, 3, 5, 15)).tolist() == [False] * 4
    assert attention_sinks(hidden(2, 3, 5, 31)).tolist() == [False, False, False, True]
    assert attention_sinks(hidden(41, 4)).tolist() == [True, False]
    exact = torch.tensor([[1.0, 0.0], [0.0, 1.0], [10.0, 0.0]])
    assert attention_sinks(exact).tolist() == [False] * 3


def test_a_bf16_model_is_traced_in_float32_and_a_float64_model_in_float64():
    for dtype, wide in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        model = tiny_model(dtype=dtype)
        trace = local_trace(model, specimen(model, "N5", 2), PROMPT.tolist())
        assert {getattr(trace, field.name).dtype for field in fields(trace)} == {wide}
        view = views_of(model, {2: specimen(model, "N5", 2)}, PROMPT.tolist())[2]
        names = ("hidden", "attention", "mlp_input", "gate", "up", "intermediate", "down")
        assert {getattr(view, name).dtype for name in names} == {torch.float32}
        assert {change.dtype for change in view.exact.values()} == {torch.float32}


def test_a_fit_is_of_the_output_that_is_given(tiny_llama):
    adapter = specimen(tiny_llama, "N1", 2)
    trace = local_trace(tiny_llama, adapter, PROMPT.tolist())
    own, perfect = fit_of(adapter, trace), fit_of(adapter, trace, trace.target)
    assert (perfect["recovered"] == 1).all() and (perfect["relative_error"] == 0).all()
    assert (own["recovered"] < 0.999).all()
    expected = (
        1
        - ((trace.output - trace.target).norm(dim=-1) / (trace.unmodulated - trace.target).norm(dim=-1)) ** 2
    )
    np.testing.assert_allclose(own["recovered"], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_nothing_to_recover_is_nan_and_no_perfect_fit(tiny_llama):
    target = torch.randn(3, 5)
    unmodulated = target.clone()
    unmodulated[1] += 1
    recovered = fit_columns(target, unmodulated, target)["recovered"]
    assert np.isnan(recovered[[0, 2]]).all() and recovered[1] == 1
    standard = specimen(tiny_llama, "S0-residual", 3)
    assert np.isnan(fit_of(standard, local_trace(tiny_llama, standard, PROMPT.tolist()))["recovered"]).all()
