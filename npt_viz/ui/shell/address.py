"""A prompt in an address: an example's name, the text while it is short, or else a reference that only this server resolves."""

import base64
import hashlib
import secrets
import zlib
from urllib.parse import quote_plus

from npt_viz.errors import NptVizError
from npt_viz.ui.cache.kept import Kept
from npt_viz.ui.shell.examples import DEFAULT, EXAMPLES, example_id

PROMPT_NAMES = ("prompt", "z", "p", "example")
"""Names of a prompt in an address: its text, its text compressed, a reference to it, an example."""

LONGEST = 1500
"""Characters of an address that a prompt may take: mail programs and chats break longer ones."""

UNPACKED = 1_000_000
"""Characters up to which a compressed prompt is read."""

_SECRET = secrets.token_bytes(32)
_by_reference = Kept(200)
"""Unguessable reference -> prompt, in the memory of this server only."""


class UnknownPromptError(NptVizError):
    """An address refers to a prompt that is not here."""


def of_prompt(prompt: str, *, is_private: bool) -> dict[str, str]:
    """What an address says of a prompt; nothing for the first example.

    is_private: leave the text out; the address then opens it only where this server still knows it.
    """
    if example := example_id(prompt):
        return {} if example == DEFAULT else {"example": example}
    if not is_private:
        name, text = min(
            {"prompt": prompt, "z": packed(prompt)}.items(), key=lambda item: len(quote_plus(item[1]))
        )
        if len(quote_plus(text)) <= LONGEST:
            return {name: text}
    reference = hashlib.blake2b(prompt.encode(), key=_SECRET, digest_size=9).hexdigest()
    _by_reference.put(reference, prompt)
    return {"p": reference}


def prompt_of(said: dict[str, str]) -> str:
    """Prompt that an address names. Raises UnknownPromptError where it is not here or cannot be read."""
    if "prompt" in said:
        return said["prompt"]
    if "z" in said:
        return unpacked(said["z"])
    if "p" in said:
        prompt = _by_reference.get(said["p"])
        if prompt is None:
            raise UnknownPromptError(
                "That prompt was left out of the link; here is an example. Ask the sender for its text."
            )
        return prompt
    if said.get("example") in EXAMPLES:
        return EXAMPLES[said["example"]]
    raise UnknownPromptError("This link names an example that is not here; here is another one.")


def packed(prompt: str) -> str:
    """Text compressed into letters, digits, - and _."""
    return (
        base64.urlsafe_b64encode(zlib.compress(prompt.encode("utf-8", "surrogatepass"), 9))
        .decode()
        .rstrip("=")
    )


def unpacked(text: str) -> str:
    """Text of `packed`. Raises UnknownPromptError where it is damaged or too long."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        reader = zlib.decompressobj()
        found = reader.decompress(content, UNPACKED)
        if reader.unconsumed_tail or not reader.eof:
            raise ValueError("cut or too long")
        return found.decode("utf-8")
    except (ValueError, zlib.error):
        raise UnknownPromptError(
            "The prompt in this link is damaged; here is an example. Copy the link anew."
        ) from None
