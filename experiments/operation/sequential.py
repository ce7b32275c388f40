"""Does a model stay near Retrain over twenty requests in a row?

    python -m experiments.operation.sequential digits
    python -m experiments.operation.sequential cifar10 --data-dir DIR

Each request is for 1 % of the training set, drawn at random. Each run continues from the model of
the previous one (`ltu_jax.unlearn_next`) and retrains two models on the remaining data, so that
every gap has its noise floor. The runs are kept in `runs/sequential`; an
interrupted command goes on when it is given again; CIFAR-10 takes an hour on two CPU cores. Each
setting is a part of `experiments/results/sequential.json`; `docs/sequential.png` shows them all.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from experiments.lib.provenance import ROOT, command_source
from ltu_jax import unlearners
from ltu_jax.cli.compilation_cache import keep_programs
from ltu_jax.data import load
from ltu_jax.errors import InputError
from ltu_jax.files import write_json
from ltu_jax.report.content import plain
from ltu_jax.runs import pipeline
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.sequential import ledger
from ltu_jax.runs.sequential import unlearn_next as sequential
from ltu_jax.types import Dataset

COLOURS = {"method": "#D55E00", "retrain": "#0072B2", "second": "#56B4E9", "band": "#999999"}


@dataclass(frozen=True)
class Setting:
    """One data set, network and method.

    Attributes:
      data: as for `ltu unlearn`, and so for the next four.
      model: the network.
      train_size: training examples; None takes all.
      epochs: of original and Retrains; None is the model's own number.
      method: with its default options.
      seed: of everything.
      requests: how many come one after another.
      share: of the training set, that each of them asks for.
    """

    data: str
    model: str
    train_size: int | None = None
    epochs: int | None = None
    method: str = "ltu"
    seed: int = 0
    requests: int = 20
    share: float = 0.01


SETTINGS = {
    "digits": Setting("digits", "mlp"),
    "cifar10": Setting("cifar10", "cnn", train_size=10_000),
}


@dataclass(frozen=True)
class Options:
    """Answer the requests that are not answered yet, and write the results.

    Attributes:
      name: which setting.
      data_dir: folder in which TFDS keeps prepared data sets.
      out: folder that holds `experiments/results` and `docs`.
      runs: folder in which the runs are kept.
      quick: three requests to a hastily trained model, by fine-tuning; a test that all of it works.
    """

    name: tyro.conf.Positional[Literal["digits", "cifar10"]]
    data_dir: str | None = None
    out: Path = ROOT
    runs: Path = Path("runs/sequential")
    quick: bool = False


def main(args: list[str] | None = None) -> None:
    """Answer all requests, and write what the ledger says of them."""
    options = tyro.cli(Options, args=args)
    setting = SETTINGS[options.name]
    if options.quick:
        setting = replace(setting, requests=3, epochs=1, train_size=300, method="finetune")
    source = command_source(f"operation.sequential {options.name}")
    keep_programs()
    chain = options.runs / (f"{options.name}-quick" if options.quick else options.name)
    check_same(setting, chain)
    last = answer_all(setting, chain, options.data_dir)
    path = options.out / "experiments/results/sequential.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    entries = ledger.read(last)
    results[options.name] = {
        "config": {**asdict(setting), "retain_fraction": 0.3},
        "source": source,
        "ledger": {
            "unchecked": ledger.verify(last),
            "entries": len(entries),
        },
        "requests": [numbers(entry) for entry in entries],
    }
    write_json(path, plain(results))
    (options.out / "docs").mkdir(parents=True, exist_ok=True)
    draw(results, options.out / "docs/sequential.png")


def check_same(setting: Setting, chain: Path) -> None:
    """Raise `InputError` if the folder holds runs of another setting; note which it is."""
    path = chain / "setting.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != asdict(setting):
        raise InputError("out", f"{chain} holds runs of another setting", "delete the folder")
    write_json(path, asdict(setting))


def answer_all(setting: Setting, chain: Path, data_dir: str | None) -> Path:
    """Answer the requests that are not answered yet; return the folder of the last run."""
    dataset = load(
        setting.data, data_dir=data_dir, train_size=setting.train_size, seed=setting.seed
    )
    before = None
    for number, ids in enumerate(draw_requests(setting, dataset.train_ids), start=1):
        folder = RunFolder(chain / f"{number:03d}")
        if folder.is_unfinished() and folder.spec.exists():
            pipeline.resume(folder.path, data=dataset, quiet=True)
        elif not folder.ledger.exists():
            if before is None:
                first(setting, dataset, ids, folder.path)
            else:
                sequential.unlearn_next(before, ids, data=dataset, out=folder.path, quiet=True)
        print(f"request {number}: {ledger.read(folder)[-1]['drift']['sentence']}", flush=True)
        before = folder.path
    return before


def first(setting: Setting, dataset: Dataset, ids: list[str], folder: Path) -> None:
    """Train the model and answer the first request; the data set is read once for all of them."""
    pipeline.unlearn(
        dataset,
        ids,
        model=setting.model,
        method=setting.method,
        epochs=setting.epochs,
        seed=setting.seed,
        out=folder,
        quiet=True,
    )


def draw_requests(setting: Setting, ids: np.ndarray) -> list[list[str]]:
    """Return disjoint lists of ids, one a request."""
    size = round(setting.share * len(ids))
    order = np.random.default_rng(setting.seed).permutation(len(ids))
    return [ids[order[k * size : (k + 1) * size]].tolist() for k in range(setting.requests)]


def numbers(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry of the ledger says, without what differs from run to run."""
    names = ("entry", "parent", "child", "method", "metrics", "drift")
    return {name: entry[name] for name in names} | {"count": entry["forgotten"]["count"]}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw, for each setting, the gaps, the test accuracy and the leakage over the requests."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4 * len(results)), layout="constrained")
    rows = figure.subplots(len(results), 3, squeeze=False)
    for (name, found), (gaps, utility, leakage) in zip(results.items(), rows, strict=True):
        requests = found["requests"]
        method = unlearners.find(found["config"]["method"]).name
        at = [request["entry"] for request in requests]
        metrics = [request["metrics"] for request in requests]
        drift = [request["drift"] for request in requests]
        gaps.plot(at, [m["avg_gap"] for m in metrics], color=COLOURS["method"], label=method)
        floor = [m["floor"] for m in metrics]
        gaps.plot(at, floor, "--", color=COLOURS["second"], label="second Retrain (floor)")
        gaps.set(title=f"{name}: average gap to Retrain", ylabel="points", ylim=(0, None))
        utility.plot(at, [m["ta"] for m in metrics], color=COLOURS["method"], label=method)
        target = [m["ta"] - m["gaps"]["ta"] for m in metrics]
        utility.plot(at, target, "--", color=COLOURS["retrain"], label="Retrain")
        utility.set(title="test accuracy", ylabel="percent")
        low, high = zip(*(d["band"] for d in drift), strict=True)
        leakage.fill_between(at, low, high, color=COLOURS["band"], alpha=0.3, label="95 % band")
        leakage.plot(at, [d["auc"] for d in drift], color=COLOURS["method"], label=method)
        target = [d["models"]["retrain"]["auc"] for d in drift]
        leakage.plot(at, target, "--", color=COLOURS["retrain"], label="Retrain")
        leakage.set(title="loss attack on all forgotten so far", ylabel="AUC, percent")
        for axes in (gaps, utility, leakage):
            axes.set_xlabel("request")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
