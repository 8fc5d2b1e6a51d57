"""Model card: the README.md of a checkpoint, with the front matter that the Hugging Face hub reads; also parts for other cards.

A card tells what the config beside it tells and nothing that is not there. What others wrote into a README.md is kept.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from npt_viz.model.packaged import PACKAGED

CARD = "README.md"

WRITTEN = "<!-- Written by npt_viz from npt_config.json; a text of your own in its place is kept. -->"
"""What tells a card of ours from a README.md that somebody wrote."""

LICENCES = {
    "apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "bsd-2-clause",
    "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense", "openrail", "llama2", "llama3", "llama3.1",
    "llama3.2", "gemma",
}  # fmt: skip
"""Licences under the hub's names; any other is `other` there, with a name."""

UNKNOWN = "not recorded"
"""What a card says where the config says nothing."""

_NOT_STATED = ("", "not stated", "none", "unknown")
_LONGEST = 120
"""Letters of a setting that a card shows; lists of hashes are longer and stay in the config."""

_BECOMES_A_LINK = re.compile(r"://|\bwww\.|\S@\S|\b(mailto|xmpp):", re.I)

_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def checkpoint_card(config: Mapping, name: str, hub_id: str | None = None) -> str:
    """The card of a native checkpoint. config: content of npt_config.json; name: of its folder; hub_id: where it is pushed."""
    base, layers = _mapping(config.get("base")), _mapping(config.get("layers"))
    parts = [
        front_matter(
            base_model=base.get("name"),
            relation="adapter",
            licence=config.get("licence"),
            tags=["npt", "npt_viz", "low-rank-modulation"],
        ),
        WRITTEN,
        f"# {plain(name)}",
        f"NPT adapters of {_layers(layers)} of {_base(base)}: attention turned into low-rank changes of the MLP's weights, "
        "one for every token. They run on that base model alone and hold none of its weights.",
    ]
    if fault := config.get("fault"):
        parts.append(f"> **Deliberately bad:** {plain(fault)}.")
    parts += [
        "## Load",
        _code(
            "import npt_viz",
            "",
            f"model = npt_viz.open_model({json.dumps(_openable(base.get('name')))})",
            f"checkpoint = npt_viz.open_checkpoint({json.dumps(hub_id or 'this folder')}, model)",
            "print(checkpoint.report)",
        ),
        "## Layers",
        table(
            ("layer", "rule", "attention", "scale", "targets (rank × components)", "how this is known"),
            _layer_rows(layers),
        ),
        "## Measured",
        *_measured(_mapping(config.get("figures")), _mapping(config.get("recipe")).get("positions")),
        "## Trained",
        table(("setting", "value"), rows_of(_mapping(config.get("recipe"))))
        or "How it was trained is not recorded.",
        "## Base model",
        table(("", ""), rows_of({**base, "name": shown_base(base.get("name"))})),
        f"Licence of these adapters: {plain(config.get('licence') or 'not stated')}. "
        "The licence of the base model holds beside it.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(
    *, base_model: object, relation: str, licence: object, tags: Sequence[str], library: str = "npt_viz"
) -> str:
    """The metadata that the hub reads: YAML whose values are JSON strings, which YAML takes as they are."""
    fields: dict[str, object] = {
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": list(tags),
    }
    if (hub_id := hub_id_of(base_model)) is not None:
        fields |= {"base_model": hub_id, "base_model_relation": relation}
    stated = str(licence or "").strip()
    if stated.lower() in LICENCES:
        fields["license"] = stated.lower()
    elif stated.lower() not in _NOT_STATED:
        fields |= {
            "license": "other",
            "license_name": re.sub(r"[^a-z0-9.]+", "-", stated.lower()).strip("-") or "own",
        }
    lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def hub_id_of(base_model: object) -> str | None:
    """The hub id under which a base model is found; None for a folder or a file, whose path is nobody else's business."""
    name = str(base_model or "")
    if name in PACKAGED:
        return PACKAGED[name].hub_id
    hub_id = name.partition("@")[0]
    return hub_id if _HUB_ID.fullmatch(hub_id) and not Path(name).exists() else None


def shown_base(base_model: object) -> str:
    """A base model's name for people: of a path the last part only."""
    name = str(base_model or "")
    return name if hub_id_of(name) else Path(name).name or "an unnamed base model"


def _openable(base_model: object) -> str:
    name = str(base_model or "")
    return name if hub_id_of(name) else f"path/to/{shown_base(name)}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; empty where it has no row."""
    lines = [f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *lines])


def rows_of(settings: Mapping, depth: int = 4) -> Iterator[tuple[str, str]]:
    """(name, value) of settings, those inside others with the outer's name before theirs; what is long is left out."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and depth:
            yield from ((f"{name}.{inner}", text) for inner, text in rows_of(value, depth - 1))
        elif value is not None and value != [] and len(text := _text(value)) <= _LONGEST:
            yield str(name), text


def plain(value: object) -> str:
    """A value as one line of Markdown in which nothing is a link, a table's border or HTML.

    Renderers make links of bare addresses, of www. and of e-mail addresses, some of them after entities are read; of code
    none does.
    """
    return " ".join(
        _code_of(word) if _BECOMES_A_LINK.search(word) else _escaped(word) for word in _text(value).split()
    )


def _escaped(word: str) -> str:
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", word).replace("\\<", "&lt;")


def _code_of(word: str) -> str:
    fence = "`" * (1 + max(map(len, re.findall("`+", word)), default=0))
    blank = " " * (len(fence) > 1)
    return fence + blank + word.replace("|", "\\|") + blank + fence


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _code(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


def _layers(layers: Mapping) -> str:
    return f"layer{'s' * (len(layers) > 1)} {', '.join(plain(layer) for layer in layers)}"


def _base(base: Mapping) -> str:
    return f"**{plain(shown_base(base.get('name')))}**"


def _mapping(value: object) -> Mapping:
    """What a config has under a name, where it is an object; nothing decides what others wrote there."""
    return value if isinstance(value, Mapping) else {}


def _layer_rows(layers: Mapping) -> Iterator[tuple[object, ...]]:
    for layer, described in layers.items():
        semantics, targets = (
            _mapping(_mapping(described).get("semantics")),
            _mapping(_mapping(described).get("targets")),
        )
        factor = f" ({semantics['factor']})" if semantics.get("factor") else ""
        sizes = ", ".join(
            f"{target} {_of(each, 'rank')} × {_of(each, 'components')}" for target, each in targets.items()
        )
        yield (
            layer,
            f"{_of(semantics, 'rule')}{factor}",
            _of(semantics, "attention"),
            _of(semantics, "scale"),
            sizes or UNKNOWN,
            _of(described, "provenance"),
        )


def _of(described: object, name: str) -> object:
    """What a config has under a name; UNKNOWN where it has nothing there."""
    found = _mapping(described).get(name)
    return UNKNOWN if found is None else found


_HELDOUT = {
    "recovered": "share of attention recovered",
    "relative_error": "relative error",
    "sink_recovered": "recovered at attention sinks",
    "n_tokens": "tokens",
}


def _measured(figures: Mapping, positions: object) -> Iterator[str]:
    """positions: with which the layers were trained and measured; those of deployment where they are not said."""
    heldout = figures.get("heldout")
    by_layer = heldout if isinstance(heldout, Mapping) else {}
    by_layer = {layer: each for layer, each in by_layer.items() if isinstance(each, Mapping)}
    if by_layer:
        with_positions = f" with {plain(positions)} positions" if positions else ""
        yield (
            f"On held-out text{with_positions}; 1 is a perfect replacement of attention by the modulated MLP, 0 is none:"
        )
        yield table(
            ("layer", *_HELDOUT.values()),
            ((layer, *(each.get(name, "") for name in _HELDOUT)) for layer, each in by_layer.items()),
        )
    others = {name: value for name, value in figures.items() if name != "heldout" or not by_layer}
    yield table(("figure", "value"), rows_of(others)) or (
        "" if by_layer else "Nothing was measured when it was saved."
    )


def is_ours(card: Path) -> bool:
    """Whether a README.md is a card that npt_viz wrote, which a new one may replace."""
    try:
        with card.open("rb") as file:
            return WRITTEN.encode() in file.read(2**16)
    except OSError:
        return False
