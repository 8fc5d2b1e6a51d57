"""What goes into this browser's history: nothing where it is switched off, and no text of a prompt where prompts are left out."""

import secrets
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import streamlit as st

from npt_viz.results.sentences import Exact, Quoted, Sentence
from npt_viz.ui.cache.owner import owner
from npt_viz.ui.shell import keeping, state
from npt_viz.ui.shell.asked import selection
from npt_viz.workspace.entry import OF_A_PROMPT, Entry, key_of

HISTORY = "history"
"""Name under which the owner keeps the settings."""

LONGEST_TITLE = 80
"""Characters."""

LEFT_OUT = "…"
"""In place of text of a prompt."""

_SECRET = secrets.token_hex(32)
"""Without it a key would tell whether a prompt that someone guesses was asked."""


class Settings(NamedTuple):
    """Whether a history is kept, and what of it."""

    is_on: bool = True
    with_prompts: bool = True


def settings() -> Settings:
    """Settings of this browser."""
    kept = owner().get(HISTORY)
    kept = kept if isinstance(kept, dict) else {}
    return Settings(kept.get("is_on") is not False, kept.get("with_prompts") is not False)


def set_settings(now: Settings) -> None:
    """Change them, for what is asked from now on."""
    owner().put(HISTORY, now._asdict())


@dataclass(frozen=True)
class Recording:
    """An entry that can still change: of work that goes on in a thread, which has no session."""

    entry: Entry
    with_prompts: bool
    _put: Callable[[Entry, bytes | None], None]

    def put(self, numbers: bytes | None = None, **changes: Any) -> None:
        """Bring it into the history with its time of now; texts as `record` takes them."""
        texts = {
            name: in_words(value, with_prompts=self.with_prompts) if isinstance(value, Sentence) else value
            for name, value in changes.items()
        }
        self._put(replace(self.entry, time=time.time(), **texts), numbers)


def recording(
    kind: str,
    *of: object,
    title: Sentence,
    sentence: Sentence,
    bare: str = "",
    page: str = "",
    prompt: str = "",
    thumbnail: str = "",
    folder: str = "",
    choices: str = "",
) -> Recording | None:
    """A recording of what the session looks at now; None where the history is switched off.

    of: what makes it this question and no other, beside model and checkpoint; not needed beside a folder.
    bare: title where prompts are left out and the title is made of one.
    page: on which it is reopened; that which is drawn, unless said.
    choices: start of the names of the page's choices (`keeping`), which are kept with it.
    """
    wanted, session, source = settings(), st.session_state, selection()
    if not wanted.is_on:
        return None
    with_prompts = wanted.with_prompts or kind not in OF_A_PROMPT
    # A folder is that work, whatever the head names.
    parts = (folder,) if folder else (source, *of, *(() if with_prompts else (_SECRET,)))
    entry = Entry(
        key=key_of(kind, *parts),
        time=time.time(),
        kind=kind,
        page=page or session.get("_page", ""),
        title=shortened(bare if bare and not with_prompts else in_words(title, with_prompts=with_prompts)),
        sentence=in_words(sentence, with_prompts=with_prompts),
        prompt=prompt if with_prompts else "",
        settings=state.said_without_prompt(),
        choices=keeping.written(choices) if choices and with_prompts else {},
        model=source.model,
        model_stamp=source.model_stamp,
        checkpoint=source.checkpoint,
        checkpoint_stamp=source.checkpoint_stamp,
        thumbnail=thumbnail,
        folder=folder,
    )
    # A thread that holds the owner would keep one alive that nobody can be again.
    known = weakref.ref(owner())

    def put(entry: Entry, numbers: bytes | None) -> None:
        if (present := known()) is not None:
            present.record(entry, numbers)

    return Recording(entry, with_prompts, put)


def record(kind: str, *of: object, numbers: Callable[[bool], bytes] | None = None, **values: Any) -> None:
    """Put something into the history, as `recording` describes it.

    numbers: gets whether text may be in them.
    """
    made = recording(kind, *of, **values)
    if made is not None:
        made.put(None if numbers is None else numbers(made.with_prompts))


def in_words(sentence: Sentence, *, with_prompts: bool) -> str:
    """Plain text of a sentence; without prompts each part that may have some of one is an ellipsis."""
    return "".join(
        LEFT_OUT if isinstance(part, Exact | Quoted) and not with_prompts else part for part in sentence.parts
    )


def shortened(text: str, length: int = LONGEST_TITLE) -> str:
    """Text in one line, cut where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"
