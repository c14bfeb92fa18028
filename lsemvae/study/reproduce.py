"""Make the shipped bundle and the evidence table from the development recordings, in one command that may be resumed.

Bundle: store -> three cross-validated chains and one on everything -> decision rule -> INT8 bundles -> held-out figures -> card ->
final bundle. Table: `lsemvae.study.table`, and what the report shows beside it. Each step that is done is found and skipped, so the
command may be stopped and started again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.gates.gates import GateThresholds
from export.package_run import package_run
from export.release.signing import load_or_create_key
from export.run import export_run
from export.steps import int8_scores
from export.student_run.identity import IDENTITY_FILE
from lsemvae.data.cells import whole
from lsemvae.data.convert import convert_folder
from lsemvae.data.labels import PRIMARY_LABEL
from lsemvae.data.store import RecordStore, open_store, thinned
from lsemvae.ecg.errors import FormatError, ManifestError
from lsemvae.ecg.rule import DecisionRule
from lsemvae.evaluate.calibrate import fit_rule, spread_between_models
from lsemvae.evaluate.card import DATA_LICENCE, INTENDED_USE, LABEL_STATEMENT, NOT_FOR, CardFacts, render_card
from lsemvae.evaluate.floor import floor_probabilities, hand_features
from lsemvae.evaluate.heldout import pooled, student_logits, teacher_table
from lsemvae.evaluate.metrics import auroc, bootstrap, paired_difference
from lsemvae.evaluate.plots import draw_curves
from lsemvae.evaluate.report import ReportJob, write_report
from lsemvae.evaluate.scoring import FOLDS_FILE, OpenScreener, Scores, reports, score_folder, write_predictions
from lsemvae.formats.whole import write_whole
from lsemvae.model.student_sizes import DEFAULT_SIZE, student_cost
from lsemvae.screen.manifest import version_tuple
from lsemvae.study.extras import record_chain
from lsemvae.study.rows import REFERENCE_ROW, Row, expected
from lsemvae.study.sizes import SWEPT, run_sizes
from lsemvae.study.table import TableJob, run_table
from lsemvae.train.checkpoint import load_student
from lsemvae.train.loop import epoch_text
from lsemvae.train.pipeline import Budget, FoldPlan, fold_plans, train_chain
from lsemvae.train.run import check_labels, read_object, write_json

Say = Callable[[str], None]
SMOKE_GATES: Final = replace(GateThresholds(), min_positives=10_000, min_decision_agreement=0.9, max_p99_dp=0.2)
# Recordings of each fold in a smoke test: enough for an export's calibration and for every code path, for no figure.
QUICK_PER_FOLD: Final = 48
TEACHER_LABELS: Final = ("RHS", "RBBB_any", "CRBBB", "LVH", "MI", "AFIB", "NORM")
CARD_CURVES: Final = ("RHS", "RBBB_any", "AFIB", "LVH")


@dataclass(frozen=True)
class Job:
    """One reproduction: its folders and training budget, the signing key, who hears of progress, how bundles are opened."""

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
    """Run the steps of a part, `bundle`, `table` or `all`, and return what was made, by name.

    A wrong version or key fails now, not after the training. The extras of the table need the chains of the bundle.
    """
    try:
        version_tuple(job.version)
    except ManifestError as error:
        raise FormatError(str(error), advice="Give --bundle-version as three numbers like 0.2.0.") from error
    load_or_create_key(job.key)
    if not (job.out / "store").is_dir():
        job.say(f"converting {job.data}")
        convert_folder(job.data, job.out / "store")
    store = open_store(job.out / "store")
    if job.quick:
        store = thinned(store, per_fold=QUICK_PER_FOLD)
    plans = fold_plans(store)
    made: dict[str, Path] = {}
    if part in ("all", "bundle"):
        made |= _bundle(job, store, plans)
    if part not in ("all", "table"):
        return made
    # The rows of the table, those of the bundle's chains where they are there, and the report.
    predictions, extras, report = job.out / "predictions", job.out / "extras", job.out / "report"
    table = TableJob(job.data, job.out, store, plans, job.say, epochs=1 if job.quick else None)
    run_table(table, job.rows)
    extras.mkdir(exist_ok=True)
    write_json(extras / "expected.json", expected())
    if all((job.student(plan) / "model.safetensors").is_file() for plan in plans):
        record_chain(table, [job.cv_bundles / plan.name for plan in plans])
        run_sizes(
            table, key=job.key, gates=SMOKE_GATES if job.quick else None, sizes=(DEFAULT_SIZE,) if job.quick else SWEPT
        )
    if (job.out / "cv-predictions.csv").is_file():
        shutil.copy(job.out / "cv-predictions.csv", extras)
    shown = "student_int8" if (predictions / "student_int8.npz").is_file() else REFERENCE_ROW
    write_report(ReportJob(job.data, predictions, extras=(extras,), reference=REFERENCE_ROW, row=shown), report)
    return {**made, "predictions": predictions, "report": report}


def _bundle(job: Job, store: RecordStore, plans: Sequence[FoldPlan]) -> dict[str, Path]:
    """Train, calibrate, export, score and describe the student that ships; return what was made, by name."""

    def report(row: dict[str, float | int | str]) -> None:
        job.say("  " + epoch_text(row))

    for plan in plans:
        job.say(f"chain {plan.name}: {len(plan.train)} recordings")
        train_chain(
            store, job.out / "cv" / plan.name, plan.train, budget=job.budget, left_out=plan.left_out, report=report
        )
    rows = np.flatnonzero(store.fold > 0)
    job.say(f"chain final: {len(rows)} recordings")
    train_chain(store, job.out / "final", rows, budget=job.budget, report=report)

    # The rule that ships is fitted on what the INT8 files of the cross-validated students say. An INT8 file needs a run
    # folder with a rule to be made from, so the float students give one first.
    def quantized(run_dir: Path, store: RecordStore, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return int8_scores(run_dir, store, rows, gates=job.gates, progress=job.say)

    _fit_rule(job, store, plans, student_logits, fitted_on="torch_fp32")
    rule = _fit_rule(job, store, plans, quantized, fitted_on="tflite_int8").to_dict()

    # One TFLite bundle per cross-validated student, and the index that tells which folds each may score.
    job.cv_bundles.mkdir(exist_ok=True)
    for plan in plans:
        bundle = job.cv_bundles / plan.name
        if (bundle / "manifest.json").is_file() and read_object(bundle / "manifest.json").get("decision", {}) == rule:
            continue
        shutil.rmtree(bundle, ignore_errors=True)
        job.say(f"exporting {plan.name}")
        _export(job, store, job.student(plan), bundle, name=f"lsemvae-limb-cv-{plan.name}", target="tflite")
    write_json(job.cv_bundles / FOLDS_FILE, {plan.name: list(plan.left_out) for plan in plans})

    # Held-out INT8 predictions of all PTB-XL recordings with a known gain, through the clinic's code.
    job.say("scoring held-out recordings with the INT8 bundles")
    scores = score_folder(
        job.data,
        bundle=job.cv_bundles,
        split="all",
        known_gain=True,
        open_screener=job.open_screener(load_or_create_key(job.key).public_bytes),
    )
    write_predictions(job.out / "cv-predictions.csv", scores)
    _write_card(job, store, plans, scores)

    job.say("exporting the final bundle")
    bundle = job.out / "bundle"
    _export(job, store, job.final, bundle, name="lsemvae-limb", target="all")
    # The final student as `lsemvae export` without arguments finds it: a run folder without a path of this machine.
    shutil.rmtree(job.out / "packaged", ignore_errors=True)
    student = package_run(job.final, job.out / "packaged")
    return {"bundle": bundle, "card": bundle / "card.md", "results": job.out / "results.json", "student": student}


_Scorer = Callable[[Path, RecordStore, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _fit_rule(
    job: Job, store: RecordStore, plans: Sequence[FoldPlan], scorer: _Scorer, *, fitted_on: str
) -> DecisionRule:
    """Fit the decision rule on held-out logits of recordings whose gain is known, and write it into every run folder."""
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


def _export(job: Job, store: RecordStore, run: Path, bundle: Path, *, name: str, target: str) -> None:
    """Export a student as the bundle `name`; one that is there already is replaced."""
    identity = {
        "id": name,
        "version": job.version,
        "intended_use": INTENDED_USE,
        "label_statement": LABEL_STATEMENT,
        "not_for": list(NOT_FOR),
        "licence": DATA_LICENCE,
    }
    write_json(run / IDENTITY_FILE, identity)
    export_run(
        run,
        target=target,
        int8=True,
        out=bundle,
        data=store,
        key=job.key,
        force=bundle.exists(),
        gates=job.gates,
        progress=job.say,
    )


def _three(estimate: Any) -> list[float | None]:
    values = (estimate.value, estimate.low, estimate.high)
    return [None if np.isnan(v) else round(float(v), 5) for v in values]


def _write_card(job: Job, store: RecordStore, plans: Sequence[FoldPlan], scores: Scores) -> None:
    """Write the card with held-out figures and curves into the final student's folder, and the figures as results.json."""
    rows = reports(scores)
    # For each row of figures the logistic floor's AUROC, and its paired difference to the INT8 student.
    features = hand_features(scores.rows)
    folds = np.array([whole(row, "strat_fold") for row in scores.rows])
    floor: dict[str, dict[str, Any]] = {}
    for row in rows:
        label = str(row["label"])
        y = scores.truth(label, every_negative=row["negatives"] == "all")
        simple = floor_probabilities(features, scores.truth(label), folds, [plan.left_out for plan in plans])
        ours = scores.probabilities(label)
        keep = np.isfinite(y) & np.isfinite(simple) & np.isfinite(ours)
        who = scores.patients[keep]
        single = bootstrap(auroc, y[keep], simple[keep], patients=who)
        paired = paired_difference(auroc, y[keep], ours[keep], simple[keep], patients=who)
        floor[f"{label}/{row['negatives']}"] = {"auroc": _three(single), "difference": _three(paired)}
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
