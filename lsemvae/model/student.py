"""The edge student: two measured channels in, logits and an uncertainty out. `encoder` runs in INT8, `head` in float.

It reads I and II because the other four limb leads are sums of these two. Early mixing of the two channels keeps what
separate encoders lose: the angle between them, which is the QRS axis.
"""

from __future__ import annotations

from torch import Tensor, nn

from lsemvae.model.config import StudentConfig
from lsemvae.model.encoder import conv_block
from lsemvae.model.heads import MeasureHead, ReadOut, SummaryPosterior


class StudentEncoder(nn.Module):
    """`[batch, lead, time]` mV -> summary mean and log-variance `[batch, summary]`."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        widths = (len(config.leads), *config.channels)
        self.body = nn.Sequential(
            *(
                conv_block(widths[k], widths[k + 1], kernel, stride)
                for k, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True))
            )
        )
        self.summary = SummaryPosterior(config.channels[-1], config.summary, config.logvar_bound)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Global average over time, then the two linear layers of the summary posterior."""
        return self.summary(self.body(x).mean(-1))


class StudentNet(nn.Module):
    """The distilled screen."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = StudentEncoder(config)
        self.head = ReadOut(config.summary, len(config.labels))
        # Only trained with: an exported graph holds encoder and head.
        self.measure = MeasureHead(config.summary, len(config.measures)) if config.measures else None

    def forward(self, ecg: Tensor) -> tuple[Tensor, Tensor]:
        """`ecg` `[batch, 2, 2500]` mV (I, II) -> logits `[batch, label]`, uncertainty `[batch, 1]`."""
        mean, logvar = self.encoder(ecg)
        return self.head(mean, logvar)
