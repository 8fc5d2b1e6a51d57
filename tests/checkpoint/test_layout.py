"""What does not fit is refused with the key's name: missing, doubled, misshapen, mixed."""

import re

import pytest
import torch
from handmade import NP_COMPONENT, S1, S2, format_a, format_b, format_c

from npt_viz import NptVizError, open_checkpoint


def refusal(tmp_path, tensors) -> str:
    torch.save(tensors, tmp_path / "npt_weights.pt")
    with pytest.raises(NptVizError) as caught:
        open_checkpoint(tmp_path)
    message = str(caught.value)
    assert "npt_weights.pt" in message and "\n" not in message
    return message


COMPLETE = {
    "single": format_a(2),
    "dual": format_a(2, ("gate", "up")),
    "triple of three": format_a(2, ("gate", "up", "down"), components=3),
    "S2": format_b(2, S2),
    "S1": format_b(2, S1),
    "C": format_c((2,))["state_dict"],
}


@pytest.mark.parametrize("kind", COMPLETE)
def test_every_missing_tensor_is_noticed(tmp_path, kind):
    """Each tensor in turn, beside a complete layer that must not hide it."""
    for name in COMPLETE[kind]:
        rest = {other: tensor for other, tensor in COMPLETE[kind].items() if other != name}
        # Half of S1 is a variant of its own, which a whole S1 layer in the same file makes incredible.
        message = refusal(tmp_path, rest | (format_b(4, S1) if kind == "S1" else format_a(4)))
        role = re.search(r"W_down|W_a_up|W_b_up|A_proj|B_\w+(?=\.weight)|[AB]$", name)[0]
        assert f" {role} " in message and ("layer 2" in message or "layer_2_" in message)


@pytest.mark.parametrize("kind", COMPLETE)
@pytest.mark.parametrize("axis", [0, 1])
def test_every_misshapen_tensor_is_refused_by_name(tmp_path, kind, axis):
    """One size too large along either axis; a sound layer beside it says what the model's sizes are."""
    for name, tensor in COMPLETE[kind].items():
        shape = list(tensor.shape)
        shape[axis] += 1
        message = refusal(tmp_path, COMPLETE[kind] | {name: torch.ones(shape)} | format_a(4))
        assert name in message


def test_layers_of_different_models_do_not_mix(tmp_path):
    other = {name: torch.ones(tensor.shape[0], 37) for name, tensor in format_a(3).items() if "b_up" in name}
    message = refusal(tmp_path, format_a(2) | format_a(3) | other)
    assert "layer_3_np.W_b_up" in message and "d_ffn 37" in message and "31" in message


def test_components_of_one_target_need_one_rank(tmp_path):
    five = {name: tensor for name, tensor in format_a(2, components=2, rank=5).items() if name.endswith(".1")}
    assert "ranks [7, 5]" in refusal(tmp_path, format_a(2, components=2) | five)


@pytest.mark.parametrize(
    "twice",
    [
        format_a(2) | format_a(2, prefix=NP_COMPONENT),
        format_a(2) | format_a(2, indexed=True),
        format_a(2) | format_a(2, ("gate", "up")),
    ],
    ids=["two prefixes", "with and without index", "with and without suffix"],
)
def test_two_tensors_for_one_place_are_refused(tmp_path, twice):
    assert "name one place of layer 2 and hold two tensors" in refusal(tmp_path, twice)


@pytest.mark.parametrize(
    "mixed",
    [
        format_b(2, ("A_proj", "B_proj", "B_mult")),
        format_a(2) | format_b(2, S2),
        format_a(2) | format_c((2,))["state_dict"],
    ],
    ids=["S0 and S1", "A and B", "A and C"],
)
def test_a_layer_of_two_variants_is_refused(tmp_path, mixed):
    assert "mixes the keys of several variants" in refusal(tmp_path, mixed)


def test_a_component_number_far_away_costs_nothing(tmp_path):
    tensors = format_a(2, indexed=True)
    tensors["layer_2_np.W_down.9999"] = torch.ones(24, 7)
    assert "has no component 1" in refusal(tmp_path, tensors)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(24),
        torch.ones(24, 7, 1),
        torch.ones(24, 0),
        torch.ones(24, 7, dtype=torch.int64),
        torch.tensor(1.0),
    ],
    ids=["vector", "cube", "empty", "integers", "number"],
)
def test_only_matrices_of_floats_are_adapters(tmp_path, tensor):
    assert "layer_2_np.W_down" in refusal(tmp_path, format_a(2) | {"layer_2_np.W_down": tensor})


def test_nothing_recognised_shows_what_was_there_and_what_is_expected(tmp_path):
    assert "LoRA adapter" in refusal(tmp_path, {"lora_A.weight": torch.ones(2, 3)})
    message = refusal(tmp_path, {"soft_prompt.weight": torch.ones(2, 3)})
    assert "soft_prompt.weight" in message and "layer_15_np.W_down" in message
    assert "no tensor at all" in refusal(tmp_path, {})
