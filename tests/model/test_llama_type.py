"""Which architectures may carry NPT layers: proved on a tiny random model of each class."""

import pytest
import torch
import transformers
from conftest import perturbed

from npt_viz.errors import NptVizError
from npt_viz.model.llama_type import KNOWN, check_arithmetic, check_structure

SIZES = {
    "vocab_size": 53,
    "hidden_size": 24,
    "intermediate_size": 31,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 4,
    "max_position_embeddings": 19,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

ACCEPTED = ["Llama", "Mistral", "Qwen2", "Qwen3", "SmolLM3", "SeedOss", "Cwm", "Ministral", "HunYuanDenseV1"]

REFUSED = {
    "Gemma2": "has pre_feedforward_layernorm beside",
    "Gemma": "has the activation gelu",
    "Phi3": "has resid_attn_dropout beside",
    "Glm4": "beside the two norms",
    "Olmo2": "has no input_layernorm",
    "Olmo": "has OlmoLayerNorm as input_layernorm",
    "Cohere": "has no post_attention_layernorm",
    "StableLm": "has dropout beside",
    "Mixtral": "has no mlp.gate_proj",
    "Qwen2Moe": "has no mlp.gate_proj",
    "GPT2": "no list model.layers",
    "GPTNeoX": "no list model.layers",
    "Bloom": "no list model.layers",
    "Mamba": "no list model.layers",
}


def tiny(family: str, **settings):
    config_class = getattr(transformers, f"{family}Config", None)
    model_class = getattr(transformers, f"{family}ForCausalLM", None) or getattr(
        transformers, f"{family}LMHeadModel", None
    )
    if model_class is None:
        pytest.skip(f"this transformers has no {family}")
    config = config_class(**{**SIZES, **settings})
    torch.manual_seed(0)
    return perturbed(model_class(config)).eval()


@pytest.mark.parametrize("family", ACCEPTED)
def test_plain_prenorm_swiglu_models_are_accepted(family):
    model = tiny(family)
    check_structure(model, "tiny")
    check_arithmetic(model, "tiny")


def test_every_type_that_is_trusted_without_the_arithmetic_is_proved_here():
    proved = {getattr(transformers, f"{family}Config")().model_type for family in ACCEPTED[: len(KNOWN)]}
    assert proved == KNOWN


@pytest.mark.parametrize("family", REFUSED)
def test_other_forms_are_refused_by_the_part_that_differs(family):
    with pytest.raises(NptVizError, match=REFUSED[family]):
        check_structure(tiny(family), "tiny")


def test_structure_is_checked_without_memory_for_weights():
    with torch.device("meta"):
        model = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**SIZES))
    with pytest.raises(NptVizError, match="pre_feedforward_layernorm"):
        check_structure(model, "tiny")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"residual_multiplier": 0.22}, "a residual multiplier"),
        ({"logits_scaling": 8.0}, "logits are not the unembedding's output"),
    ],
)
def test_hidden_multipliers_are_found_by_arithmetic(settings, fault):
    model = tiny("Granite", **settings)
    check_structure(model, "tiny")
    with pytest.raises(NptVizError, match=fault):
        check_arithmetic(model, "tiny")


def test_a_granite_with_multipliers_of_one_is_a_llama():
    check_arithmetic(tiny("Granite"), "tiny")


def test_bf16_rounding_is_no_hidden_multiplier():
    """A huge stream, as in the last layers of real models, rounds by more than a layer adds."""
    model = tiny("Llama").bfloat16()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(3e4)
    check_arithmetic(model, "tiny")


def test_the_check_leaves_no_hook():
    model = tiny("Granite", residual_multiplier=0.22)
    with pytest.raises(NptVizError):
        check_arithmetic(model, "tiny")
    assert not any(module._forward_hooks for module in model.modules())


def test_capped_logits_are_refused_by_name():
    """Small logits are hardly capped, so that arithmetic on a tiny model could miss it."""
    model = tiny("Llama")
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(NptVizError, match="final_logit_softcapping"):
        check_structure(model, "tiny")


def test_a_projection_of_another_shape_is_refused():
    model = tiny("Llama")
    model.model.layers[1].mlp.up_proj = torch.nn.Linear(24, 29)
    with pytest.raises(
        NptVizError, match=r"model.layers.1 has mlp.up_proj of shape \(29, 24\) instead of \(31, 24\)"
    ):
        check_structure(model, "tiny")
