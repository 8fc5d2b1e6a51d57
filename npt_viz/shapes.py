"""The names of the axes, each once; signatures use them, the tests check them, the app does not pay.

batch      prompts, or lanes: several versions of one prompt side by side
token      positions of the prompt
model      the residual stream, d_model
ffn        the inside of the MLP, d_ffn
inp, out   input and output of one projection: (model, ffn) for gate and up, (ffn, model) for down
component  the rank-1 updates that one token receives in one projection (k, `num_ranks`)
rank       the bottleneck of the adapter (r)
"""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int
else:
    try:
        from jaxtyping import Float, Int
    except ImportError:  # A bare GPU box: there the annotations are only documentation.

        class Float:
            def __class_getitem__(cls, item):
                return item[0]

        Int = Float

Hidden = Float[Tensor, "batch token model"]
"""Residual stream, attention output, MLP input or MLP output."""

TokenIds = Int[Tensor, "batch token"]
