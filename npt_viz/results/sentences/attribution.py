"""Attribution: the token that drives a number most, by a method that says how far to believe it."""

from npt_viz.results.attribution import METHODS, Attribution
from npt_viz.results.sentences import Exact, Quoted, Sentence, Strong, said, states
from npt_viz.results.words import counted, number


@states("attribution")
def attribution(result: Attribution) -> Sentence:
    """Token that changes the number most; one run each, so the scores have no interval."""
    value, n_asked = number(result.value), result.quantity.token
    start = Quoted(f"{result.name[0].upper()}{result.name[1:]} is ")
    where = (
        f"({METHODS[result.method].label}, {result.mode}, positions as {result.positions}, {counted(n_asked, 'token')} of the "
        "prompt asked one run each, stand-in "
    )
    token = result.strongest
    if token is None:
        return said(start, Strong(value), "; no token changes it ", where, Exact(result.baseline), ").")
    score = float(result.scores[token])
    return said(
        start, Strong(value), "; ", Exact(result.tokens[token]),
        f" #{token} {'raises' if score > 0 else 'lowers'} it most, by ", Strong(number(abs(score))),
        f" {where}", Exact(result.baseline), ").",
    )  # fmt: skip
