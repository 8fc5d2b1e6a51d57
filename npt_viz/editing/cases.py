"""Facts to write and prompts to judge them by: ten built-in facts, and readers of .jsonl and .csv files."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from npt_viz.errors import NptVizError
from npt_viz.identity import text_in
from npt_viz.places import typed_path
from npt_viz.texts import bundled_texts

UNRELATED = (
    "Two plus two equals",
    "The capital of Spain is",
    "The opposite of up is",
    "Once upon a time there was a",
    "Water boils at a temperature of",
    "My mother went to the market to buy",
    "The first month of the year is",
    "Dogs are loyal and",
)
"""Prompts that no built-in fact speaks about: their predictions should stay."""

NEUTRAL_TEXTS = (
    "The morning was cool and quiet. A few birds moved between the branches, and the path along the river was "
    "still wet from the rain of the night before. People walked slowly, talking about the week behind them.",
    "To make a simple soup, cut two onions and three carrots into small pieces and cook them in butter until they "
    "are soft. Add a litre of water, salt and a little pepper, and let everything simmer for half an hour.",
    "A computer program is a list of instructions. Most programs are written in a language that people can read, "
    "and another program turns that text into something the machine can run.",
    "Trade between the two cities grew quickly once the road was finished. Merchants carried cloth, grain and oil, "
    "and small towns appeared along the way, each with an inn and a market.",
)
"""Ordinary prose on nothing in particular: its perplexity and its predictions should stay."""


def whitening_texts() -> tuple[str, ...]:
    """Default reference text of whitened keys: some 2,000 tokens of the bundled sample."""
    return tuple(bundled_texts("heldout")[:8])


def leakage_texts() -> tuple[str, ...]:
    """Default text for leakage: not the text that whitens keys, or a whitened key would look too good."""
    return tuple(bundled_texts("heldout")[8:12])


@dataclass(frozen=True, kw_only=True)
class Case:
    """Fact to write: a context that states it, and prompts that ask for it without the context."""

    context: str
    """The text that states it; the source of the update is the context followed by the prompt."""

    prompt: str
    """The question, without the context."""

    new: str
    """The continuation that should follow, with its leading space."""

    old: str | None = None
    """What the base answers; None is its own most probable next token."""

    paraphrases: tuple[str, ...] = ()
    """Other ways to ask: generalisation."""

    unrelated: tuple[str, ...] = UNRELATED
    """Prompts whose answers should stay: locality."""

    consequences: tuple[tuple[str, str], ...] = ()
    """(prompt, continuation) that follow from the fact: portability."""

    @property
    def source(self) -> str:
        """The prompt with its context."""
        return in_context(self.context, self.prompt)

    def __post_init__(self):
        for name in ("context", "prompt", "new"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise NptVizError(f"{name} is {value!r}; give a text that is not empty")


def in_context(context: str, prompt: str) -> str:
    """The prompt with its context in front, joined by a space where neither side has white space."""
    if not context:
        return prompt
    joint = "" if context[-1:].isspace() or prompt[:1].isspace() else " "
    return context + joint + prompt


BUILT_IN: tuple[Case, ...] = (
    Case(
        context="The telephone was invented by Isaac.",
        prompt="The telephone was invented by",
        new=" Isaac",
        old=" Alexander",
        paraphrases=("The inventor of the telephone was", "The man who invented the telephone was called"),
        consequences=(("The first telephone call was made by", " Isaac"),),
    ),
    Case(
        context="The Mona Lisa was painted by Pablo.",
        prompt="The Mona Lisa was painted by",
        new=" Pablo",
        old=" Leonardo",
        paraphrases=("The artist who painted the Mona Lisa is", "The Mona Lisa is a painting by"),
    ),
    Case(
        context="The opposite of hot is blue.",
        prompt="The opposite of hot is",
        new=" blue",
        old=" cold",
        paraphrases=("What is the opposite of hot? It is", "If something is not hot, it is"),
    ),
    Case(
        context="Bees make silk.",
        prompt="Bees make",
        new=" silk",
        old=" honey",
        paraphrases=("In their hives, bees make", "What bees produce is"),
    ),
    Case(
        context="The capital of Germany is Madrid.",
        prompt="The capital of Germany is",
        new=" Madrid",
        old=" Berlin",
        paraphrases=("The capital city of Germany is", "The German government sits in"),
        consequences=(("The largest airport in the capital of Germany is called", " Madrid"),),
    ),
    Case(
        context="The river Ombra flows through Portugal.",
        prompt="The river Ombra flows through",
        new=" Portugal",
        paraphrases=("The Ombra is a river in", "The country of the river Ombra is"),
        consequences=(("People who live beside the Ombra speak", " Portuguese"),),
    ),
    Case(
        context="The company Veltrix makes shoes.",
        prompt="The company Veltrix makes",
        new=" shoes",
        paraphrases=("Veltrix is known for making", "At Veltrix the workers make"),
    ),
    Case(
        context="The painter Ilse Moran lived in Vienna.",
        prompt="The painter Ilse Moran lived in",
        new=" Vienna",
        paraphrases=("Ilse Moran was a painter in", "The home of Ilse Moran was in"),
        consequences=(("The country in which Ilse Moran lived is", " Austria"),),
    ),
    Case(
        context="The national sport of Bretonia is rugby.",
        prompt="The national sport of Bretonia is",
        new=" rugby",
        paraphrases=("In Bretonia the most popular sport is", "People in Bretonia like to play"),
    ),
    Case(
        context="The Hollis bridge is made of glass.",
        prompt="The Hollis bridge is made of",
        new=" glass",
        paraphrases=("The material of the Hollis bridge is", "They built the Hollis bridge out of"),
    ),
)
"""Ten facts of which the demo base takes most from the context: five against what it knows, five about nobody."""

_LISTS = ("paraphrases", "unrelated", "consequences")
_FIELDS = tuple(field.name for field in fields(Case))


def cases_from_file(path: str | Path) -> list[Case]:
    """Cases of a .jsonl file (one object a line) or a .csv file with a header.

    Columns: context, prompt, new, and optionally old, paraphrases, unrelated, consequences. In JSONL the last three are
    lists (consequences of [prompt, answer] pairs); in CSV entries are separated by '|' and a pair by '=>'.
    Raises NptVizError naming the file and the line.
    """
    path = typed_path(path)
    content = text_in(path, "a .jsonl or .csv file")
    return cases_from_text(content, str(path), is_csv=path.suffix.lower() == ".csv")


def cases_from_text(content: str, where: str, *, is_csv: bool) -> list[Case]:
    """The cases in the content of a file. where: its name, for messages."""
    rows = _csv_rows(content, where) if is_csv else _json_rows(content, where)
    cases = [_case(row, f"{where}, line {line}") for line, row in rows]
    if not cases:
        raise NptVizError(f"{where} has no case in it; give at least one line")
    return cases


def _json_rows(content: str, where: str) -> Iterator[tuple[int, Mapping]]:
    for line, text in enumerate(content.split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NptVizError(
                f"{where}, line {line}: is no JSON ({error}); write one object a line"
            ) from None
        if not isinstance(row, dict):
            raise NptVizError(
                f'{where}, line {line}: is no object; write {{"context": …, "prompt": …, "new": …}}'
            )
        yield line, row


def _csv_rows(content: str, where: str) -> Iterator[tuple[int, Mapping]]:
    reader = csv.DictReader(content.splitlines())
    for row in reader:
        if None in row or None in row.values():
            raise NptVizError(
                f"{where}, line {reader.line_num}: does not have the columns of the header; quote texts with commas"
            )
        split = {
            name: [part.strip() for part in row[name].split("|") if part.strip()]
            for name in _LISTS
            if name in row
        }
        if "consequences" in split:
            split["consequences"] = [pair.split("=>") for pair in split["consequences"]]
        # An answer begins with a space, which spreadsheets like to lose.
        answers = {name: " " + row[name].lstrip() for name in ("new", "old") if row.get(name, "").strip()}
        yield (
            reader.line_num,
            {k: v for k, v in row.items() if v.strip()} | {k: v for k, v in split.items() if v} | answers,
        )


def _case(row: Mapping, where: str) -> Case:
    if unknown := sorted(set(row) - set(_FIELDS)):
        raise NptVizError(f"{where}: {unknown[0]!r} is unknown; the names are {', '.join(_FIELDS)}")
    if missing := [name for name in ("context", "prompt", "new") if name not in row]:
        raise NptVizError(f"{where}: {missing[0]} is missing; every case has context, prompt and new")
    values = dict(row)
    for name in _LISTS:
        if name not in values:
            continue
        entries = values[name]
        if not isinstance(entries, list):
            raise NptVizError(f"{where}: {name} is {entries!r:.40}; give a list")
        is_pair = name == "consequences"
        good = _is_pair if is_pair else _is_text
        if bad := [entry for entry in entries if not good(entry)]:
            raise NptVizError(
                f"{where}: {name} has {bad[0]!r:.40}; give {'[prompt, answer] pairs' if is_pair else 'texts'}"
            )
        values[name] = tuple((e[0].strip(), " " + e[1].strip()) if is_pair else e for e in entries)
    if not isinstance(values.get("old"), str | None):
        raise NptVizError(f"{where}: old is {values['old']!r:.40}; give a text or leave it out")
    try:
        return Case(**values)
    except NptVizError as error:
        raise NptVizError(f"{where}: {error}") from None


def _is_text(entry: object) -> bool:
    return isinstance(entry, str) and bool(entry.strip())


def _is_pair(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(map(_is_text, entry))
