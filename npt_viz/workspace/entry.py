"""Entry of the history: one question, what it said, and what makes it the same question."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

KINDS = ("inspection", "edit", "transplant", "scan", "training", "experiment")

OF_A_PROMPT = ("inspection", "edit", "transplant")
"""Kinds whose words have something of a prompt, and that cannot be asked again without it."""

LONGEST_THUMBNAIL = 4000
"""Characters."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One question and what it said."""

    key: str
    """What makes it the same question: `key_of`."""
    time: float
    """When it was asked last, in seconds since 1970."""
    kind: str
    """One of KINDS."""
    page: str
    """Page that it was asked on, as its address names it."""
    title: str
    """A few words; where prompts are left out it has none of theirs."""
    sentence: str
    """What the page said, as plain text."""
    prompt: str = ""
    """Empty where prompts are left out."""
    settings: dict[str, str] = field(default_factory=dict)
    """What the address says, but for the prompt."""
    choices: dict[str, Any] = field(default_factory=dict)
    """Choices of the page that no address names, as JSON has them."""
    tags: tuple[str, ...] = ()
    model: str = ""
    model_stamp: str = ""
    """Changes when the model's files do."""
    checkpoint: str = ""
    checkpoint_stamp: str = ""
    folder: str = ""
    """Of a training or an experiment, which has its numbers."""
    thumbnail: str = ""
    """SVG without text."""
    n_bytes: int = 0
    """Of its numbers; 0 where none are kept."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if len(self.thumbnail) > LONGEST_THUMBNAIL:
            raise ValueError(
                f"a thumbnail has at most {LONGEST_THUMBNAIL} characters, not {len(self.thumbnail)}"
            )

    @property
    def words(self) -> str:
        """What a search looks through."""
        parts = (self.title, self.sentence, self.prompt, *self.tags, self.checkpoint, self.model, self.folder)
        return "\n".join(parts).casefold()


def key_of(*parts: object) -> str:
    """Key of a question: the same for the same parts, in every process."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
