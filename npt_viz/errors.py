"""Base class of every error shown to users."""


class NptVizError(Exception):
    """Base class of every error shown to users.

    The message is one line: the file, key or value, the rule, and what to do next.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class NotFiniteError(NptVizError):
    """A value is NaN or infinite; the message names where it is first so, and the remedy."""
