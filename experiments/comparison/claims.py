"""Do the paper's claims hold? LTU against tuned baselines, and against LTU with a part left out.

    python -m experiments.comparison.claims --data-dir DIR
    python -m experiments.comparison.claims --quick

C1: with 30 % of the retain set, LTU's gap to Retrain is below that of baselines with the same 30 %.
C2: without the meta scheme it is worse. C3: without gradient harmonisation it is worse. C4: several
diverse membership models are better than any single one.

C1 is decided by the tables of `experiments.comparison.compare`, where the options of every method
were tuned without Retrain. For the others, variants of LTU differ from it in what their name says
and in nothing else. Differences are taken within a training seed: a claim *holds* where the 95 %
t-interval of the difference is above 0, and *does not hold* where all of it is below the gap of a
second Retrain: any gain is then less than the noise between two exact unlearnings. Otherwise, and
with fewer than three seeds, one *cannot tell*. Over several settings a claim holds if it holds in
each, and does not hold if it does not hold in one.

Writes `experiments/results/claims.json` and `docs/claims.png`. LTU_STUDY_WORKERS=2 uses two
processes. The three settings of `mlp` take about an hour and a half on two CPU cores, that of `cnn`
an hour (of its single membership models only log-odds has been run); those of `resnet20`, in part,
and Tiny-ImageNet have been run on a GPU. The other settings of digits take ten minutes.
`--only SETTING` and `--variants VARIANT` make some results; `claims.json` supplies those that
`runs/study` lacks. Results of one setting must come from one type of device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from experiments.lib import study
from experiments.lib.provenance import ROOT
from experiments.lib.settings import (
    LTU,
    OPTIONS,
    PRIMARY,
    QUICK,
    QUICK_OPTIONS,
    SETTINGS,
    SINGLE,
    VARIANTS,
)
from ltu_jax.files import write_json
from ltu_jax.report.comparison.table import interval
from ltu_jax.report.content import plain
from ltu_jax.runs.comparison.jobs import Job, Result, Variant, variant

OUT = ROOT / "experiments/results/claims.json"
FIGURE = ROOT / "docs/claims.png"
COMPARED = {
    name: ROOT / f"experiments/results/compare_{name}.json" for name in ("cifar10", "digits")
}
OURS = ("ltu", "ltu_first_order", "ltu_paper", "ltu_calibrated", "ltu_joint", "mi_match")
FEWEST_SEEDS = 3
METRICS = ("ua", "ra", "ta", "mia", "auc", "ks", "supervised", "two_model", "ra_accessible")
METRICS += ("ra_inaccessible", "seconds")


@dataclass(frozen=True)
class Options(study.Options):
    """Make the missing results and the verdicts.

    Attributes:
      only: make results in these settings alone, by their names in `settings.SETTINGS`.
      variants: make results of these variants alone, and of the original and retrained models;
        others are taken from `claims.json`.
    """

    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING ...")] = ()
    variants: Annotated[tuple[str, ...], tyro.conf.arg(metavar="VARIANT ...")] = ()


def main(args: list[str] | None = None) -> None:
    """Make the results and verdicts, write and draw them."""
    options = tyro.cli(Options, args=args)
    wanted = quick_jobs() if options.quick else jobs()
    _check("--only", options.only, SETTINGS)
    _check("--variants", options.variants, VARIANTS)
    chosen = [SETTINGS[name][0] for name in options.only or SETTINGS] + [QUICK]
    makes = [*study.REFERENCES, *(VARIANTS[name] for name in options.variants)]
    some = [
        job
        for job in wanted
        if study.path_of(job).exists()
        or (job.setting in chosen and (job.variant in makes or not options.variants))
    ]
    before = None if options.quick else json.loads(OUT.read_bytes())
    results = plain(verdicts(wanted, study.results_of(some, options), before))
    write_json(Path("runs/claims.json") if options.quick else OUT, results)
    if not options.quick:
        study.save(draw(results), FIGURE)
    for name, claim in results["claims"].items():
        print(f"{name} {claim['statement']}: {claim['verdict']}")


def _check(option: str, given: Sequence[str], known: Mapping[str, Any]) -> None:
    if unknown := set(given) - known.keys():
        raise SystemExit(f"{option} {min(unknown)}: choose among {', '.join(map(repr, known))}")


def jobs() -> list[Job]:
    """Return all jobs, the most important first."""
    wanted = []
    for setting, seeds in SETTINGS.values():
        single = SINGLE.values() if setting.forget == "random_10" else ()
        variants = [*study.REFERENCES, *LTU.values(), *single]
        wanted += [Job(setting, one, seed) for one in variants for seed in seeds]
    return wanted + [Job(PRIMARY, one, seed) for one in OPTIONS.values() for seed in (0, 1, 2)]


def quick_jobs() -> list[Job]:
    """Return the jobs of a quick run."""
    few = [variant("mi_match", steps=20), variant("ltu", steps=20, **QUICK_OPTIONS)]
    variants = [*study.REFERENCES, variant("random_label"), *few]
    return [Job(QUICK, one, seed) for one in variants for seed in (0, 1)]


def tuned(names: Sequence[str], data: str = "digits") -> dict[str, Variant]:
    """Return methods with options tuned without Retrain on a random 10 %."""
    chosen = json.loads(COMPARED[data].read_text(encoding="utf-8"))["tuning"]
    return {name: variant(name, **chosen[f"random_10-{name}"]["options"]) for name in names}


def verdicts(
    wanted: Sequence[Job], results: Mapping[Job, Result], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return verdicts, and means and intervals for every setting and variant.

    Args:
      wanted: jobs of all settings.
      results: results of the jobs that have been run.
      before: earlier verdicts; variants without results are taken from them.
    """
    made: dict[str, Any] = {}
    for name, (setting, _) in {**SETTINGS, "quick": (QUICK, ())}.items():
        here = [job for job in wanted if job.setting == setting and job in results]
        if here:
            made[name] = plain(summarise({job: results[job] for job in here}))
    found, sources = dict(made), []
    if before:
        found = {
            name: {**before["settings"].get(name, {}), **made.get(name, {})}
            for name in SETTINGS
            if name in before["settings"] or name in made
        }
        for source in before["sources"]:
            of = {name: set(of) - set(made.get(name, ())) for name, of in source["of"].items()}
            if of := {name: sorted(left) for name, left in of.items() if left}:
                sources.append({**source, "of": of})
    if made:
        of = {name: sorted(variants) for name, variants in made.items()}
        module = "comparison.claims --data-dir DIR"
        sources.append({"of": of, **study.source(module, results.values())})
    return {
        "config": {
            "margin": "mean gap of a second Retrain",
            "level": 0.95,
            "settings": {name: setting._asdict() for name, (setting, _) in SETTINGS.items()},
        },
        "sources": sources,
        "claims": {
            "C1": verdict_over("LTU's gap is below that of every baseline", baselines("ltu")),
            **{name: claim(name, found) for name in CLAIMS},
        },
        "rivals": {ours: baselines(ours) for ours in ("ltu", "ltu_joint")},
        "settings": found,
    }


def summarise(results: Mapping[Job, Result]) -> dict[str, Any]:
    """Return per variant: gaps by seed, and mean and interval of every metric."""
    names = {one: name for name, one in VARIANTS.items()}
    by_name: dict[str, dict[int, Result]] = {}
    for job, result in results.items():
        if result["failure"] is None:
            name = names.get(job.variant, job.variant.method)
            by_name.setdefault(name, {})[job.seed] = result
    return {
        name: {
            "gaps": {seed: result["avg_gap"] for seed, result in of_seed.items()},
            "gap": interval([result["avg_gap"] for result in of_seed.values()]),
            **{
                metric: interval([result[metric] for result in of_seed.values()])
                for metric in METRICS
                if all(result[metric] is not None for result in of_seed.values())
            },
            "conflicts": next((result["conflicts"] for result in of_seed.values()), None),
        }
        for name, of_seed in by_name.items()
    }


def best_of(names: Sequence[str], variants: Mapping[str, Any]) -> str:
    """Return the variant of the smallest mean gap."""
    return min(names, key=lambda name: variants[name]["gap"][0])


CLAIMS = {
    "C2": ("without the meta scheme the gap is larger", ("without meta scheme",)),
    "C3": ("without harmonisation the gap is larger", ("without harmonisation",)),
    "C4": ("every single membership model has a larger gap", tuple(SINGLE)),
}


def claim(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a claim about LTU's parts, over all settings that have every rival."""
    statement, rivals = CLAIMS[name]
    by_setting = {}
    for setting, variants in found.items():
        if {"LTU", *rivals} <= variants.keys():
            rival = best_of(rivals, variants)
            floor = variants["retrain_2"]["gap"][0]
            by_setting[setting] = verdict(
                rival, variants["LTU"]["gaps"], variants[rival]["gaps"], floor
            )
    return verdict_over(statement, by_setting)


def baselines(ours: str) -> dict[str, Any]:
    """Return the verdicts on one of our methods against the best other method of the tables."""
    by_setting = {}
    for data, path in COMPARED.items():
        results = json.loads(path.read_text(encoding="utf-8"))
        for scenario in dict.fromkeys(row["scenario"] for row in results["rows"]):
            gaps: dict[str, dict[int, float]] = {}
            for row in results["rows"]:
                if row["scenario"] == scenario and row["avg_gap"] is not None:
                    gaps.setdefault(row["method"], {})[row["train_seed"]] = row["avg_gap"]
            if ours not in gaps:
                continue
            rivals = {
                name: np.mean(list(of_seed.values()))
                for name, of_seed in gaps.items()
                if name not in (*OURS, "retrain", "retrain_2", "nothing")
                and len(of_seed) == len(gaps[ours])
            }
            rival = min(rivals, key=rivals.get)
            floor = float(np.mean(list(gaps["retrain_2"].values())))
            setting = f"{data}, {results['config']['model']}, {scenario}"
            by_setting[setting] = verdict(rival, gaps[ours], gaps[rival], floor)
    return by_setting


def verdict(
    rival: str, ours: Mapping[int, float], theirs: Mapping[int, float], margin: float
) -> dict[str, Any]:
    """Return the verdict on a claim by the rival's gap less LTU's, seed by seed."""
    difference = [theirs[seed] - ours[seed] for seed in ours if seed in theirs]
    mean, low, high = interval(difference)
    verdict = "holds" if low > 0 else "does not hold" if high < margin else "cannot tell"
    return {
        "rival": rival,
        "difference": mean,
        "interval": [low, high],
        "margin": margin,
        "seeds": len(difference),
        "verdict": verdict if len(difference) >= FEWEST_SEEDS else "cannot tell",
    }


def verdict_over(statement: str, by_setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict over all settings; the interval is that of the first."""
    all_verdicts = {one["verdict"] for one in by_setting.values()}
    overall = "holds" if all_verdicts == {"holds"} else "cannot tell"
    if "does not hold" in all_verdicts:
        overall = "does not hold"
    first = next(iter(by_setting.values()), None)
    return {
        "statement": statement,
        "verdict": overall,
        "interval": first and first["interval"],
        "settings": by_setting,
    }


def draw(results: Mapping[str, Any]) -> Any:
    """Return the figure of the gaps of all variants in the first setting, with the noise floor."""
    import matplotlib.pyplot as plt

    variants = next(iter(results["settings"].values()))
    names = [name for name in VARIANTS if name in variants]
    figure, panel = plt.subplots(figsize=(7, 0.22 * len(names) + 1))
    for at, name in enumerate(reversed(names)):
        mean, low, high = variants[name]["gap"]
        colour = "C0" if name in {**LTU, **SINGLE} else "C1"
        panel.plot([max(low, 0), high], [at, at], color=colour, lw=1.5)
        panel.plot(mean, at, "o", color=colour, ms=4)
    panel.axvline(variants["retrain_2"]["gap"][0], color="k", ls="--", lw=1, label="second Retrain")
    panel.axvline(variants["LTU"]["gap"][0], color="C0", ls=":", lw=1, label="LTU")
    panel.set_yticks(np.arange(len(names)), list(reversed(names)), fontsize=7)
    panel.set(xlabel="average gap to Retrain, points (mean and 95 % interval)", xlim=(0, 36))
    panel.legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
