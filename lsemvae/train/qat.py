"""Quantization-aware fine-tuning: teach a trained student to give in INT8 the answers that it gives in float.

Only for a student whose static INT8 form loses AUROC (`needs_qat`): for the others it costs time and gains nothing. Its
target is the float student itself, so labels and teachers play no part. The run folder it leaves holds a student like any
other; the exporter converts and quantizes it without knowing of this.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from lsemvae.data.augment import AugmentSpec, augment
from lsemvae.data.store import RecordStore
from lsemvae.ecg.errors import SampleError
from lsemvae.model.config import TrainConfig, to_json
from lsemvae.model.student import StudentNet
from lsemvae.train.batches import load_batch, rows_with
from lsemvae.train.checkpoint import load_student
from lsemvae.train.fake_quant import Ranges, conv_pairs, equalized, folded, observed, quantized
from lsemvae.train.finetune import train_only
from lsemvae.train.loop import Loop, Report, check_rows
from lsemvae.train.run import check_parent, start_run

# Short and slow: the student knows its task and has only to make room for rounding.
QAT: Final = TrainConfig(epochs=4, batch=64, lr=1e-4, weight_decay=0.0, ema=0.98)
# What static INT8 may cost an output before this is worth its time.
MAX_AUROC_LOSS: Final = 0.003
# As many as the exporter takes ranges from: fewer miss the tall recordings.
CALIBRATION_RECORDS: Final = 256
_FLOAT_REFERENCE: Final = "torch_fp32"


class AurocChange(Protocol):
    """One output in a parity report."""

    @property
    def label(self) -> str:
        """Name of the output."""

    @property
    def positives(self) -> int:
        """Positive recordings behind the AUROC."""

    @property
    def change(self) -> float:
        """AUROC of the candidate minus that of the reference."""


class Compared(Protocol):
    """One comparison of two model files in a parity report."""

    @property
    def candidate(self) -> str:
        """Name of the file judged, such as tflite_int8."""

    @property
    def reference(self) -> str:
        """What it is held against."""

    @property
    def auroc(self) -> Sequence[AurocChange]:
        """Outputs."""


class Parity(Protocol):
    """The exporter's parity report (`export.gates.parity.ParityReport`), as far as it is read here."""

    @property
    def comparisons(self) -> Sequence[Compared]:
        """Comparisons of files."""


def needs_qat(parity: Parity, *, max_loss: float = MAX_AUROC_LOSS, min_positives: int = 5) -> list[str]:
    """Return the outputs, by name, whose AUROC an INT8 file loses more than `max_loss` of against the float student.

    An AUROC over fewer than `min_positives` positives moves by more than that on one recording, and is passed over.
    """
    lost = {
        pair.label
        for one in parity.comparisons
        if one.candidate.endswith("int8") and one.reference == _FLOAT_REFERENCE
        for pair in one.auroc
        if pair.positives >= min_positives and -pair.change > max_loss
    }
    return sorted(lost)


def quantization_aware(
    store: RecordStore,
    student_dir: Path,
    run_dir: Path,
    rows: np.ndarray,
    *,
    train: TrainConfig = QAT,
    left_out: tuple[int, ...] = (),
    report: Report | None = None,
) -> StudentNet:
    """Fine-tune the student of a run folder for INT8 on `rows`, and leave a run folder that exports as any student's.

    BatchNorm is folded and channels are equalized first; neither changes what the float student says. Ranges are the true
    ones over `CALIBRATION_RECORDS` recordings, taken anew before each epoch. Calibrate the result before it is exported:
    its logits are close to the student's, not equal.
    """
    check_parent(Path(student_dir), list(left_out), store)
    net, before = load_student(student_dir)
    rows = rows_with(store, rows, net.config.leads)
    check_rows(rows)
    kept = {key: before[key] for key in ("kind", "model", "labels", "leads")}
    start_run(
        run_dir,
        {**kept, "train": to_json(train), "student": str(student_dir), "stage": "qat"},
        store=store,
        left_out=list(left_out),
        seed=train.seed,
    )
    torch.manual_seed(train.seed)
    ecg = calibration_ecg(store, rows, net.config.leads)
    prepare(net, ecg)
    step = Int8Objective(net=net, store=store, ecg=ecg, train=train)
    Loop(net, train, run_dir, rows, step, report).run()
    return net.eval()


def calibration_ecg(store: RecordStore, rows: np.ndarray, leads: tuple[str, ...]) -> Tensor:
    """Return at most `CALIBRATION_RECORDS` of `rows` with a known gain, evenly spread: `[n, lead, time]` in mV."""
    known = rows[store.gain_known[rows].astype(bool)]
    if not len(known):
        raise SampleError(
            "found no recording with a known gain, expected some to take INT8 ranges from",
            advice="Train on recordings in true millivolts: a range of unknown gain cuts the tall ones.",
        )
    few = known[np.unique(np.linspace(0, len(known) - 1, CALIBRATION_RECORDS).astype(int))]
    return torch.from_numpy(store.millivolts(few, leads=leads))


def prepare(net: StudentNet, ecg: Tensor, *, equalize: bool = True) -> StudentNet:
    """Fold, equalize, and leave only the encoder's weights and biases to be trained."""
    folded(net.eval())
    if equalize:
        equalized(net, ecg)
    still = {id(norm.weight) for _, norm in conv_pairs(net)}  # each is 1: the convolution has taken it in
    train_only(net, [p for name, p in net.named_parameters() if name.startswith("encoder.") and id(p) not in still])
    return net


@dataclass(kw_only=True)
class Int8Objective:
    """Squared difference of INT8 and float student in logits and in the summary's log-variance, on augmented recordings."""

    net: StudentNet
    store: RecordStore
    ecg: Tensor
    train: TrainConfig

    def __post_init__(self) -> None:
        self._float = copy.deepcopy(self.net).eval().requires_grad_(requires_grad=False)
        self._ranges: Ranges = {}
        self._epoch = -1

    def __call__(self, batch_rows: np.ndarray, g: torch.Generator, progress: float) -> dict[str, Tensor]:
        """Return `loss` and its terms; ranges are taken anew at the first step of an epoch."""
        epoch = int(progress * self.train.epochs + 1e-6)  # progress is a quotient: 3 may read 2.9999999
        if epoch != self._epoch:
            self._ranges, self._epoch = observed(self.net, self.ecg).ranges, epoch
        leads = self.net.config.leads
        batch = load_batch(self.store, batch_rows, leads=leads)
        x = augment(batch.x, leads=leads, gain_known=batch.gain_known, spec=AugmentSpec(), g=g)
        with torch.no_grad():
            mean, logvar = self._float.encoder(x)
            logits = self._float.head.logits(mean)
        found, _, found_logvar = quantized(self.net, x, self._ranges)
        terms = {"logit": (found - logits).square().mean(), "logvar": (found_logvar - logvar).square().mean()}
        return {"loss": terms["logit"] + terms["logvar"], **terms}
