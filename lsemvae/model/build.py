"""From a configuration to a model with fresh weights, and from a run's `kind` to the configuration."""

from __future__ import annotations

from typing import Final

from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import LsEmvaeConfig
from lsemvae.model.lsemvae import LsEmvae
from lsemvae.model.paper import LsEmvaePaper
from lsemvae.model.paper_config import PaperConfig

ModelConfig = LsEmvaeConfig | PaperConfig
Model = LsEmvae | LsEmvaePaper
# What config.json of a run folder calls them.
KINDS: Final[dict[str, type[LsEmvaeConfig] | type[PaperConfig]]] = {"lsemvae": LsEmvaeConfig, "paper": PaperConfig}


def kind_of(config: ModelConfig) -> str:
    """Return the kind of a configuration: `lsemvae` or `paper`."""
    return next(name for name, kind in KINDS.items() if isinstance(config, kind))


def config_kind(name: object, *, of: str) -> type[LsEmvaeConfig] | type[PaperConfig]:
    """Return the configuration class of a run's kind; another kind is refused."""
    if name not in KINDS:
        raise FormatError(
            f"{of}: found a run of kind {name!r}, expected one of {', '.join(map(repr, KINDS))}",
            advice="Give the run folder of lsemvae pretrain or lsemvae finetune.",
        )
    return KINDS[str(name)]


def compile_parts(model: Model, *, backend: str = "inductor") -> None:
    """Compile encoders and decoder in place (torch.compile); names of weights stay as they are.

    What chooses between leads and groups stays as it is: it branches on which leads a batch has.
    """
    for encoder in model.encoders.per_lead:
        encoder.compile(backend=backend)
    model.decoder.compile(backend=backend)


def build_model(config: ModelConfig) -> Model:
    """Return a model with fresh weights."""
    return LsEmvaePaper(config) if isinstance(config, PaperConfig) else LsEmvae(config)
