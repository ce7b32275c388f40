"""Results are made once, in groups that share models and programs."""

import time

from ltu_jax.runs.comparison.bench import Setting
from ltu_jax.runs.comparison.jobs import Job, Variant, make_missing, stages, variant

SETTING = Setting("digits", None, "mlp")
JOBS = [Job(SETTING, variant(name), 0) for name in ("original", "retrain", "finetune")]


def make(folder, made, **options):
    def run(job):
        made.append(job)
        return {"method": job.variant.method, "avg_gap": 1.0, "failure": None}

    return list(
        make_missing([JOBS], run, lambda job: folder / job.digest, lambda: {"of": "now"}, **options)
    )


def test_nothing_is_made_twice(tmp_path):
    made = []
    lines = make(tmp_path, made)
    assert made == JOBS
    assert [line.split(" (")[0] for line in lines] == [
        f"random_10, seed 0: {job.variant.method} average gap 1.00" for job in JOBS
    ]
    (tmp_path / JOBS[1].digest).unlink()
    make(tmp_path, made)
    assert made == [*JOBS, JOBS[1]]


def test_no_job_starts_after_the_time_limit(tmp_path):
    made = []
    assert make(tmp_path, made, until=time.time() - 1) == []
    assert made == []


def test_jobs_differ_by_all_that_they_say():
    job = Job(SETTING, variant("ltu", steps=20), 0)
    assert job.options == {"steps": 20}
    others = [
        job._replace(seed=1),
        job._replace(repeat=1),
        job._replace(variant=Variant("ltu")),
        job._replace(setting=SETTING._replace(forget="class")),
    ]
    assert len({one.digest for one in (job, *others)}) == 5


def test_stages_keep_programs_and_originals_together():
    jobs = [
        Job(SETTING._replace(forget=forget), variant(method), seed)
        for forget in ("random_10", "class")
        for method in ("original", "retrain", "scrub")
        for seed in (0, 1)
    ]
    originals, retrained, methods = stages(jobs)
    assert [len(group) for group in originals] == [2, 2]
    assert all(len({job.seed for job in group}) == 1 for group in originals)
    assert [len(group) for group in retrained] == [1] * 4
    assert all(len({job.setting for job in group}) == 1 for group in methods)
