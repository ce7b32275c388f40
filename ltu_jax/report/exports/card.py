"""A Hugging Face model card of the unlearned model, with evaluation results."""

from __future__ import annotations

from collections.abc import Sequence

from ltu_jax.errors import InputError
from ltu_jax.report import sentences
from ltu_jax.report.answers import NOT_COVERED, guarantee_sentence, residual_risk, retrain_instead
from ltu_jax.report.audit import sentences as audit_sentences
from ltu_jax.report.content import ReportContent, label
from ltu_jax.report.exports.metrics import escape, metrics, table


def model_card(content: ReportContent) -> str:
    """Return a model card: YAML metadata with evaluation results, then Markdown.

    Raises:
      InputError: `huggingface_hub` is not installed.
    """
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as error:
        raise missing("huggingface_hub") from error
    data = content.run["data"]
    results = [
        EvalResult(
            task_type="other",
            dataset_type=data,
            dataset_name=data,
            dataset_split=one.part,
            metric_type="accuracy" if one.key in ("ra", "ta") else one.key,
            metric_name=f"{one.name}, percent",
            metric_value=one.value,
        )
        for one in metrics(content)
    ]
    about = ModelCardData(
        model_name=f"{content.run['model']} after {label(content.run['method'])}",
        eval_results=results,
        tags=["machine-unlearning", content.run["method"]],
    )
    return f"---\n{about.to_yaml()}\n---\n\n{_text(content)}"


def _text(content: ReportContent) -> str:
    method = label(content.run["method"])
    parts = [
        ("Request", [sentences.request(content)]),
        ("What was done", [sentences.actions(content)]),
        ("Results", [*sentences.measurements(content), None]),
        ("Guarantee", [guarantee_sentence(content), residual_risk(content)]),
        ("Not shown by this", sentences.limits(content)),
        ("Not covered", NOT_COVERED),
        ("When to retrain instead", retrain_instead(content)),
        ("Warnings", content.run.get("warnings", ())),
    ]
    if content.audit is not None:
        parts.insert(3, ("Audit", audit_sentences.verdicts(content.audit, method)))
    body = "\n\n".join(_section(content, *part) for part in parts if part[1])
    return f"# {escape(sentences.title(content))}\n\n{body}\n\n{_record(content)}\n"


def _section(content: ReportContent, title: str, lines: Sequence[str | None]) -> str:
    listed = "\n".join(f"- {escape(line)}" for line in lines if line is not None)
    numbers = f"\n\nIn percent.\n\n{table(content)}" if None in lines else ""
    return f"## {title}\n\n{listed}{numbers}"


def _record(content: ReportContent) -> str:
    digests = [f"- SHA-256 of {name}: {value}" for name, value in _digests(content).items()]
    versions = ", ".join(f"{name} {version}" for name, version in content.versions.items())
    command = content.run["command"].replace("\n", " ")
    lines = [*digests, f"- Versions: {escape(versions)}", f"\n```sh\n{command}\n```"]
    return "## Record\n\n" + "\n".join(lines)


def _digests(content: ReportContent) -> dict[str, str]:
    return content.run.get("sha256", {})


def missing(package: str) -> InputError:
    """Return the error of an export whose package is not installed."""
    remedy = 'install it: pip install "ltu-jax[exports]"'
    return InputError("to", f"needs {package}, which is not installed", remedy)
