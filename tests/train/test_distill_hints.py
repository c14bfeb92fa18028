"""Matching of feature maps: aligned in time, scaled, and at the right stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import StudentConfig
from lsemvae.model.student import StudentNet
from lsemvae.train.hints import MapScale, feature_loss, feature_stage, pooled_to


@pytest.mark.parametrize("steps", [157, 79, 40, 20])
def test_a_pooled_step_is_centred_where_the_convolution_is(steps: int) -> None:
    """On a ramp a centred average is the value at its centre: step j of the pooled map is step r * j of the teacher's."""
    ramp = torch.arange(157.0).view(1, 1, -1)
    ratio = -(-157 // steps)
    pooled = pooled_to(ramp, steps).flatten()
    np.testing.assert_allclose(pooled[1:-1], torch.arange(0.0, 157.0, ratio)[1 : steps - 1], atol=1e-4)


def test_an_event_of_the_student_and_of_the_teacher_fall_on_the_same_step() -> None:
    """An impulse at sample 16 k: the student's map peaks around step k of the teacher's 157, pooled or not."""
    net = StudentNet(StudentConfig()).eval()
    with torch.no_grad():
        for block in net.encoder.body:
            block[0].weight.fill_(1.0)  # plain smoothing: what comes out is where the input was
    x = torch.zeros(1, 2, 2500)
    x[..., 16 * 80] = 1.0
    teacher_map = torch.zeros(1, 1, 157)
    teacher_map[..., 80] = 1.0
    for stage, steps in ((2, 157), (3, 79), (4, 40)):
        seen = net.encoder.with_map(x, stage)[0].mean(1).flatten().detach()
        assert len(seen) == steps
        place = torch.arange(steps, dtype=torch.float32)
        centre = float((seen * place).sum() / seen.sum())
        target = pooled_to(teacher_map, steps).flatten()
        assert abs(centre - float((target * place).sum() / target.sum())) < 0.1


def test_lengths_without_a_whole_ratio_are_refused() -> None:
    with pytest.raises(FormatError, match="found a student map of 100 steps beside a teacher map of 157"):
        pooled_to(torch.zeros(1, 1, 157), 100)


def test_a_map_that_is_matched_costs_nothing() -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randn(3, 5, 40, generator=g)
    assert float(feature_loss(target, target, match="standardized")) == 0
    assert float(feature_loss(7 * target, target, match="cosine")) == pytest.approx(0, abs=1e-6)
    assert float(feature_loss(-target, target, match="cosine")) == pytest.approx(2, abs=1e-6)
    assert float(feature_loss(target + 1, target, match="standardized")) == pytest.approx(0.5, abs=1e-6)


def test_a_scaled_map_has_mean_zero_and_sd_one() -> None:
    latent = torch.randn(8, 3, 50) * torch.tensor([0.1, 1.0, 30.0]).view(1, 3, 1) + 5
    scale = MapScale(latent.mean((0, 2), keepdim=True), latent.std((0, 2), keepdim=True))
    scaled = scale(latent)
    np.testing.assert_allclose(scaled.mean((0, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std((0, 2)), 1, atol=1e-4)


def test_the_projection_reads_the_first_map_as_slow_as_the_teachers() -> None:
    assert feature_stage(StudentConfig()) == 2
    assert feature_stage(StudentConfig(channels=(8, 8), kernels=(15, 9), strides=(4, 4))) == 1
    with pytest.raises(FormatError, match="found a student whose steps are at most 8 samples long"):
        feature_stage(StudentConfig(channels=(8, 8), kernels=(15, 9), strides=(4, 2)))
