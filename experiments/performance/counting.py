"""Operations counted by hand: what a network and a step of LTU need, whatever a compiler does.

The unit is one forward pass over one image. A backward pass is two: for every product of a forward
pass, `y = w x`, there are two, the gradients of `w` and of `x`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from ltu_jax.types import Array, Model, Variables

FORWARD = 1
BACKWARD = 2
GRADIENT = FORWARD + BACKWARD

# A Hessian-vector product after a gradient, whose activations are kept. The
# linearised forward pass has two products for each one, y' = w' x + w x', so it is 2; the
# linearised backward pass has two for each of its two, 4. Only the first layer needs less: there x'
# is zero, as its gradient is not needed in a backward pass. Reverse over reverse and reverse over
# forward come to the same number.
HESSIAN_PRODUCT = 6


class Images(NamedTuple):
    """How many images one step of LTU looks at.

    Attributes:
      support: under random labels.
      audit: for the membership models.
      queries: of all query sets together.
    """

    support: int
    audit: int
    queries: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.support + self.audit + self.queries


def ltu_units(
    images: Images, order: int, has_statistics: bool, last_layer: bool = False
) -> dict[str, int]:
    """Return the units that each part of an LTU step needs; membership heads count as nothing.

    - `remember`: the support's gradient serves the temporary step and the linearisation, the
      queries' gradient is taken behind that step, and order 2 adds one Hessian product on the
      support.
    - `forget`: the audit batch in both roles, so two gradients of it and one Hessian product,
      however many membership models there are.
    - `statistics`: one forward pass over the queries, for BatchNorm; none without.

    With `last_layer` the inner steps move that layer alone, which counts as nothing: the support
    and the audit batch pass forwards once, the audit batch backwards in each of its roles.

    >>> ltu_units(Images(support=1, audit=1, queries=1), order=2, has_statistics=False)
    {'remember': 12, 'forget': 12, 'statistics': 0}
    """
    curved = GRADIENT + (HESSIAN_PRODUCT if order == 2 and not last_layer else 0)
    again = BACKWARD if last_layer else GRADIENT
    return {
        "remember": images.support * curved + images.queries * GRADIENT,
        "forget": images.audit * (curved + again),
        "statistics": images.queries * FORWARD if has_statistics else 0,
    }


def plain_units(images: int) -> int:
    """Return the units of one gradient on so many images."""
    return images * GRADIENT


def forward_flops(model: Model, inputs: Array) -> float:
    """Return the operations of a forward pass over one image, two for each multiply-add.

    Dense layers, convolutions and attention count; sums, norms and activations do not.

    Args:
      model: of Linen modules.
      inputs: `[1, ...]`, an image for its shape.
    """
    found: list[int] = []

    def count(forward, arguments, options, context: nn.module.InterceptorContext) -> Any:
        outputs = forward(*arguments, **options)
        if context.method_name == "__call__":
            found.append(_multiply_adds(context.module, outputs))
        return outputs

    def run(key: jax.Array, inputs: Array) -> Variables:
        variables = model.init(key, inputs)
        with nn.intercept_methods(count):
            model.apply(variables, inputs)
        return variables

    jax.eval_shape(run, jax.random.key(0), inputs)
    return 2.0 * sum(found)


def _multiply_adds(module: nn.Module, outputs: Any) -> int:
    """Return what a layer itself does for `outputs` `[1, ..., features]`, inner layers left out."""
    if isinstance(module, nn.MultiHeadDotProductAttention):
        _, tokens, width = outputs.shape
        return 2 * tokens * tokens * width  # scores, and values weighed by them
    kernel = module.variables.get("params", {}).get("kernel")
    if kernel is None:
        return 0
    # Each place of the output has met the whole kernel once.
    features = module.features if isinstance(module.features, tuple) else (module.features,)
    return outputs.size // math.prod(features) * kernel.size
