"""LTU as entries of the table of methods; the method itself is the package `ltu_jax.ltu`."""

from __future__ import annotations

from dataclasses import replace

from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.ltu.algorithm import ltu
from ltu_jax.unlearners.ltu.config import LTUConfig

_SPACE = {
    "learning_rate": LogUniform(0.005, 0.05),
    "forget_weight": LogUniform(0.1, 1.6),
    "distill": Choice((0.5, 0.9)),
    "steps": Choice((100, 200, 300)),
}


def _first_order(config: LTUConfig) -> LTUConfig:
    return replace(
        config,
        random_label_inner=config.random_label_inner._replace(order=1),
        membership_inner=config.membership_inner._replace(order=1),
    )


def _paper(config: LTUConfig) -> LTUConfig:
    """Return the plain reading of the paper: random labels are a target as well, scores go to 0."""
    plain = {"tune_weight": 1.0, "distill": 0.0, "stand_ins": "heldout"}
    return replace(config, membership_target="push", **plain)


METHOD = Method(
    name="ltu",
    summary="meta-gradients over random labels and membership models, harmonised; second order",
    reference="Huang, Foo & Liu 2024, arXiv 2407.10494",
    build=ltu,
    config=LTUConfig(),
    space=_SPACE,
)

FIRST_ORDER = Method(
    name="ltu_first_order",
    summary="LTU without the Hessian: the adapted parameters are taken as given",
    reference="Huang, Foo & Liu 2024, arXiv 2407.10494",
    build=ltu,
    config=_first_order(LTUConfig()),
    space=_SPACE,
)

PAPER = Method(
    name="ltu_paper",
    summary="LTU as its paper reads: L_tune at weight 1, scores pushed to non-member",
    reference="Huang, Foo & Liu 2024, arXiv 2407.10494",
    build=ltu,
    config=_paper(LTUConfig()),
    space={name: _SPACE[name] for name in ("learning_rate", "forget_weight", "steps")},
)

CALIBRATED = Method(
    name="ltu_calibrated",
    summary="LTU whose membership models know how hard each example is, from reference networks",
    reference="ours, after arXiv 2407.10494 and 2111.08440",
    build=ltu,
    config=replace(LTUConfig(), membership_target="calibrated", stand_ins="heldout"),
    space=_SPACE,
)

JOINT = Method(
    name="ltu_joint",
    summary="LTU that matches all that outputs show, and holds held-out outputs in place",
    reference="ours, after arXiv 2407.10494 and doi 10.1007/s10851-014-0506-3",
    build=ltu,
    config=replace(
        LTUConfig(), membership_target="joint", forget_weight=1.6, audit_size=512, anchor=1.0
    ),
    space={**_SPACE, "forget_weight": LogUniform(0.4, 6.4)},
)
