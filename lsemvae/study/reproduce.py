"""From the development recordings to the shipped bundle and the evidence table, in one resumable command.

Bundle: store -> three cross-validated chains and one on everything -> decision rule -> INT8 bundles -> held-out figures -> card ->
final bundle. Table: `lsemvae.study.table`, and what the report shows beside it. Each step that is done is found and skipped, so the
command may be stopped and started again.

Like the command line, this module stands between the rooms.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.gates.gates import GateThresholds
from export.int8_scores import int8_scores
from export.package_run import package_run
from export.release.signing import load_or_create_key
from export.run import export_run
from export.student_run.identity import IDENTITY_FILE
from lsemvae.data.cells import whole
from lsemvae.data.convert import convert_folder
from lsemvae.data.labels import PRIMARY_LABEL
from lsemvae.data.store import RecordStore, open_store, thinned
from lsemvae.ecg.errors import FormatError, ManifestError
from lsemvae.ecg.rule import DecisionRule
from lsemvae.ecg.whole import write_whole
from lsemvae.evaluate.calibrate import fit_rule, spread_between_models
from lsemvae.evaluate.card import DATA_LICENCE, INTENDED_USE, LABEL_STATEMENT, NOT_FOR, CardFacts, render_card
from lsemvae.evaluate.floor import floor_probabilities, hand_features
from lsemvae.evaluate.heldout import pooled, student_logits, teacher_table
from lsemvae.evaluate.metrics import auroc, bootstrap, paired_difference
from lsemvae.evaluate.plots import draw_curves
from lsemvae.evaluate.report import ReportJob, write_report
from lsemvae.evaluate.scoring import FOLDS_FILE, OpenScreener, Scores, reports, score_folder, write_predictions
from lsemvae.model.student_sizes import DEFAULT_SIZE, student_cost
from lsemvae.screen.manifest_parts import version_tuple
from lsemvae.study.extras import record_chain
from lsemvae.study.rows import REFERENCE_ROW, Row, expected
from lsemvae.study.sizes import SWEPT, run_sizes
from lsemvae.study.table import TableJob, run_table
from lsemvae.train.checkpoint import load_student
from lsemvae.train.pipeline import Budget, FoldPlan, fold_plans, train_chain
from lsemvae.train.run import check_labels, read_object, write_json

Say = Callable[[str], None]
SMOKE_GATES = replace(GateThresholds(), min_positives=10_000, min_decision_agreement=0.9, max_p99_dp=0.2)
QUICK_PER_FOLD = 48
"""Recordings of each fold in a smoke test: enough for an export's calibration and for every code path, for no figure."""
TEACHER_LABELS = ("RHS", "RBBB_any", "CRBBB", "LVH", "MI", "AFIB", "NORM")
CARD_CURVES = ("RHS", "RBBB_any", "AFIB", "LVH")


@dataclass(frozen=True)
class Job:
    """Where things lie, what is said on the way, and how bundles are opened and signed."""

    data: Path
    out: Path
    budget: Budget
    version: str
    key: str
    say: Say
    open_screener: Callable[[bytes], OpenScreener]
    quick: bool = False
    rows: tuple[Row, ...] = ()

    @property
    def gates(self) -> GateThresholds:
        """Gates of the export; an AUROC of some hundred recordings says nothing, so a smoke test is not held to one."""
        return SMOKE_GATES if self.quick else GateThresholds()

    @property
    def cv_bundles(self) -> Path:
        """Folder of the cross-validation bundles."""
        return self.out / "cv-bundles"

    def student(self, plan: FoldPlan) -> Path:
        """Run folder of a cross-validated student."""
        return self.out / "cv" / plan.name / "student"

    @property
    def final(self) -> Path:
        """Run folder of the student on all folds."""
        return self.out / "final" / "student"


def reproduce(job: Job, *, part: str = "all") -> dict[str, Path]:
    """Run the steps of a part, `bundle`, `table` or `all`; returns what was made by name.

    A wrong version or key fails now, not after the training. The extras of the table need the chains of the bundle.
    """
    _check_version(job.version)
    load_or_create_key(job.key)
    store = _store(job)
    plans = fold_plans(store)
    made: dict[str, Path] = {}
    if part in ("all", "bundle"):
        _train(job, store, plans)
        rule = _fit_rules(job, store, plans)
        _export_cv(job, store, plans, rule)
        scores = _score_cv(job, plans)
        _write_card(job, store, plans, scores)
        bundle = _export_final(job, store)
        made |= {"bundle": bundle, "card": bundle / "card.md", "results": job.out / "results.json"}
        made["student"] = _package(job)
    if part in ("all", "table"):
        made |= _table(job, store, plans)
    return made


def _table(job: Job, store: RecordStore, plans: Sequence[FoldPlan]) -> dict[str, Path]:
    """The rows of the table, those of the bundle's chains where they are there, and the report."""
    table = TableJob(job.data, job.out, store, plans, job.say, epochs=1 if job.quick else None)
    run_table(table, job.rows)
    (job.out / "extras").mkdir(exist_ok=True)
    write_json(job.out / "extras/expected.json", expected())
    if all((job.out / "cv" / plan.name / "student/model.safetensors").is_file() for plan in plans):
        record_chain(table, [job.cv_bundles / plan.name for plan in plans])
        run_sizes(
            table, key=job.key, gates=SMOKE_GATES if job.quick else None, sizes=(DEFAULT_SIZE,) if job.quick else SWEPT
        )
    if (job.out / "cv-predictions.csv").is_file():
        shutil.copy(job.out / "cv-predictions.csv", job.out / "extras")
    report = job.out / "report"
    shown = "student_int8" if (job.out / "predictions/student_int8.npz").is_file() else REFERENCE_ROW
    write_report(
        ReportJob(job.data, job.out / "predictions", extras=(job.out / "extras",), reference=REFERENCE_ROW, row=shown),
        report,
    )
    return {"predictions": job.out / "predictions", "report": report}


def _check_version(version: str) -> None:
    try:
        version_tuple(version)
    except ManifestError as error:
        raise FormatError(str(error), advice="Give --bundle-version as three numbers like 0.2.0.") from error


def _store(job: Job) -> RecordStore:
    path = job.out / "store"
    if not path.is_dir():
        job.say(f"converting {job.data}")
        convert_folder(job.data, path)
    store = open_store(path)
    return thinned(store, per_fold=QUICK_PER_FOLD) if job.quick else store


def _train(job: Job, store: RecordStore, plans: Sequence[FoldPlan]) -> None:
    def report(row: dict[str, float | int | str]) -> None:
        job.say("  " + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))

    for plan in plans:
        job.say(f"chain {plan.name}: {len(plan.train)} recordings")
        train_chain(
            store, job.out / "cv" / plan.name, plan.train, budget=job.budget, left_out=plan.left_out, report=report
        )
    rows = np.flatnonzero(store.fold > 0)
    job.say(f"chain final: {len(rows)} recordings")
    train_chain(store, job.out / "final", rows, budget=job.budget, report=report)


_Scorer = Callable[[Path, RecordStore, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _fit_rules(job: Job, store: RecordStore, plans: Sequence[FoldPlan]) -> DecisionRule:
    """The decision rule that ships, fitted on what the INT8 files of the cross-validated students say.

    An INT8 file needs a run folder with a rule to be made from, so the float students give one first.
    """
    _fit_rule(job, store, plans, student_logits, fitted_on="torch_fp32")

    def quantized(run_dir: Path, store: RecordStore, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return int8_scores(run_dir, store, rows, gates=job.gates, progress=job.say)

    return _fit_rule(job, store, plans, quantized, fitted_on="tflite_int8")


def _fit_rule(
    job: Job, store: RecordStore, plans: Sequence[FoldPlan], scorer: _Scorer, *, fitted_on: str
) -> DecisionRule:
    """The decision rule from held-out logits of recordings whose gain is known, written into every run folder."""
    labels = tuple(load_student(job.final)[1]["labels"])
    check_labels(store.label_names, labels, of=str(store.root))

    known = store.gain_known.astype(bool) & (store.fold > 0)
    foreign = np.flatnonzero(store.split == "external_dev")
    if not len(foreign):
        foreign = np.flatnonzero(store.fold == 0)
    primary, between = labels.index(PRIMARY_LABEL), []

    def both(plan: FoldPlan, rows: np.ndarray) -> np.ndarray:
        job.say(f"held-out logits of {plan.name} ({fitted_on})")
        logits, doubt = scorer(job.student(plan), store, np.concatenate([rows, foreign]))
        between.append(logits[len(rows) :, primary])
        return np.column_stack([logits, doubt])[: len(rows)]

    scored = pooled(store, plans, both, width=len(labels) + 1)
    y, logits, doubt = store.labels[known].astype(float), scored[known, :-1], scored[known, -1]
    rule = fit_rule(labels, y, logits, doubt, primary=PRIMARY_LABEL, logit_sd=0.0)
    if len(foreign):
        sd = spread_between_models(np.stack(between) * rule.calibrations[PRIMARY_LABEL].slope)
        rule = DecisionRule.from_dict({**rule.to_dict(), "interval_logit_sd": sd})
    for folder in (*(job.student(plan) for plan in plans), job.final):
        write_json(folder / "decision.json", {"decision": rule.to_dict(), "performance": [], "fitted_on": fitted_on})
    return rule


def _identity(job: Job, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "version": job.version,
        "intended_use": INTENDED_USE,
        "label_statement": LABEL_STATEMENT,
        "not_for": list(NOT_FOR),
        "licence": DATA_LICENCE,
    }


def _export_cv(job: Job, store: RecordStore, plans: Sequence[FoldPlan], rule: DecisionRule) -> None:
    """One TFLite bundle per cross-validated student, and the index that tells which folds each may score."""
    job.cv_bundles.mkdir(exist_ok=True)
    for plan in plans:
        bundle = job.cv_bundles / plan.name
        if (bundle / "manifest.json").is_file() and _rule_of(bundle) == rule.to_dict():
            continue
        write_json(job.student(plan) / IDENTITY_FILE, _identity(job, f"lsemvae-limb-cv-{plan.name}"))
        shutil.rmtree(bundle, ignore_errors=True)
        job.say(f"exporting {plan.name}")
        export_run(
            job.student(plan),
            target="tflite",
            int8=True,
            out=bundle,
            data=store,
            key=job.key,
            gates=job.gates,
            progress=job.say,
        )
    write_json(job.cv_bundles / FOLDS_FILE, {plan.name: list(plan.left_out) for plan in plans})


def _rule_of(bundle: Path) -> dict[str, Any]:
    return dict(read_object(bundle / "manifest.json").get("decision", {}))


def _score_cv(job: Job, plans: Sequence[FoldPlan]) -> Scores:
    """Held-out INT8 predictions of all PTB-XL recordings with a known gain, through the clinic's code."""
    job.say("scoring held-out recordings with the INT8 bundles")
    scores = score_folder(
        job.data,
        bundle=job.cv_bundles,
        split="all",
        known_gain=True,
        open_screener=job.open_screener(load_or_create_key(job.key).public_bytes),
    )
    write_predictions(job.out / "cv-predictions.csv", scores)
    return scores


def _floor(scores: Scores, rows: Sequence[dict[str, object]], plans: Sequence[FoldPlan]) -> dict[str, dict[str, Any]]:
    """The logistic floor's AUROC and the paired difference to the INT8 student, for each results row."""
    features = hand_features(scores.rows)
    folds = np.array([whole(row, "strat_fold") for row in scores.rows])
    out: dict[str, dict[str, Any]] = {}
    for row in rows:
        label, every = str(row["label"]), row["negatives"] == "all"
        y = scores.truth(label, every_negative=every)
        floor = floor_probabilities(features, scores.truth(label), folds, [plan.left_out for plan in plans])
        ours = scores.probabilities(label)
        keep = np.isfinite(y) & np.isfinite(floor) & np.isfinite(ours)
        who = scores.patients[keep]
        single = bootstrap(auroc, y[keep], floor[keep], patients=who)
        paired = paired_difference(auroc, y[keep], ours[keep], floor[keep], patients=who)
        out[f"{label}/{row['negatives']}"] = {
            "auroc": _three(single),
            "difference": _three(paired),
        }
    return out


def _three(estimate: Any) -> list[float | None]:
    values = (estimate.value, estimate.low, estimate.high)
    return [None if np.isnan(v) else round(float(v), 5) for v in values]


def _write_card(job: Job, store: RecordStore, plans: Sequence[FoldPlan], scores: Scores) -> None:
    rows = reports(scores)
    floor = _floor(scores, rows, plans)
    trained = store.fold > 0
    facts = CardFacts(
        version=job.version,
        n_parameters=student_cost(load_student(job.final)[0]).parameters,
        n_train=int(trained.sum()),
        n_patients=len(set(store.patient[trained].tolist())),
        rows=rows,
        floor=floor,
        outcomes=scores.outcome_counts(),
        teacher_rows=teacher_table(store, plans, job.out / "cv", TEACHER_LABELS),
        command="lsemvae evaluate docs/evidence/cv --data DIR --known-gain",
        cv_folds=[plan.left_out for plan in plans],
        data_sha256=store.data_hash,
    )
    write_whole(job.final / "card.md", render_card(facts))
    curves = {}
    for label in CARD_CURVES:
        y, p = scores.truth(label), scores.probabilities(label)
        keep = np.isfinite(y) & np.isfinite(p)
        curves[label] = (y[keep], p[keep])
    title = "Held-out INT8 predictions of reader statements (not pulmonary hypertension), PTB-XL folds 1-9"
    draw_curves(job.final / "curves.png", curves, title=title)
    decision = read_object(job.final / "decision.json")
    performance = [{"dataset": "PTB-XL folds 1-9, cross-validated, INT8", **row} for row in rows]
    write_json(job.final / "decision.json", {**decision, "performance": performance})
    write_json(job.out / "results.json", {"rows": rows, "floor": floor, "teacher": facts.teacher_rows})


def _package(job: Job) -> Path:
    """The final student as `lsemvae export` without arguments will find it: its run folder without a path of this machine."""
    out = job.out / "packaged"
    shutil.rmtree(out, ignore_errors=True)
    return package_run(job.final, out)


def _export_final(job: Job, store: RecordStore) -> Path:
    bundle = job.out / "bundle"
    write_json(job.final / IDENTITY_FILE, _identity(job, "lsemvae-limb"))
    job.say("exporting the final bundle")
    export_run(
        job.final,
        target="all",
        int8=True,
        out=bundle,
        data=store,
        key=job.key,
        force=bundle.exists(),
        gates=job.gates,
        progress=job.say,
    )
    return bundle
