"""Key names of every format, read and written.

Format A  layer_{i}_np.{W_down|W_a_up|W_b_up}[_gate|_up|_down][.{j}], or model.layers.{i}.np_component.…
Format B  model.layers.{i}.adapter.{A_proj|B_model|B_ffn|B_proj|B_add|B_mult}.weight, nn.Linear orientation
Format C  layer_{i}_A, layer_{i}_B
Before any of them may stand a prefix that ends in a dot (module., _orig_mod., base_model.model., student.).
The suffix of format A is read in B and C too, where only npt_viz writes it (other targets than the gate). T1 has
no form for down: its A multiplies both a and the projection's input, which there has another width.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple, cast

from torch import Tensor

from npt_viz.adapter import LayerAdapter, Semantics, Target
from npt_viz.adapter.semantics import Rule, variant_name

_NUMBER = r"\d{1,4}"
_TARGET = r"(?:_(?P<target>gate|up|down))?"
_A_ROLE = rf"(?P<role>W_down|W_a_up|W_b_up){_TARGET}(?:\.(?P<component>{_NUMBER}))?"
_PREFIX = r"(?P<prefix>(?:\w+\.)*?)"
_PATTERNS = {
    re.compile(_PREFIX + pattern): format_
    for pattern, format_ in {
        rf"layer_(?P<layer>{_NUMBER})_np\.{_A_ROLE}": "A",
        rf"(?:model\.)?layers\.(?P<layer>{_NUMBER})\.np_component\.{_A_ROLE}": "A",
        rf"(?:model\.)?layers\.(?P<layer>{_NUMBER})\.adapter\."
        rf"(?P<role>A_proj|B_model|B_ffn|B_proj|B_add|B_mult){_TARGET}\.weight": "B",
        rf"layer_(?P<layer>{_NUMBER})_(?P<role>A|B)(?:_(?P<target>gate|up))?": "C",
    }.items()
}

_BASE = re.compile(
    r"(\w+\.)*?((model\.)?(embed_tokens|norm|rotary_emb"
    r"|layers\.\d+\.(\w+\.)*?(self_attn|mlp|input_layernorm|post_attention_layernorm))\..+|lm_head\..+)"
)
_ADAPTER_LIKE = re.compile(
    rf"(?:^|.*[._])layers?[._](?P<layer>{_NUMBER})\D.*(W_down|W_a_up|W_b_up|A_proj|B_model|B_ffn|B_proj|B_add|B_mult).*"
)


class Family(NamedTuple):
    """Tensors of one rule in one format: role in the key name -> argument of the modulation."""

    rule: Rule
    arguments: Mapping[str, str]


FAMILIES: dict[str, tuple[Family, ...]] = {
    "A": (Family("rank_one_sum", {"W_down": "W_down", "W_a_up": "W_a_up", "W_b_up": "W_b_up"}),),
    "B": (
        Family("rank_one_sum", {"A_proj": "W_down", "B_model": "W_a_up", "B_ffn": "W_b_up"}),
        # The public code gave one pair of names two meanings (docs/variants.md, S0).
        Family("additive", {"A_proj": "W_down", "B_proj": "W_add"}),
        Family("low_rank_pooled", {"A_proj": "A", "B_proj": "B"}),
        Family("additive", {"A_proj": "W_down", "B_add": "W_add"}),
        Family("multiplicative", {"A_proj": "W_down", "B_mult": "W_mult"}),
        Family("additive_multiplicative", {"A_proj": "W_down", "B_add": "W_add", "B_mult": "W_mult"}),
    ),
    "C": (Family("low_rank_tanh", {"A": "A", "B": "B"}),),
}


class Key(NamedTuple):
    """Parts of one tensor's name."""

    layer: int
    format: str
    target: Target
    role: str
    component: int
    prefix: str
    """What stands before the format's own name: module., student. …; usually nothing."""


def parsed_key(name: str) -> Key | None:
    """Parts of a tensor's name; None where it names no NPT tensor."""
    for pattern, format_ in _PATTERNS.items():
        if match := pattern.fullmatch(name):
            parts = match.groupdict()
            component = int(parts.get("component") or 0)
            target = cast(Target, parts["target"] or "gate")  # The patterns know no other.
            return Key(int(parts["layer"]), format_, target, parts["role"], component, parts["prefix"])
    return None


def is_numbered(name: str) -> bool:
    """Whether the name of an NPT tensor says which component it is."""
    return name.rpartition(".")[2].isdecimal()


def is_base_key(name: str) -> bool:
    """Whether the tensor is the base model's own (format B keeps both in one file)."""
    return bool(_BASE.fullmatch(name)) or name.endswith(".original_gate_weight")


def looks_like_adapter(name: str) -> int | None:
    """Layer of a name that has an adapter's parts in it, in no form that is known; None for any other name."""
    match = _ADAPTER_LIKE.fullmatch(name)
    return int(match["layer"]) if match else None


def _family(semantics: Semantics) -> Family:
    """The names of a rule; those of an additive adapter are S0's where it is S0, and S1's where it is not."""
    rule = semantics.rule
    families = [family for each in FAMILIES.values() for family in each if family.rule == rule]
    if rule == "additive" and not variant_name(semantics, ("gate",)).startswith("S0"):
        return next(family for family in families if "B_add" in family.arguments)
    return families[0]


def native_keys(
    layer: int, target: Target, targets: Collection[Target], semantics: Semantics, count: int
) -> dict[str, tuple[str, ...]]:
    """Names of one target's tensors in the native format: argument of the modulation -> `count` names.

    targets: all of the layer's; a gate alone has no suffix. The names
    are those of the format in which the rule was born: A for rank-1 sums, B for the additive ones, C for T1.
    """
    suffix = "" if set(targets) == {"gate"} else f"_{target}"
    templates = {
        "rank_one_sum": "layer_{layer}_np.{role}{suffix}{component}",
        "low_rank_tanh": "layer_{layer}_{role}{suffix}",
    }
    template = templates.get(semantics.rule, "model.layers.{layer}.adapter.{role}{suffix}.weight")
    return {
        argument: tuple(
            template.format(layer=layer, role=role, suffix=suffix, component=f".{j}" if count > 1 else "")
            for j in range(count)
        )
        for role, argument in _family(semantics).arguments.items()
    }


def is_transposed(rule: Rule) -> bool:
    """Whether the native format stores the rule's tensors as nn.Linear does, (out, in)."""
    return any(family.rule == rule for family in FAMILIES["B"]) and rule != "rank_one_sum"


def named_tensors(adapter: LayerAdapter) -> dict[str, Tensor]:
    """An adapter's tensors (views), named and oriented as in the native format."""
    named, rule = {}, adapter.semantics.rule
    for target, part in adapter.learned.items():
        count = part.components if rule == "rank_one_sum" else 1
        for argument, keys in native_keys(
            adapter.layer, target, adapter.targets, adapter.semantics, count
        ).items():
            tensor = getattr(part, argument).detach()
            tensors = tensor if rule == "rank_one_sum" else [tensor]
            for key, component in zip(keys, tensors, strict=True):
                named[key] = component.T if is_transposed(rule) else component
    return named
