"""LTU and its variants, as entries of the table of methods."""

from __future__ import annotations

from dataclasses import replace

from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.ltu.algorithm import ltu
from ltu_jax.unlearners.ltu.config import (
    MATCHING_NUMBERS,
    LTUConfig,
    Objective,
    without_reference,
)
from ltu_jax.unlearners.ltu.heldout import HeldoutDistillation

_SPACE = {
    "learning_rate": LogUniform(0.005, 0.05),
    "forget_weight": LogUniform(0.1, 1.6),
    "distill": Choice((0.5, 0.9)),
    "steps": Choice((100, 200, 300)),
}
_DEFAULT = LTUConfig()
NUMBERS = (*MATCHING_NUMBERS, "random_label_inner.lr", "membership_inner.lr")

METHOD = Method(
    name="ltu",
    summary="meta-gradients over random labels and membership models, harmonised; second order",
    reference="Huang, Foo & Liu 2024, arXiv 2407.10494",
    build=ltu,
    traced=NUMBERS,
    without_training=without_reference,
    config=_DEFAULT,
    space=_SPACE,
)

FIRST_ORDER = Method(
    name="ltu_first_order",
    summary="LTU without second derivatives",
    reference="Huang, Foo & Liu 2024, arXiv 2407.10494",
    build=ltu,
    traced=NUMBERS,
    without_training=without_reference,
    config=replace(
        _DEFAULT,
        random_label_inner=_DEFAULT.random_label_inner._replace(order=1),
        membership_inner=_DEFAULT.membership_inner._replace(order=1),
    ),
    space=_SPACE,
)

# The plain reading of the paper: random labels are a target as well, scores are lowered.
PAPER = Method(
    name="ltu_paper",
    summary="LTU as its paper reads: L_tune at weight 1, scores pushed to non-member",
    reference="Huang, Foo & Liu 2024, arXiv 2407.10494",
    build=ltu,
    traced=NUMBERS,
    without_training=without_reference,
    config=replace(
        _DEFAULT,
        random_label_inner=_DEFAULT.random_label_inner._replace(tune_weight=1.0),
        distill=0.0,
        objective=Objective("push", target_source="heldout"),
    ),
    space={name: _SPACE[name] for name in ("learning_rate", "forget_weight", "steps")},
)

CALIBRATED = Method(
    name="ltu_calibrated",
    summary="LTU with difficulty-calibrated membership scores, by reference models",
    reference="ours, after arXiv 2407.10494 and 2111.08440",
    build=ltu,
    traced=NUMBERS,
    without_training=without_reference,
    config=replace(_DEFAULT, objective=Objective("calibrated", target_source="heldout")),
    space=_SPACE,
)

JOINT = Method(
    name="ltu_joint",
    summary="LTU that matches the output distribution (sliced Wasserstein), held-out distillation",
    reference="ours, after arXiv 2407.10494 and doi 10.1007/s10851-014-0506-3",
    build=ltu,
    traced=NUMBERS,
    without_training=without_reference,
    config=replace(
        _DEFAULT,
        objective=Objective("sliced_wasserstein"),
        forget_weight=1.6,
        audit_size=512,
        heldout_distillation=HeldoutDistillation(1.0),
    ),
    space={**_SPACE, "forget_weight": LogUniform(0.4, 6.4)},
)
