"""Multimodal CNN: an encoder for each lead, features side by side, no latent variable (late fusion; Ngiam 2011, ICML).

The same encoders as LS-EMVAE, so that the difference between the two is the variational part: prior, fusion, decoder and
pre-training. What the encoders have for a log-variance is not read and not trained.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from lsemvae.ecg.leads import LEADS
from lsemvae.model.baselines.norm import conv_renorm
from lsemvae.model.baselines.screen import only_present
from lsemvae.model.baselines.supervised import SupervisedScreen
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.encoder import LeadEncoders


class MultimodalCnn(SupervisedScreen):
    """Twelve maps of `latent` channels, concatenated; absent leads are zeros there too. Trunk as in the screening head."""

    def __init__(
        self, labels: tuple[str, ...], measures: tuple[str, ...] = (), *, config: LsEmvaeConfig | None = None
    ) -> None:
        config = config or LsEmvaeConfig()
        t1, t2 = config.trunk
        super().__init__(labels, measures, t2)
        self.encoders = LeadEncoders(len(LEADS), config.channels, config.latent, config.logvar_bound)
        # The width of the concatenation changes with the lead set, hence renormalization.
        self.trunk = nn.Sequential(
            conv_renorm(len(LEADS) * config.latent, t1, 7, 2), conv_renorm(t1, t2, 5, 2), conv_renorm(t2, t2, 5)
        )

    def features(self, x: Tensor, present: Tensor) -> Tensor:
        """Return the trunk's map; a silent encoder still has biases, so its map is zeroed where the lead is absent."""
        mean, _ = self.encoders(x, present.any(0))
        return self.trunk(only_present(mean, present).flatten(1, 2))

    def finetune_parameters(self) -> Iterator[nn.Parameter]:
        """Return all parameters but the log-variances of the encoders."""
        return (p for name, p in self.named_parameters() if ".logvar." not in name)
