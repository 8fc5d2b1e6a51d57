"""Prompts to token ids, and tokens to visible glyphs: nothing trimmed, nothing invisible, nothing merged.

Token text is untrusted. A glyph is plain text that must be escaped wherever it is put into HTML, and kept apart
(`unicode-bidi: isolate`) where right-to-left text could turn its neighbours around.
"""

import json
import operator
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.chat import chat_text
from npt_viz.question import Bos, Prompt, Question, as_question
from npt_viz.results.inspection import Token

NAMED = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}
"""White space that has a sign of its own."""

MARKERS = set(NAMED.values()) | set("⟨⟩◌")
"""Signs that mean something in a glyph; where a text contains one of them, its code point is shown."""

UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that draw nothing although Unicode calls them letters, marks or symbols: fillers, selectors."""

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Encoded(NamedTuple):
    """Token ids of a prompt, with their glyphs."""

    ids: list[int]
    pieces: tuple[Token, ...]
    notes: tuple[str, ...]
    """What the tokenizer added or changed, in sentences."""


def encode(
    model: BaseModel,
    prompt: Prompt | Question,
    *,
    chat: bool = False,
    bos: Bos = "auto",
) -> Encoded:
    """Encode a prompt; the text is never trimmed, ids are used as given.

    prompt: a Question says `chat` and `bos` by itself.
    chat: put the text into the tokenizer's chat template, as a user's turn that waits for an answer.
    bos: auto is what the tokenizer does by itself; True and False force a beginning-of-sequence token.
    Raises NptVizError for an empty prompt, ids outside the vocabulary, or more tokens than the context holds.
    """
    if len(prompt.prompt if isinstance(prompt, Question) else prompt) == 0:
        raise NptVizError("the prompt is empty; give at least one character")
    question = as_question(prompt, chat=chat, bos=bos)
    text, chat, bos = question.prompt, question.chat, question.bos
    is_text = isinstance(text, str)
    ids = _text_ids(model, text, chat, bos) if is_text else [operator.index(i) for i in text]
    _check(model, ids, is_text=is_text)
    pieces = tuple(display_token(model.tokenizer, i) for i in ids)
    return Encoded(ids, pieces, tuple(_notes(model, text, chat, pieces)) if is_text else ())


def display_token(tokenizer, token_id: int) -> Token:
    """Glyph and text of one token: white space and invisible characters get signs, broken bytes get numbers.

    Two different texts never have the same glyph: a literal ␣ is ⟨U+2423⟩.
    """
    return _vocabulary(tokenizer).token(token_id)


def token_text(tokenizer, token_id: int) -> str | None:
    """Exact text of one token, of broken bytes too (surrogateescape); None for a special token and an id without one."""
    vocabulary = _vocabulary(tokenizer)
    content = None if vocabulary.is_special(token_id) else vocabulary.content(token_id)
    return None if content is None else content.decode("utf-8", "surrogateescape")


def save_tokenizer(tokenizer, folder: Path) -> None:
    """Write the tokenizer's files; a full disk raises OSError."""
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:
        # The Rust tokenizers say that a disk is full with an exception that is of no kind.
        raise OSError(f"the tokenizer cannot be saved: {error}") from None


def _text_ids(model: BaseModel, text: str, chat: bool, bos: Bos) -> list[int]:
    tokenizer = model.tokenizer
    if lone := re.search("[\ud800-\udfff]", text):
        raise NptVizError(
            f"the prompt has the lone surrogate U+{ord(lone[0]):04X} at character {lone.start()}, which is no text; "
            "remove it"
        )
    if chat:
        written = chat_text(tokenizer, model.name, text)
        return tokenizer(written, add_special_tokens=False, verbose=False)["input_ids"]
    if bos is False:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    ids = tokenizer(text, verbose=False)["input_ids"]
    if bos is True and ids[:1] != [tokenizer.bos_token_id]:
        if tokenizer.bos_token_id is None:
            raise NptVizError(
                f"the tokenizer of {model.name} has no beginning-of-sequence token; set bos to auto"
            )
        return [tokenizer.bos_token_id, *ids]
    return ids


def text_ids(model: BaseModel, text: str, *, special: bool = True) -> list[int]:
    """Token ids of a whole text, of any length; the home of every text that is not a prompt.

    special: with the tokens that the tokenizer adds by itself.
    Raises NptVizError where a token lies beyond the model's embedding.
    """
    ids = model.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    _check_embedded(model, ids)
    return ids


def _check_embedded(model: BaseModel, ids: Sequence[int]) -> None:
    """Raise NptVizError where the tokenizer has made a token that the model has no embedding for."""
    beyond = next((i for i in ids if i >= model.vocab_size), None)
    if beyond is not None:
        raise NptVizError(
            f"the tokenizer of {model.name} makes the token {display_token(model.tokenizer, beyond).glyph!r:.60} (id {beyond}) "
            f"of this text, and the model's embedding ends at id {model.vocab_size - 1}: the tokenizer has tokens that were "
            "added without resizing the embedding, or is another model's; take that text out, or put the model's own "
            "tokenizer beside its weights"
        )


def _check(model: BaseModel, ids: list[int], *, is_text: bool) -> None:
    if not ids:
        raise NptVizError("the prompt gives no tokens; give other text")
    if is_text:
        _check_embedded(model, ids)
    wrong = next((i for i in ids if not 0 <= i < model.vocab_size), None)
    if wrong is not None:
        raise NptVizError(
            f"token id {wrong} is not in the vocabulary of {model.name} (0 to {model.vocab_size - 1}); choose ids in that range"
        )
    if len(ids) > model.context_length:
        raise NptVizError(
            f"the prompt has {len(ids)} tokens and {model.name} holds {model.context_length}; "
            f"shorten it by {len(ids) - model.context_length}"
        )


def _notes(model: BaseModel, text: str, chat: bool, pieces: Sequence[Token]) -> Iterator[str]:
    specials = [piece.glyph for piece in pieces if piece.kind == "special"]
    if chat:
        yield f"the chat template wrote the frame around the prompt; the model reads {len(pieces)} tokens"
    elif in_text := [glyph for glyph in dict.fromkeys(specials) if glyph in text]:
        yield f"{', '.join(in_text)} in the prompt became special tokens"
    if text.endswith(" ") and not chat:
        yield "the prompt ends with a space, which most models expect in front of the next word instead"
    if _as_read(model.tokenizer, text) != text:
        yield (
            f"the tokenizer of {model.name} cannot write this prompt exactly: it changed or dropped characters, "
            "and the tokens show what the model reads"
        )


def _as_read(tokenizer, text: str) -> str:
    """The text after a round trip: some vocabularies lack rare bytes, some tokenizers normalise."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


class _Vocabulary:
    """How one tokenizer spells its tokens, worked out once."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = dict(tokenizer.added_tokens_decoder)
        self._special = set(tokenizer.all_special_ids)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:  # sentencepiece itself
            self._is_byte_level, self._has_byte_pieces, self._has_metaspace = False, True, True
        else:
            decoder = json.dumps(json.loads(backend.decoder.__getstate__()) if backend.decoder else {})
            self._is_byte_level = '"ByteLevel"' in decoder
            self._has_byte_pieces = '"ByteFallback"' in decoder
            self._has_metaspace = "\\u2581" in decoder
        self._tokens: dict[int, Token] = {}

    def token(self, token_id: int) -> Token:
        if token_id not in self._tokens:
            self._tokens[token_id] = self._displayed(token_id)
        return self._tokens[token_id]

    def _displayed(self, token_id: int) -> Token:
        content = self.content(token_id)
        if content is None:
            # Embeddings are often padded to a round number of rows: the model can predict such an id.
            return Token(f"⟨id {token_id}⟩", "special", token_id, "no token has this id")
        text = content.decode("utf-8", "surrogateescape")
        is_broken = any("\ud800" <= char <= "\udfff" for char in text)
        kind = "special" if self.is_special(token_id) else "bytes" if is_broken else "text"
        return Token(_glyph(text), kind, token_id, repr(content if is_broken else text))

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special or (token_id in self._added and self._added[token_id].special)

    def content(self, token_id: int) -> bytes | None:
        """The UTF-8 bytes that the token stands for."""
        if token_id in self._added:  # Written literally, whatever the spelling of the others.
            return self._added[token_id].content.encode()
        spelled = self._tokenizer.convert_ids_to_tokens(token_id)
        if spelled is None:
            return None
        if self._is_byte_level:
            if all(char in BYTE_OF for char in spelled):
                return bytes(BYTE_OF[char] for char in spelled)
            return spelled.encode()
        if self._has_byte_pieces and (piece := BYTE_PIECE.fullmatch(spelled)):
            return bytes([int(piece[1], 16)])
        return (spelled.replace("▁", " ") if self._has_metaspace else spelled).encode()


@lru_cache(maxsize=8)
def _vocabulary(tokenizer) -> _Vocabulary:
    return _Vocabulary(tokenizer)


def _glyph(text: str) -> str:
    if not text:
        return "⟨⟩"
    # A mark joins what stands before it; alone it would sit on the neighbouring token.
    carrier = "◌" if unicodedata.category(text[0])[0] == "M" and not UNSEEN.match(text) else ""
    return carrier + "".join(map(_sign, text))


def _sign(char: str) -> str:
    if char in NAMED:
        return NAMED[char]
    if "\udc80" <= char <= "\udcff":  # surrogateescape: a byte that is no character by itself
        return f"⟨0x{ord(char) - 0xDC00:02X}⟩"
    if char in MARKERS or unicodedata.category(char)[0] in "CZ" or UNSEEN.match(char):
        return f"⟨U+{ord(char):04X}⟩"
    return char


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level tokenizers write bytes: printable Latin-1 as itself, the rest from U+0100."""
    as_itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in as_itself]
    return {chr(byte): byte for byte in as_itself} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _byte_alphabet()
