"""What a layer's adapter fits: as it stands, or something else that was tried."""

from npt_viz.results.better import FITS
from npt_viz.results.probe import Alternative, LayerProbe
from npt_viz.results.sentences import Sentence, said, states


@states("probe")
def probe(found: LayerProbe) -> Sentence:
    """What fits, with the evidence."""
    own, tried = found.as_it_is, len(found.alternatives) - 1
    start = f"Layer {found.layer} recovers {own.figure} as it stands"
    match found.verdict:
        case "as it is":
            best = found.alternatives[1]
            fits = f", and none of {tried} other ways to use it recovers more"
            if best.recovered.value > own.recovered.value:
                fits = (
                    f"; the best of {tried} other ways to use it recovers {_stated(found, best)}: no more above it than "
                    "healthy adapters show"
                )
        case "something else":
            fits = f" and {_stated(found, found.fits[0])}: it fits that"
        case "undecided" if found.fits:
            either = " or ".join(_stated(found, each) for each in found.fits)
            fits = f"; something else fits better, and it cannot be told which: {either}"
        case "undecided":
            fits = "; whether something else fits better cannot be told from these tokens"
        case "nothing":
            best = found.alternatives[1]
            by_chance = best.recovered.low > FITS
            fits = f", and the best of {tried} other ways to use it {_stated(found, best)}: " + (
                "weights that fit nothing reach as much in one of so many ways"
                if by_chance
                else "it fits nothing that was tried"
            )
        case _:
            most = max((each.recovered.n for each in found.alternatives[1:]), default=0)
            return said(
                f"Layer {found.layer} keeps attention in its standard path, where there is nothing to recover, and "
                + (
                    f"fits nothing else of {tried} that were tried"
                    if most
                    else f"{tried} other ways have nothing, either"
                )
                + f" ({found.setting_of(most)})."
            )
    return said(f"{start}{fits} ({found.setting}).")


def _stated(found: LayerProbe, each: Alternative) -> str:
    """80 % [78 %, 82 %] in layer 16, and how many tokens where it is not as many as for the adapter as it is."""
    n = each.recovered.n
    return f"{each.figure} {each.name}" + (f" ({n:,} tokens)" if n != found.n_tokens else "")
