"""The files of a report: `report.json`, `report.html` and `figures/*.png`."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from ltu_jax import files
from ltu_jax.report import figures
from ltu_jax.report.audit import figures as audit_figures
from ltu_jax.report.content import ROW_KEYS, ReportContent, plain
from ltu_jax.report.html import render

PACKAGES = (
    "ltu-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "scikit-learn",
)


def write_report(content: ReportContent, folder: str | os.PathLike[str]) -> Path:
    """Write the report into `folder`, created if absent, and return the path of `report.html`.

    Every file is written atomically, the page last.

    Raises:
      OSError: the folder cannot be written.
    """
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    drawn = [*figures.pictures(content), *audit_figures.pictures(content)]
    for picture in drawn:
        files.write(folder / "figures" / f"{picture.name}.png", picture.png)
    files.write_json(folder / "report.json", as_json(content))
    page = folder / "report.html"
    files.write(page, render(content, drawn).encode())
    return page


def as_json(content: ReportContent) -> dict[str, Any]:
    """Return the report as plain JSON values; every row has all keys, non-finite becomes null.

    Scores of single examples are personal data and left out.
    """
    run = dict(content.run)
    return plain(
        {
            "rows": [{key: row.get(key) for key in ROW_KEYS} for row in content.rows],
            "request": content.request,
            "config": content.config,
            "seeds": run.pop("seeds"),
            "versions": content.versions,
            "attacks": content.attacks,
            "run": run,
            "auc_band": content.auc_band,
            "class_names": content.class_names,
            "class_accuracy": content.class_accuracy,
            **({"audit": content.audit} if content.audit else {}),
            **({"ledger": content.ledger} if content.ledger else {}),
        }
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages, the platform and the device."""
    import jax

    devices = jax.devices()
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
