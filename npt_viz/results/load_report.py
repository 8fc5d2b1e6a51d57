"""Load report: what a checkpoint file holds, read from its tensors and not from its config."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """One NPT layer of a file."""

    layer: int
    variant: str
    """N1 … T1, or a description."""
    semantics: Mapping[str, object]
    """rule, attention, scale, factor: the fields of adapter.Semantics"""
    provenance: str
    """from the file, inferred from key names, chosen by the user, probe"""
    targets: tuple[str, ...]
    ranks: Mapping[str, int]
    """Target -> r"""
    components_of: Mapping[str, int]
    """Target -> k; for T1 k = r, for the additive variants 0: they are no weight change"""
    dtype: str
    """As stored; several joined by + where a layer mixes them."""
    bytes: int
    """As stored."""
    n_nan: int
    n_inf: int
    zero_tensors: tuple[str, ...]
    """Keys of tensors that are zero everywhere."""
    at_initialisation: Mapping[str, str]
    """Key -> the rule that says training has not touched this tensor."""
    readings: tuple[str, ...] = ()
    """Variants as which these tensors can be read."""

    @property
    def rank(self) -> int:
        """The largest over targets."""
        return max(self.ranks.values())

    @property
    def components(self) -> int:
        """The largest over targets."""
        return max(self.components_of.values())

    @property
    def finite(self) -> bool:
        """Whether the layer can run."""
        return self.n_nan == 0 and self.n_inf == 0


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One thing the config says about the weights, and what the weights say."""

    key: str
    claimed: object
    found: object

    @property
    def agrees(self) -> bool:
        return self.claimed == self.found


@dataclass(frozen=True, kw_only=True)
class BaseMatch:
    """Whether the open base model is the one that the checkpoint was made for."""

    status: str
    """match, mismatch or unknown"""
    sentence: str
    detail: str = "nothing to compare"
    """What was compared and how it came out, in a few words."""


@dataclass(frozen=True, kw_only=True)
class PastEdits:
    """Permanent edits of one layer's gate_proj, read off gate_proj − original_gate_weight (format B)."""

    layer: int
    singular_values: tuple[float, ...]
    """Those above the rounding noise, descending: one edit leaves one; empty where nothing was edited."""
    noise: float
    """The largest singular value that rounding alone explains."""
    note: str = ""
    """Why there are no numbers: 'placeholder' where the original was not kept."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Load report of one checkpoint."""

    name: str
    format: str
    """A, B, C, native or memory"""
    tensors_total: int
    """Tensors in the file, without the base model's own that may lie beside (format B)."""
    tensors_used: int
    unused: tuple[str, ...]
    """Keys that belong to no NPT layer and not to the base model."""
    base_tensors: int
    """The base model's own tensors beside the adapters."""
    aliases: tuple[str, ...] = ()
    """Other names of tensors that are counted already."""
    others: tuple[str, ...] = ()
    """Paths of checkpoints beside this one: other stages of its run."""
    layers: tuple[LayerReport, ...]
    warnings: tuple[str, ...]
    """Sentences."""
    claims: tuple[Claim, ...] = ()
    base_match: BaseMatch = field(
        default_factory=lambda: BaseMatch(status="unknown", sentence="no base model is open")
    )
    past_edits: tuple[PastEdits, ...] = ()
    stated_fault: str = ""
    """What the file itself says is wrong with it; empty where it says nothing."""

    @property
    def semantics(self) -> str:
        """The variant, or each layer's where they differ."""
        return _common({report.layer: report.variant for report in self.layers})

    @property
    def provenance(self) -> str:
        """How the semantics is known, or each layer's way where they differ."""
        return _common({report.layer: report.provenance for report in self.layers})

    @property
    def n_errors(self) -> int:
        """Layers that cannot run, because a weight is NaN or infinite."""
        return sum(not report.finite for report in self.layers)

    @property
    def sentence(self) -> str:
        """The load in one line."""
        numbers = ", ".join(str(report.layer) for report in self.layers)
        return (
            f"format {self.format}: {self.tensors_used} of {self.tensors_total} tensors used, "
            f"{len(self.unused)} left over; {self.semantics} ({self.provenance}) on layer"
            f"{'s' if len(self.layers) > 1 else ''} {numbers}"
        )

    def to_json(self) -> dict:
        """Plain dicts, lists, strings and numbers, the derived properties among them."""
        plain = asdict(self)
        plain |= {name: getattr(self, name) for name in ("sentence", "semantics", "provenance", "n_errors")}
        for row, report in zip(plain["layers"], self.layers, strict=True):
            row |= {name: getattr(report, name) for name in ("rank", "components", "finite")}
        for row, claim in zip(plain["claims"], self.claims, strict=True):
            row["agrees"] = claim.agrees
        return plain


def _common(by_layer: Mapping[int, str]) -> str:
    if len(set(by_layer.values())) == 1:
        return next(iter(by_layer.values()))
    return "; ".join(f"layer {layer}: {value}" for layer, value in by_layer.items())
