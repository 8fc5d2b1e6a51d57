"""Example prompts; a link names them by their id."""

EXAMPLES = {
    "capitals": "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is",
    "names": "When Mary and John went to the store, John gave a drink to",
    "repetition": "Harlan Vost opened the blue door. Nobody in the village had ever heard of Harlan",
    "weekdays": "Monday, Tuesday, Wednesday, Thursday,",
    "code": "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(",
    "unusual text": "A naïve café in Köln, 東京, 🙂 and\ttabs: is <b>bold</b> or **bold** $x$?\n",
}
DEFAULT = "capitals"


def example_id(prompt: str) -> str | None:
    """The id of an example prompt; None for a prompt of the user's own."""
    return next((name for name, text in EXAMPLES.items() if text == prompt), None)
