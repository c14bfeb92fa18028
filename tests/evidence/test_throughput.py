"""The timing commands: what they compare computes the same, and what they report follows from what they measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytestmark = pytest.mark.slow  # the whole file: what its tests share takes long to make


def _load(name: str) -> ModuleType:
    """A module of this folder, which is no package; its neighbours are found by their plain names."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ref = _load("reference_loop")
peers = _load("throughput_peers")
throughput = _load("throughput")
ideas = _load("throughput_ideas")
TINY = ref.ReferenceConfig(n_samples=80, channels=(2, 3, 4), latent=5)
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def _tiny_peer(device: str, *, fused: bool) -> Any:
    model = ref.ReferenceModel(TINY).to(device)
    return peers.Peer(
        model,
        ref.reference_optimizer(model, fused=fused),
        lambda x: ref.reference_loss(x, model(x), beta=1.0, config=TINY),
        lambda x: peers.standardized(x[..., : TINY.n_samples]),
        1.0,
    )


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """The commands set the number of threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "PEERS", {"reference": _tiny_peer, "base": _tiny_peer})


def _run(tmp_path: Path, *words: str) -> dict[str, Any]:
    out = tmp_path / "out.json"
    assert throughput.main([*words, "--device", "cpu", "--batch", "4", "--steps", "3", "--json", str(out)]) == 0
    return dict(json.loads(out.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ideas.IDEAS if name != "precision"])
def test_variants_of_an_idea_compute_the_same(name: str) -> None:
    torch.manual_seed(0)
    variants = ideas.IDEAS[name](3, TINY)
    got = [torch.cat([t.flatten() for t in _tensors(call())]) for call in variants.values()]
    assert len(got) > 1
    assert got[0].abs().max() > 0
    for other in got[1:]:
        torch.testing.assert_close(other, got[0], rtol=1e-4, atol=1e-4)


def _tensors(value: object) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)  # type: ignore[call-overload]


def test_half_precision_computes_the_same_within_its_rounding() -> None:
    torch.manual_seed(0)
    full, half = (torch.cat([t.flatten() for t in call()]) for call in ideas.precision(3, TINY).values())
    assert not torch.equal(full, half)
    assert (full - half).norm() < 0.03 * full.norm()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_candidates_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order: list[str] = []
    step = throughput.train_step
    monkeypatch.setattr(throughput, "train_step", lambda c, device: order.append(c.name) or step(c, device))
    data = _run(tmp_path, "reference", "base", "--warm-up", "2")
    assert order == ["reference", "base"] * 5
    assert data["turns"] == 3


@pytest.mark.usefixtures("tiny")
def test_what_was_measured_survives_an_interruption(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    step, seen = throughput.train_step, []

    def interrupted(candidate: Any, device: str) -> Any:
        seen.append(candidate.name)
        if len(seen) == 4:  # one turn of warm-up, two kept ones, then this
            raise KeyboardInterrupt
        return step(candidate, device)

    monkeypatch.setattr(throughput, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, "reference")
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["turns"] == 2


@pytest.mark.parametrize("words", [["--batch", "0"], ["--steps", "0"], ["--threads", "0"], ["--warm-up", "-1"]])
def test_impossible_numbers_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="expected at least 1"):
        throughput.main(words)


@pytest.mark.usefixtures("tiny")
def test_figures_follow_from_the_measured_seconds(tmp_path: Path) -> None:
    data = _run(tmp_path, "reference", "base")
    assert data["batch"] == 4
    for row in data["candidates"].values():
        assert row["parameters"] == sum(p.numel() for p in ref.ReferenceModel(TINY).parameters())
        assert row["step_wall_s"]["min"] <= row["step_wall_s"]["median"] <= row["step_wall_s"]["max"]
        assert sum(row["share_of_step"].values()) == pytest.approx(1, abs=0.1)
        assert row["recordings_per_wall_s"]["min"] == pytest.approx(4 / row["step_wall_s"]["max"], rel=0.05)
    first = data["candidates"]["reference"]
    assert first["speed_over_first_wall"] == {"median": 1.0, "min": 1.0, "max": 1.0, "range_over_median": 0.0}
    published = data["reference_with_its_accumulation"]
    reaching, read = published["recordings_that_reach_a_step_per_s"], published["recordings_read_per_s"]
    assert read == pytest.approx(2 * reaching, rel=1e-3)


def test_published_accumulation_is_two_passes_and_one_step() -> None:
    row = {"forward_backward": 2.0, "clip": 0.5, "optimizer": 1.5}
    candidate = throughput.Candidate("reference", None, torch.zeros(12, 1), None, None, 1.0, [row], [row])
    got = throughput.published_accumulation(candidate, device="cpu")
    assert got == {"recordings_read_per_s": 4.0, "recordings_that_reach_a_step_per_s": 2.0}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("options", ["bf16", "fp16", "fused", "bf16,fused"])
def test_options_train_the_model(options: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    candidate = throughput.build(f"reference:{options}", peers.recordings(4), device="cpu")
    before = [p.detach().clone() for p in candidate.peer.model.parameters()]
    throughput.train_step(candidate, "cpu")
    assert all(not torch.equal(p, q) for p, q in zip(before, candidate.peer.model.parameters(), strict=True))


def test_a_step_clips_the_gradient() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    peer = peers.Peer(
        model, torch.optim.SGD(model.parameters(), lr=1.0), lambda x: 1e3 * model(x).sum(), lambda x: x, 0.25
    )
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    throughput.train_step(throughput.Candidate("x", peer, torch.ones(1, 1), None, scaler, 0.0), "cpu")
    assert float(model.weight.detach()) == pytest.approx(0.75, abs=1e-5)


def test_a_turn_without_an_optimizer_step_stops_the_run() -> None:
    model = nn.Linear(1, 1)
    peer = peers.Peer(model, torch.optim.SGD(model.parameters()), lambda x: 3e38 * model(x).sum(), lambda x: x, 1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=throughput.LOSS_SCALE)
    with pytest.raises(SystemExit, match="overflow"):
        throughput.train_step(throughput.Candidate("x:fp16", peer, torch.ones(1, 1), None, scaler, 0.0), "cpu")


def test_operations_are_those_of_the_products() -> None:
    layer = nn.Linear(10, 20, bias=False)
    x = torch.randn(3, 10, requires_grad=True)
    assert throughput.gflop(lambda v: layer(v).sum(), x) == pytest.approx(3 * 2 * 3 * 10 * 20 / 1e9)


def test_recordings_are_standardized_for_the_reference_and_halved_for_base() -> None:
    x = peers.recordings(2) + 3
    z = peers.standardized(x)
    torch.testing.assert_close(z.mean(-1), torch.zeros(2, 12), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std(-1), torch.ones(2, 12))
    torch.testing.assert_close(peers.halved(x)[0, 0, 0], (x[0, 0, 0] + x[0, 0, 1]) / 2)


def _same_weights(model: nn.Module, reference: nn.Module) -> dict[str, Tensor]:
    """Copy the peer's weights into our model; the peer's gradients under our names, once it has some."""
    names: dict[str, Any] = {}
    for k, encoder in enumerate(reference.encoders):
        for j in range(3):
            for kind in ("weight", "bias"):
                names[f"encoders.per_lead.{k}.body.{j}.{kind}"] = [getattr(encoder, f"conv{j + 1}")], kind
        for kind in ("weight", "bias"):
            names[f"encoders.per_lead.{k}.heads.{kind}"] = [encoder.mean, encoder.logvar], kind
    for kind in ("weight", "bias"):
        names[f"decoder.dense.{kind}"] = [reference.decoder.dense], kind
        for j in range(3):
            names[f"decoder.up.{j}.{kind}"] = [getattr(reference.decoder, f"up{j + 1}")], kind
    ours = {name: p for name, p in model.named_parameters() if not name.startswith("probe.")}
    assert set(ours) == set(names)
    for name, (modules, kind) in names.items():
        ours[name].data.copy_(torch.cat([getattr(module, kind).detach() for module in modules]))
    return {
        name: torch.cat([getattr(module, kind).grad for module in modules])
        for name, (modules, kind) in names.items()
        if getattr(modules[0], kind).grad is not None
    }


@pytest.mark.promise(100)
def test_paper_with_its_switches_on_computes_what_the_reference_computes() -> None:
    from lsemvae.model.paper import LsEmvaePaper
    from lsemvae.model.paper_config import PaperConfig

    config = PaperConfig(n_samples=80, channels=(2, 3, 4), latent=5, prior=False, kl_of_unsampled_mean=True)
    torch.manual_seed(0)
    reference, model = ref.ReferenceModel(TINY), LsEmvaePaper(config)
    x, present = peers.recordings(3)[..., :80], torch.ones(3, 12, dtype=torch.bool)
    torch.manual_seed(1)
    wanted = ref.reference_loss(peers.standardized(x), reference(peers.standardized(x)), beta=1.0, config=TINY)
    wanted.backward()
    gradients = _same_weights(model, reference)
    torch.manual_seed(1)
    got = model.pretrain_terms(x, present, present, progress=1.0)["loss"]
    got.backward()
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    ours = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(ours) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_paper_peer_has_the_published_size_and_its_presets_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        peer = peers.paper_peer("meta", fused=False)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in peer.model.named_children()}
    assert count["encoders"] + count["decoder"] == 256_150_577
    assert sum(p.numel() for group in peer.optimizer.param_groups for p in group["params"]) == sum(count.values())
    assert peer.optimizer.defaults["fused"] is True
    assert peer.clip_norm == 1.0


def test_base_is_the_default_model_with_its_pre_training_objective() -> None:
    torch.manual_seed(0)
    peer = peers.base_peer("cpu", fused=False)
    peer.loss(peer.prepare(peers.recordings(2))).backward()
    missing = {name.split(".")[0] for name, p in peer.model.named_parameters() if p.grad is None}
    assert missing <= {"head", "measure"}


@no_gpu
@pytest.mark.usefixtures("tiny")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, "reference")["gpu"] == "no GPU here: not run"
    assert throughput.main(["--device", "cuda"]) == 1
    assert "no GPU here: not run" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nonsense", "reference:fast"])
def test_unknown_candidates_are_refused(name: str) -> None:
    with pytest.raises(SystemExit, match="expected"):
        throughput.build(name, peers.recordings(1), device="cpu")


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    model = nn.Linear(1, 1)
    peer = peers.Peer(model, torch.optim.SGD(model.parameters()), lambda x: model(x).sum() / 0, lambda x: x, 1.0)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with pytest.raises(SystemExit, match="finite"):
        throughput.train_step(throughput.Candidate("x", peer, torch.ones(1, 1), None, scaler, 0.0), "cpu")


def test_tiny_sizes_differ_only_in_size() -> None:
    assert replace(TINY, n_samples=5000, channels=(16, 32, 64), latent=256) == ref.ReferenceConfig()
