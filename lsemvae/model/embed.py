"""Embed recordings as the mean of a model's summary posterior: the few numbers that its answers are computed from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from lsemvae.ecg.errors import LeadError
from lsemvae.ecg.leads import canonical_leads
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.student import StudentNet


@torch.no_grad()
def embed(model: LsEmvae | StudentNet, ecg_mv: npt.ArrayLike, *, leads: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the embedding of recordings: the mean of their summary posterior.

    Parameters
    ----------
    model
        An LS-EMVAE, which reads whatever leads there are, or a student, which needs its own (I and II). Embeddings of
        two models are not comparable: each finds its own axes.
    ecg_mv
        `[batch, lead, time]` in mV: output of the front-end (250 Hz, 10 s, 2,500 samples).
    leads
        Names of the rows of `ecg_mv`, any order.

    Returns
    -------
    ndarray
        float32 `[batch, summary]`, without unit.

    Raises
    ------
    LeadError
        If a name is unknown, doubled or missing, or if rows and names are not equally many.
    """
    x, names = torch.as_tensor(np.asarray(ecg_mv, np.float32)), canonical_leads(leads)
    if x.dim() != 3 or x.shape[1] != len(names):
        raise LeadError(f"found an array of shape {tuple(x.shape)}, expected [batch, {len(names)}, time] for {names}")
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        if isinstance(model, LsEmvae):
            places = [model.config.leads.index(name) for name in names]
            full = x.new_zeros(len(x), len(model.config.leads), x.shape[-1])
            present = torch.zeros(full.shape[:2], dtype=torch.bool)
            full[:, places], present[:, places] = x, True
            mean = model.screen(full.to(device), present.to(device)).summary_mean
        else:
            if lost := [lead for lead in model.config.leads if lead not in names]:
                raise LeadError(f"found the leads {', '.join(names)}, expected also {', '.join(lost)} for this student")
            mean, _ = model.encoder(x[:, [names.index(lead) for lead in model.config.leads]].to(device))
    finally:
        model.train(training)
    return np.asarray(mean.cpu().numpy(), np.float32)
