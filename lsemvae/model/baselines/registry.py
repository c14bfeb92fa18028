"""The baselines of the evidence table by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from torch import nn

from lsemvae.ecg.errors import FormatError
from lsemvae.model.baselines.beta_vae import BetaVae
from lsemvae.model.baselines.mmvae_plus import MmvaePlus
from lsemvae.model.baselines.mopoe import Mopoe
from lsemvae.model.baselines.multimodal_cnn import MultimodalCnn
from lsemvae.model.baselines.mvae import Mvae
from lsemvae.model.baselines.resnet1d import ResNet1d
from lsemvae.model.baselines.transformer import EcgTransformer
from lsemvae.model.baselines.xresnet1d import XResNet1d
from lsemvae.model.config import LsEmvaeConfig

# Each is called with the labels and the measures; `config` sizes it (`build_baseline`).
BASELINES: Final[Mapping[str, Callable[..., nn.Module]]] = MappingProxyType(
    {
        "resnet1d": ResNet1d,
        "xresnet1d": XResNet1d,
        "transformer": EcgTransformer,
        "multimodal_cnn": MultimodalCnn,
        "beta_vae": BetaVae,
        "mvae": Mvae,
        "mopoe": Mopoe,
        "mmvae_plus": MmvaePlus,
    }
)


def build_baseline(
    name: str, labels: tuple[str, ...], measures: tuple[str, ...] = (), *, config: LsEmvaeConfig | None = None
) -> nn.Module:
    """Return a baseline with fresh weights; it answers the calls of `TrainableScreen`.

    `config` is that of the LS-EMVAE it is compared with. Those that share its parts take their sizes from it, the others scale
    their widths as it does; the KL of the variational ones rises as its own does.
    """
    if name not in BASELINES:
        raise FormatError(
            f"found baseline {name!r}, expected one of {', '.join(BASELINES)}", advice="Choose one of these names."
        )
    return BASELINES[name](tuple(labels), tuple(measures), config=config)
