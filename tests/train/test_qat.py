"""Quantization-aware fine-tuning: the arithmetic it plays, what it leaves alone, and that it closes the gap of a bad student."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export.gates.gates import GateThresholds
from export.gates.parity import AurocPair, ParityComparison, ParityReport
from export.student_run.graph import build_graph
from lsemvae.data.store import RecordStore, open_store
from lsemvae.ecg.errors import FormatError, SampleError
from lsemvae.model.config import StudentConfig, TrainConfig, to_json
from lsemvae.model.student import StudentNet
from lsemvae.train.checkpoint import load_student, save_tensors
from lsemvae.train.fake_quant import (
    encode,
    equalized,
    fake_activation,
    fake_weight,
    folded,
    observed,
    quantized,
)
from lsemvae.train.loop import learning_rate
from lsemvae.train.qat import QAT, Int8Objective, calibration_ecg, needs_qat, prepare, quantization_aware
from lsemvae.train.run import start_run

PLAIN = StudentConfig(channels=(8, 8, 12), kernels=(15, 9, 5), strides=(4, 4, 2), summary=6)
DEEP = dataclasses.replace(PLAIN, repeats=(0, 1, 2), pool="mean_max")
GENERATOR = torch.Generator().manual_seed(0)
ECG = torch.randn(24, 2, 2500, generator=GENERATOR).cumsum(-1).remainder(2.0) - 1.0


def _student(config: StudentConfig, *, seed: int = 0) -> StudentNet:
    """As drawn, but with statistics of its own in each norm and logits of a useful size."""
    torch.manual_seed(seed)
    net = StudentNet(config)
    net.train()
    for _ in range(20):
        net(ECG)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.3)
        net.head.logits.weight.mul_(8)
    return net.eval()


def _spoiled(net: StudentNet, factor: float = 3.0) -> StudentNet:
    """The same float student with ranges that no INT8 tensor can hold: channels apart by powers of ten."""
    spoiled = folded(copy.deepcopy(net))
    rng = torch.Generator().manual_seed(1)
    stages = list(spoiled.encoder.body)
    with torch.no_grad():
        for k in range(len(stages) - 1):
            first, second = stages[k], stages[k + 1]
            scale = torch.exp(factor * torch.randn(first[0].weight.shape[0], generator=rng))
            first[0].weight.mul_(scale.view(-1, 1, 1))
            first[1].bias.mul_(scale)
            second[0].weight.div_(scale.view(1, -1, 1))
    return spoiled


@torch.no_grad()
def int8_gap(net: StudentNet, ecg: torch.Tensor, *, calibration: torch.Tensor) -> float:
    """Return the mean |logit in INT8 - logit in float| over `ecg` `[n, lead, time]` in mV, ranges from `calibration`.

    The student is left as it is. The exporter's parity report says the same of the file that ships.
    """
    flat = folded(copy.deepcopy(net).eval())
    ranges = observed(flat, calibration).ranges
    logits, _ = flat(ecg)
    return float((quantized(flat, ecg, ranges)[0] - logits).abs().mean())


@pytest.mark.parametrize("config", [PLAIN, DEEP])
def test_folding_and_equalizing_change_nothing_that_the_float_student_says(config: StudentConfig) -> None:
    net = _student(config)
    flat = folded(copy.deepcopy(net))
    even = equalized(copy.deepcopy(flat), ECG)
    for other in (flat, even):
        for a, b in zip(net(ECG), other(ECG), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    mean, logvar = encode(even, ECG, tap=lambda _name, x: x, weigh=lambda _name, w: w)
    for a, b in zip((mean, logvar), even.encoder(ECG), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_folded_student_exports_as_it_is() -> None:
    net = folded(_student(DEEP))
    graph = build_graph(net, n_leads=2, n_samples=2500)
    torch.testing.assert_close(graph.student.encoder.body[0][0].weight, net.encoder.body[0][0].weight)
    torch.testing.assert_close(graph(ECG[:1])[0], net(ECG[:1])[0], rtol=1e-4, atol=1e-4)


def test_a_weight_is_rounded_by_its_output_channel() -> None:
    weight = torch.tensor([[1.0, 0.5, -0.004], [100.0, 50.0, 0.3]], requires_grad=True)
    rounded = fake_weight(weight)
    scale = torch.tensor([[1 / 127], [100 / 127]])
    torch.testing.assert_close(rounded, (weight / scale).round() * scale)
    assert float(rounded[1, 2].detach()) == 0, "0.3 is less than half a step of its row"
    assert float(rounded[0, 2].detach()) != 0
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_an_activation_has_256_steps_over_its_range_and_zero_is_one_of_them() -> None:
    x = torch.linspace(-0.3, 1.2, 4001, requires_grad=True)
    rounded = fake_activation(x, -0.25, 1.0)
    values = rounded.detach().unique()
    assert len(values) == 256
    assert float(values.abs().min()) == 0
    step = 1.25 / 255
    inside = (x > -0.24) & (x < 0.99)
    assert float((rounded - x)[inside].detach().abs().max()) <= step / 2 + 1e-6
    rounded.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[inside], torch.ones(int(inside.sum())))
    assert float(x.grad[(x < -0.26) | (x > 1.01)].abs().max()) == 0
    assert torch.equal(fake_activation(torch.tensor([0.0, 3.0]), 2.0, 4.0)[:1], torch.zeros(1)), (
        "zero is in every range"
    )


def test_ranges_are_the_true_ones_over_all_recordings() -> None:
    net = folded(_student(PLAIN))
    tall = ECG.clone()
    tall[17] *= 4
    ranges = observed(net, tall, batch=5).ranges
    assert ranges["input"] == pytest.approx((float(tall.min()), float(tall.max())))
    assert set(ranges) == {"input", "0.0", "1.0", "2.0", "features", "mean", "logvar"}
    assert all(low >= 0 for low, _ in (ranges[name] for name in ("0.0", "1.0", "2.0")))


@pytest.mark.parametrize("config", [PLAIN, DEEP])
def test_a_well_ranged_student_loses_little(config: StudentConfig) -> None:
    net = _student(config)
    spread = float(net(ECG)[0].std(0).mean().detach())
    assert 0 < int8_gap(net, ECG, calibration=ECG) < 0.2 * spread


def test_equalizing_mends_channels_that_are_powers_of_ten_apart() -> None:
    net = _student(PLAIN)
    bad = _spoiled(net)
    torch.testing.assert_close(bad(ECG)[0], net(ECG)[0], rtol=1e-3, atol=1e-3)
    before = int8_gap(bad, ECG, calibration=ECG)
    after = int8_gap(equalized(copy.deepcopy(bad), ECG), ECG, calibration=ECG)
    assert before > 5 * int8_gap(net, ECG, calibration=ECG), "the student is indeed badly ranged"
    assert after < 0.2 * before


@pytest.mark.promise(111)
@pytest.mark.parametrize(("spoil", "seed", "at_most", "gain"), [(3.0, 1, 0.05, 0.75), (0.0, 0, 0.9, 0.9)])
def test_fine_tuning_brings_int8_closer_to_the_float_student(
    store: RecordStore, spoil: float, seed: int, at_most: float, gain: float
) -> None:
    """A badly ranged student and a sound one, judged on recordings that neither training nor ranges have seen.

    Equalizing does the most for the first; training then does more for both.
    """
    rows, held_out = np.arange(12), np.arange(12, 16)
    net = _spoiled(_student(PLAIN, seed=seed), factor=spoil)
    calibration = torch.from_numpy(store.millivolts(rows, leads=("I", "II")))
    judged = torch.from_numpy(store.millivolts(held_out, leads=("I", "II")))
    said = net(judged)[0].detach()
    before = int8_gap(net, judged, calibration=calibration)
    equal = int8_gap(prepare(net, calibration), judged, calibration=calibration)
    _train(net, store, rows, calibration)
    ranges = observed(net, calibration).ranges
    after = float((quantized(net, judged, ranges)[0] - said).detach().abs().mean())
    assert after < at_most * before
    assert after < gain * equal


def _train(net: StudentNet, store: RecordStore, rows: np.ndarray, calibration: torch.Tensor) -> None:
    train, n_steps = TrainConfig(epochs=8, batch=12, lr=1e-4), 40
    step = Int8Objective(net=net, store=store, ecg=calibration, train=train)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=train.lr)
    g = torch.Generator().manual_seed(0)
    for k in range(n_steps):
        optimizer.param_groups[0]["lr"] = learning_rate(train, k, n_steps)
        optimizer.zero_grad()
        step(rows, g, k / n_steps)["loss"].backward()
        optimizer.step()


def test_only_the_encoder_is_trained_and_the_folding_survives() -> None:
    net = prepare(_student(DEEP), ECG)
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert all(name.startswith("encoder.") for name in trained)
    assert not any(name.endswith(".1.weight") for name in trained), "a norm's weight is 1 and stays so"
    assert "encoder.body.2.1.second.1.bias" in trained
    assert "encoder.summary.logvar.weight" in trained


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    from lsemvae.data.convert import convert_folder
    from tests.data.test_folder_format import write_folder

    root = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    t = np.arange(5000) / 500
    beats = np.exp(-(((t % 0.8) - 0.4) ** 2) / 0.0004)
    x = (beats * rng.uniform(200, 900, (16, 8, 1)) + rng.normal(0, 10, (16, 8, 5000))).astype(np.int16)
    convert_folder(write_folder(root / "data", x), root / "store")
    return open_store(root / "store")


def _run(store: RecordStore, run: Path, *, left_out: tuple[int, ...] = ()) -> Path:
    config = dataclasses.replace(PLAIN, labels=store.label_names, measures=store.measure_names)
    written = {"kind": "student", "model": to_json(config), "labels": list(config.labels), "leads": ["I", "II"]}
    start_run(run, written, store=store, left_out=list(left_out), seed=0)
    save_tensors(run / "model.safetensors", _student(config).state_dict())
    return run


def test_it_leaves_a_run_folder_with_a_student_like_any_other(store: RecordStore, tmp_path: Path) -> None:
    student = _run(store, tmp_path / "s")
    rows = np.arange(16)
    made = quantization_aware(store, student, tmp_path / "q", rows, train=dataclasses.replace(QAT, epochs=2, batch=8))
    net, config = load_student(tmp_path / "q")
    assert config["student"] == str(student)
    assert config["leads"] == ["I", "II"]
    assert json.loads((tmp_path / "q/run.json").read_text())["data_sha256"] == store.data_hash
    x = torch.from_numpy(store.millivolts(rows, leads=("I", "II")))
    assert torch.equal(net(x)[0], made(x)[0])
    before = load_student(student)[0]
    assert float((net(x)[0] - before(x)[0]).detach().abs().mean()) < 0.3, "it says what the student said"
    assert torch.equal(net.head.logits.weight, before.head.logits.weight)
    assert not torch.equal(net.encoder.summary.mean.weight, before.encoder.summary.mean.weight)
    lines = [json.loads(line) for line in (tmp_path / "q/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]


def test_defect_leak_other_folds_than_the_students_are_refused(store: RecordStore, tmp_path: Path) -> None:
    student = _run(store, tmp_path / "s", left_out=(1,))
    with pytest.raises(FormatError, match=r"left out folds \[1\], expected \[\]"):
        quantization_aware(store, student, tmp_path / "q", np.arange(16), train=QAT)


def test_ranges_need_recordings_in_true_millivolts(store: RecordStore) -> None:
    unknown = dataclasses.replace(store, gain_known=np.zeros(16))
    with pytest.raises(SampleError, match="found no recording with a known gain"):
        calibration_ecg(unknown, np.arange(16), ("I", "II"))
    assert len(calibration_ecg(store, np.arange(16), ("I", "II"))) == 16


def _compared(candidate: str, *pairs: AurocPair, reference: str = "torch_fp32") -> ParityComparison:
    return ParityComparison(
        candidate=candidate, reference=reference, n=200, finite=True, max_dlogit=0, mean_dlogit=0, p99_dp=0, max_dp=0,
        p99_duncertainty=0, max_duncertainty=0, decision_agreement=1, label_agreement=1, auroc=pairs,
    )  # fmt: skip


@pytest.mark.promise(111)
def test_only_what_static_int8_loses_by_more_than_the_bar_asks_for_it() -> None:
    lost, kept, few = AurocPair("RHS", 30, 0.9, 0.8965), AurocPair("MI", 99, 0.9, 0.8975), AurocPair("RAE", 4, 0.9, 0.5)
    gained, other = AurocPair("LVH", 50, 0.8, 0.85), AurocPair("AFIB", 50, 0.97, 0.90)
    report = ParityReport(
        (
            _compared("tflite_fp32", other),
            _compared("tflite_int8", lost, kept, few, gained),
            _compared("onnx_int8", AurocPair("NORM", 60, 0.9, 0.89)),
            _compared("onnx_int8", other, reference="tflite_int8"),
        ),
        GateThresholds(), "RHS", (),
    )  # fmt: skip
    assert needs_qat(report) == ["NORM", "RHS"]
    assert needs_qat(report, max_loss=0.005) == ["NORM"]
    assert needs_qat(report, min_positives=1) == ["NORM", "RAE", "RHS"]


def test_what_the_recipe_keeps_in_float_is_not_rounded() -> None:
    """The trunk's recipe leaves the recording, the first convolution and the summary's linear layers alone."""
    net = folded(_student(PLAIN))
    ranges = observed(net, ECG).ranges
    float_mean, _ = encode(net, ECG, tap=lambda _name, x: x, weigh=lambda _name, w: w)
    trunk, encoder = (quantized(net, ECG, ranges, region=region)[1] for region in ("trunk", "encoder"))
    assert 0 < (trunk - float_mean).abs().mean() < (encoder - float_mean).abs().mean()
    seen: list[str] = []
    encode(net, ECG, tap=lambda _name, x: x, weigh=lambda name, w: seen.append(name) or w)
    assert set(seen) == {name for name in ranges if name not in ("input", "features")}
