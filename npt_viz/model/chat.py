"""The chat template of a tokenizer, around one turn of a user: rendered, or refused with the right cause."""

from typing import Any

from npt_viz.errors import NptVizError

OTHER = " ?"
"""Text that is added to a turn to see whether a template writes the turn at all."""

LEAVE_OFF = "leave chat off, or open a model whose template takes one turn of a user"


def chat_text(tokenizer: Any, name: str, text: str) -> str:
    """The text that the chat template makes of one user's turn that waits for an answer.

    Templates of models that also read images want the content as parts, a list of {type, text}: both forms are tried,
    and the one in which the turn is written is taken. name: of the model, for messages.
    Raises NptVizError where there is no template, it refuses the turn, is no valid Jinja, or drops the text.
    """
    _check_default(tokenizer, name)
    refusals = []
    for content, other in ((text, text + OTHER), (_parts(text), _parts(text + OTHER))):
        try:
            written = _rendered(tokenizer, content)
            if written != _rendered(tokenizer, other):
                return written
        except Exception as error:  # A template is a program of the user's.
            refusals.append(_refusal(error))
    if refusals:
        raise NptVizError(f"the chat template of {name} {refusals[0]}; {LEAVE_OFF}")
    raise NptVizError(
        f"the chat template of {name} does not write the user's text, neither as a string nor as a list of parts; {LEAVE_OFF}"
    )


def _check_default(tokenizer: Any, name: str) -> None:
    template = tokenizer.chat_template
    if not template:
        raise NptVizError(f"{name} has no chat template; leave chat off, or open an instruct model")
    if isinstance(template, dict) and "default" not in template:
        raise NptVizError(
            f"{name} has the chat templates {', '.join(sorted(template))} and none is called default, so it is not clear "
            "which one a plain turn takes; leave chat off, or rename one in its tokenizer_config.json"
        )


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _rendered(tokenizer: Any, content: object) -> str:
    turns = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


def _refusal(error: Exception) -> str:
    """What a failed template does, as a clause."""
    message = " ".join(str(error).split())[:200] or type(error).__name__
    match type(error).__name__:
        case "TemplateSyntaxError":
            return f"is no valid Jinja (line {getattr(error, 'lineno', '?')}: {message})"
        case "TemplateError":
            return f"refuses a conversation of one user's turn ({message})"
        case "ImportError" | "ModuleNotFoundError":
            return f"cannot be rendered without a package ({message})"
        case kind:
            return f"cannot be rendered ({kind}: {message})"
