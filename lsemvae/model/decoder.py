"""One decoder that knows which lead it draws: a lead embedding scales and shifts every layer (FiLM, Perez 2018).

The reference decodes all leads with the same weights and no lead identity: its best possible R2 is about 0.2, because
aVR and V1 point the other way and cancel.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

# 0.04 mV: the likelihood starts sharper than the signal, or the decoder learns to draw nothing (posterior collapse).
INITIAL_LOG_SD: Final = -3.2
MIN_SD_MV: Final = 0.02  # below it the model would fit amplifier noise
TYPICAL_RMS_MV: Final = 0.15  # of a limb lead of PTB-XL after the front-end
MIN_RMS_MV: Final = 0.03  # a lead with less is flat


class FilmUp(nn.Module):
    """Transposed convolution that lengthens by `stride`, scaled and shifted by the lead embedding, ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int, embedding: int) -> None:
        super().__init__()
        # A kernel of twice the stride overlaps evenly, so no checkerboard (Odena 2016).
        self.conv = nn.ConvTranspose1d(c_in, c_out, 2 * stride, stride, stride // 2)
        self.film = nn.Linear(embedding, 2 * c_out)

    def forward(self, h: Tensor, lead: Tensor) -> Tensor:
        """Return `[batch, c_out, stride * time]` of `h` `[batch, channel, time]` and `lead` `[batch, embedding]`."""
        h = self.conv(h)
        scale, shift = self.film(lead).unsqueeze(-1).chunk(2, 1)
        return torch.relu(torch.addcmul(shift, h, 1 + scale))


class LeadDecoder(nn.Module):
    """`z` `[batch, latent, steps]` and lead indices -> reconstructions in mV and a learned sd per lead.

    `lead_blind` draws one waveform for all leads (`lsemvae.model.switches`), with the same weights.
    """

    def __init__(
        self, n_leads: int, latent: int, channels: tuple[int, int, int], n_samples: int, *, lead_blind: bool = False
    ) -> None:
        super().__init__()
        self.lead_blind = lead_blind
        embedding = 16
        c1, c2, c3 = channels
        self.leads = nn.Embedding(n_leads, embedding)
        self.mix = nn.Linear(embedding, latent * c3)
        self.shape = (c3, latent)
        self.smooth = nn.Conv1d(c3, c3, 5, padding=2)
        self.up = nn.ModuleList([FilmUp(c3, c2, 2, embedding), FilmUp(c2, c1, 2, embedding)])
        self.last = nn.ConvTranspose1d(c1, 1, 16, 4, 6)
        self.log_sd = nn.Parameter(torch.full((n_leads,), INITIAL_LOG_SD))
        self.n_samples = n_samples

    def forward(self, z: Tensor, leads: Tensor) -> Tensor:
        """Draw the leads whose indices are in `leads` `[lead]`: float `[batch, lead, time]` in mV."""
        if self.lead_blind:
            return self.draw(z, leads.new_zeros(1)).expand(-1, len(leads), -1)
        return self.draw(z, leads)

    def draw(self, z: Tensor, leads: Tensor) -> Tensor:
        """Draw each of `leads` through its own embedding: `[batch, lead, time]` in mV."""
        n, count = len(z), len(leads)
        lead = self.leads(leads)
        mix = self.mix(lead).view(count, *self.shape)  # each lead looks at the latent from its own angle
        h = torch.relu(self.smooth(torch.einsum("loi,bit->blot", mix, z).flatten(0, 1)))
        e = lead.repeat(n, 1)
        for block in self.up:
            h = block(h, e)
        return self.last(h)[..., : self.n_samples].reshape(n, count, -1)

    def sd(self) -> Tensor:
        """Return the sd per lead `[lead]` in mV, for a lead of `TYPICAL_RMS_MV`; floored at `MIN_SD_MV`."""
        return self.log_sd.exp().clamp(min=MIN_SD_MV)

    def sd_for(self, x: Tensor) -> Tensor:
        """Return the sd `[batch, lead, 1]` in mV for recordings `[batch, lead, time]`, in proportion to each lead's rms.

        A lead of small voltage (III, aVL) then counts as much as one of large voltage: what is explained is a share of its variance.
        """
        rms = x.square().mean(-1, keepdim=True).sqrt().clamp(min=MIN_RMS_MV)
        return self.sd().view(1, -1, 1) * rms / TYPICAL_RMS_MV
