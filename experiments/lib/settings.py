"""Variants of LTU, with one part left out or one option changed, and their settings."""

from __future__ import annotations

from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import variant
from ltu_jax.unlearners.ltu.membership import DIVERSE

STILL = {"lr": 0.0, "max_norm": 1.0}  # an inner step of length 0
# What `ltu_joint` minimises, as options of its control; LTU adds support and query losses.
JOINT_LOSSES = {
    "objective": {"name": "sliced_wasserstein"},
    "forget_weight": 3.2,
    "audit_size": 512,
    "heldout_distillation": {"weight": 1.0},
}

LTU = {
    "LTU": variant("ltu"),
    "without meta scheme": variant("ltu", random_label_inner=STILL, membership_inner=STILL),
    "without harmonisation": variant("ltu", harmonize="none"),
    "without both (mi_match)": variant("mi_match"),
    "without membership branch": variant("ltu", forget_weight=0.0),
    "first order": variant("ltu_first_order"),
    "pushed to non-member": variant("ltu", objective={"name": "push"}),
    "as the paper reads": variant("ltu_paper"),
    "calibrated": variant("ltu_calibrated"),
    "joint": variant("ltu_joint"),
    "joint, without both (mi_match)": variant("mi_match", **JOINT_LOSSES),
    "joint, without anchor": variant("ltu_joint", heldout_distillation={"weight": 0.0}),
    "LTU with an anchor": variant("ltu", heldout_distillation={"weight": 1.0}),
}
SINGLE = {
    f"only {spec.feature}": variant("ltu", objective={"specs": [list(spec)], "support": 1})
    for spec in DIVERSE
}
HARMONY = {
    f"harmonised {how}": variant("ltu", harmonize=how)
    for how in ("per-layer", "protect-retain", "protect-forget")
}
INNER = {
    f"random-label inner step {lr}": variant("ltu", random_label_inner={"lr": lr})
    for lr in (0.003, 0.3)
} | {
    f"membership inner step {lr}": variant("ltu", membership_inner={"lr": lr})
    for lr in (0.0003, 0.1)
}
TUNE = {
    f"L_tune weight {w}": variant("ltu", random_label_inner={"tune_weight": w}) for w in (0.1, 1.0)
} | {"support membership loss weight 0": variant("ltu", membership_inner={"tune_weight": 0.0})}
QUERIES = {
    f"queries {' '.join(kinds)}": variant("ltu", query_sampling=kinds, query_size=192 // len(kinds))
    for kinds in (
        ("uniform",),
        ("uniform", "uniform", "uniform"),
        ("class", "class", "class"),
        ("hard", "hard", "hard"),
        ("uniform", "class", "hard", "cluster", "uniform", "class"),
    )
}
MODELS = {
    f"{count} membership models": variant(
        "ltu",
        objective={"specs": [list(spec) for spec in DIVERSE[:count]], "support": count // 2},
    )
    for count in (2, 3)
} | {
    "12 membership models": variant(
        "ltu",
        objective={
            "specs": [list(spec) for spec in DIVERSE]
            + [list(spec._replace(share=0.3)) for spec in DIVERSE],
            "support": 6,
        },
    )
}
CALIBRATED = {
    f"calibrated, {name}": variant("ltu_calibrated", **options)
    for name, options in {
        "no references": {"objective": {"calibration": {"references": 0}}},
        "distributions only": {"objective": {"calibration": {"weights": [0.5, 0.5, 0.0]}}},
        "each example only": {"objective": {"calibration": {"weights": [0.0, 0.0, 1.0]}}},
        "coupling 0": {"objective": {"calibration": {"rank_correlation": 0.0}}},
        "2 references a half": {"objective": {"calibration": {"references": 2}}},
        "no distillation": {"distill": 0.0},
        "600 steps": {"steps": 600},
        "weight 0.8": {"forget_weight": 0.8},
    }.items()
} | {
    "mi_match calibrated": variant("mi_match", objective={"name": "calibrated"}),
    "LTU, 600 steps": variant("ltu", steps=600),
}
JOINT = {
    f"joint, {name}": variant("ltu_joint", **options)
    for name, options in {
        "without meta scheme": {"random_label_inner": STILL, "membership_inner": STILL},
        "without harmonisation": {"harmonize": "none"},
        "256 directions": {"objective": {"projections": 256}},
        "16 directions": {"objective": {"projections": 16}},
        "audit batch 128": {"audit_size": 128},
        "anchor 0.3": {"heldout_distillation": {"weight": 0.3}},
        "anchor 3": {"heldout_distillation": {"weight": 3.0}},
        "weight 0.8": {"forget_weight": 0.8},
        "weight 3.2": {"forget_weight": 3.2},
    }.items()
}
OPTIONS = {**HARMONY, **INNER, **TUNE, **QUERIES, **MODELS, **CALIBRATED, **JOINT}
VARIANTS = {**LTU, **SINGLE, **OPTIONS}
PRIMARY, DIGITS = Setting("cifar10", 5_000, "mlp"), Setting("digits", None, "mlp")
SETTINGS = {
    "CIFAR-10, mlp, a random 10 %": (PRIMARY, (0, 1, 2, 3, 4)),
    "digits, mlp, a random 10 %": (DIGITS, (0, 1, 2, 3, 4)),
    "CIFAR-10, mlp, one class": (PRIMARY._replace(forget="class"), (0, 1, 2)),
    "CIFAR-10, cnn, a random 10 %": (Setting("cifar10", 10_000, "cnn"), (0, 1, 2)),
    "CIFAR-10, resnet20, a random 10 %": (Setting("cifar10", 10_000, "resnet20"), (0, 1, 2)),
    "Tiny-ImageNet, cnn, a random 10 %": (Setting("tiny_imagenet", None, "cnn"), (0, 1, 2)),
    "digits, mlp, a random 50 %": (DIGITS._replace(forget="random_50"), (0, 1, 2)),
    "digits, mlp, one class": (DIGITS._replace(forget="class"), (0, 1, 2)),
    "digits, mlp, a sub-class": (DIGITS._replace(forget="subclass"), (0, 1, 2)),
}
QUICK = Setting("digits", None, "mlp", epochs=5)
# LTU with few membership models, which compiles fast.
QUICK_OPTIONS = {
    "audit_size": 8,
    "query_sampling": ["uniform"],
    "query_size": 16,
    "objective": {"specs": [list(spec) for spec in DIVERSE[:2]], "support": 1},
}
