"""Deletions at the scale of the literature.

    python -m experiments.recipes                                        # the list, with its cost
    python -m experiments.recipes cifar10-resnet18 --data-dir DIR        # one GPU, or all there are
    python -m experiments.recipes cifar10-resnet18 --data-dir DIR --smoke

Eight GPUs of one host need no other command: the devices share each step. On a TPU slice, or on
several GPU hosts, the same command runs on every host with `--distributed`; elsewhere name the
hosts (docs/scaling.md). Nothing at this scale has been run by us: the cost is counted, at 40
TFLOP/s an accelerator, and a deletion trains three networks (the original and two Retrains).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

import ltu_jax
from experiments.recipes.table import FORGET, RATE, SETTINGS, deletion_flops, training_flops

# A second-order step in forward-backward passes of an image: see docs/cost.md.
IMAGES_A_STEP, STEPS = 600, 300


@dataclass(frozen=True)
class Options:
    """List the recipes, or run one.

    Attributes:
      name: which; without one, all are listed.
      forget: whom to forget.
      method: the unlearning method.
      seed: of split, training and unlearning.
      data_dir: folder in which TFDS keeps prepared data sets; for Tiny-ImageNet, the zip's.
      out: folder of the results.
      smoke: 200 images, one epoch and two steps of LTU: does it run?
      distributed: this is one of several hosts.
    """

    name: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="NAME")]] = None
    forget: Literal["random_10", "random_50", "class"] = FORGET[0]
    method: str = "ltu"
    seed: int = 0
    data_dir: str | None = None
    out: Path | None = None
    smoke: bool = False
    distributed: bool = False


def main(args: list[str] | None = None) -> None:
    """List, or run."""
    options = tyro.cli(Options, args=args)
    if options.name is None:
        Console(width=100).print(listing())
        return
    if options.name not in SETTINGS:
        raise SystemExit(f"{options.name}: no such recipe; choose one of {', '.join(SETTINGS)}")
    result = run(options)
    print(f"Report: {result.folder / 'report.html'}")


def listing() -> Table:
    """Return a table of the recipes and what they cost."""
    table = Table("recipe", "network", "images", "epochs", "training", "LTU", "1 GPU", "8 GPUs")
    for name, setting in SETTINGS.items():
        training = training_flops(setting)
        deletion = deletion_flops(setting, IMAGES_A_STEP, STEPS)
        hours = (3 * training + deletion) / RATE / 3600
        table.add_row(
            name,
            setting.model,
            f"{setting.images or setting.total:,}",
            str(setting.training.epochs),
            f"{training:.0e} FLOP",
            f"{deletion / training:.1%}",
            f"{hours:.1f} h",
            f"{hours / 8:.1f} h",
        )
    return table


def run(options: Options) -> ltu_jax.Result:
    """Run a recipe, or a few steps of it."""
    if options.distributed:
        from ltu_jax.training import hosts

        hosts.join(None, None, None)
    setting = SETTINGS[options.name]
    training, size, config = setting.training, setting.images, None
    if options.smoke:
        training, size = replace(training, epochs=1, batch_size=32), 200
        config = ltu_jax.LTUConfig(
            steps=2, query_size=16, query_sampling=("uniform",), audit_size=16, support_size=8
        )
    data = ltu_jax.load(setting.data, data_dir=options.data_dir, train_size=size, seed=options.seed)
    request = {
        "random_10": ltu_jax.by_fraction(0.1, seed=options.seed),
        "random_50": ltu_jax.by_fraction(0.5, seed=options.seed),
        "class": ltu_jax.by_class(options.seed % data.num_classes),
    }[options.forget]
    return ltu_jax.unlearn(
        data,
        request,
        model=setting.model,
        method=options.method,
        config=config if options.method == "ltu" else None,
        recipe=training,
        reference="none" if options.smoke else "retrain",
        seed=options.seed,
        out=options.out,
        quiet=options.smoke,
        command=f"python -m experiments.recipes {options.name} --forget {options.forget}",
    )


if __name__ == "__main__":
    main()
