"""The one kind of error meant for people."""


class NptVizError(Exception):
    """A bad input, said in one line: the file, key or value, the rule, and what to do next."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))
