"""Baselines of the evidence table: supervised networks and multimodal VAEs, trained in the loop, folds and budget of LS-EMVAE."""

from lsemvae.model.baselines.protocol import TrainableScreen
from lsemvae.model.baselines.registry import BASELINES, build_baseline

__all__ = ["BASELINES", "TrainableScreen", "build_baseline"]
