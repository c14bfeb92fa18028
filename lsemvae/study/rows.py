"""Rows of the evidence table, as data: model, change and group of each; one training budget for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lsemvae.ecg.errors import FormatError
from lsemvae.model.config import TrainConfig
from lsemvae.model.presets import SMALL

PRETRAIN_BUDGET: Final = TrainConfig(epochs=2, batch=16, lr=2e-3)
# Fixed before any row was run, so that all of them fit into hours on two cores. Training takes the recordings with
# twelve leads.
#
# A row without pre-training fine-tunes for the epochs of both, so each row sees every recording equally often. No row
# has its own learning rate: nothing was tuned for any of them.
FINETUNE_BUDGET: Final = TrainConfig(epochs=5, batch=32, lr=1.5e-3, weight_decay=1e-2)

# The dial of `base` for the rows of this table: half of all widths. The full size, with its own longer budget, is a
# group of its own.
SIZE: Final = SMALL

PAPER_SIZE: Final = 0.125
REFERENCE_ROW: Final = "ls_emvae"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `kind` is `floor`, `baseline`, `lsemvae` or `recorded`; `model` and `train` change fields of the configurations."""

    name: str
    group: str
    title: str
    kind: str
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    size: float = SIZE
    preset: str = "base"
    pretrains: bool = True


def _ablation(name: str, title: str, **model: Any) -> Row:
    return Row(name, "ablation", title, "lsemvae", model=model)


BASELINE_ROWS: Final = (
    Row("floor", "baseline", "Logistic regression on hand features, age and sex", "floor"),
    Row("resnet1d", "baseline", "ResNet1d (Wang 2017)", "baseline"),
    Row("xresnet1d", "baseline", "XResNet1d (He 2019; Strodthoff 2021)", "baseline"),
    Row("transformer", "baseline", "Transformer on patches of 100 ms", "baseline"),
    Row("multimodal_cnn", "baseline", "Multimodal CNN: lead encoders, concatenated", "baseline"),
    Row("beta_vae", "baseline", "beta-VAE (Higgins 2017), one encoder for twelve leads", "baseline"),
    Row("mvae", "baseline", "MVAE (Wu and Goodman 2018)", "baseline"),
    Row("mopoe", "baseline", "MoPoE (Sutter 2021), family of 17 subsets", "baseline"),
    Row("mmvae_plus", "baseline", "MMVAE+ (Palumbo 2023)", "baseline"),
)

ABLATION_ROWS: Final = (
    Row(REFERENCE_ROW, "ours", "LS-EMVAE `base` at half size", "lsemvae"),
    # Defects of the reference implementation, one at a time: what each costs.
    _ablation("defect_lead_blind_decoder", "Decoder that cannot tell leads apart", lead_blind_decoder=True),
    _ablation("defect_dropped_prior", "Prior dropped from the products", prior=False),
    _ablation("defect_unsampled_kl", "KL of a distribution that is never sampled", kl_of_unsampled_mean=True),
    Row(
        "defect_lost_gradients",
        "ablation",
        "Every second gradient thrown away",
        "lsemvae",
        train={"lost_gradients": True},
    ),
    _ablation("defect_zscore", "z-score per lead and recording: no amplitude", per_lead_zscore=True),
    _ablation(
        "defect_positional_groups", "Groups by position: aVL, aVF ignored with six leads", positional_groups=True
    ),
    _ablation("defect_crossed_leads", "aVL and aVF crossed between the stages", crossed_avl_avf=True),
    # Fusion.
    _ablation("fusion_poe", "One product over all leads", hierarchy="poe"),
    _ablation("fusion_moe", "Mixture over leads, no products", hierarchy="moe", group_weights="uniform"),
    _ablation("fusion_uniform", "Uniform weights of the groups", group_weights="uniform"),
    _ablation("fusion_stratified", "Mixture by stratified sampling", mixture="stratified", group_weights="uniform"),
    _ablation(
        "fusion_parameter_average",
        "Average of parameters instead of a mixture",
        mixture="parameter_average",
        group_weights="uniform",
    ),
    _ablation("limb_six_experts", "Six limb leads count as six", limb_rank=6),
    _ablation("limb_two_experts", "Only I and II are limb experts", limb_experts="measured"),
    # Objective.
    _ablation("no_alignment", "No alignment", alignment=0.0),
    _ablation("latent_matching", "Posterior matching also in pre-training", latent_matching=0.1),
    _ablation("absolute_noise", "Likelihood in millivolts, not relative to each lead", noise="absolute"),
    _ablation("no_matching", "No posterior matching in fine-tuning", matching=0.0),
    _ablation("no_measures", "No measurements beside the labels", measures=()),
    Row("no_subsets", "ablation", "Always all leads in training", "lsemvae", train={"subsets": "all_leads"}),
    # The published architecture, shrunk so that two cores can train it, in this table's loop and schedule.
    Row("paper_eighth", "paper", "`paper` at an eighth of its widths", "lsemvae", size=PAPER_SIZE, preset="paper"),
    Row(
        "paper_eighth_reference",
        "paper",
        "The same with every defect of the reference",
        "lsemvae",
        model={"prior": False, "kl_of_unsampled_mean": True, "positional_groups": True, "crossed_avl_avf": True},
        train={"lost_gradients": True},
        size=PAPER_SIZE,
        preset="paper",
    ),
    Row("no_pretraining", "ablation", "Fine-tuning alone, for the epochs of both", "lsemvae", pretrains=False),
)

ROWS: Final[tuple[Row, ...]] = (*BASELINE_ROWS, *ABLATION_ROWS)

# Rows that the evidence protocol asks for and that two cores cannot train: printed as not run until someone records
# them.
NEEDS_A_GPU: Final = (
    {"name": "paper_full", "group": "paper", "title": "`paper` at its published widths (256 M parameters, 100 epochs)"},
)


def expected() -> list[dict[str, str]]:
    """Return every row that the table should hold, for the report: one that is not recorded is printed as not run."""
    return [{"name": row.name, "group": row.group, "title": row.title} for row in ROWS] + list(NEEDS_A_GPU)


def chosen_rows(names: Sequence[str] | None) -> tuple[Row, ...]:
    """Return the rows of these names in the table's order, or all; FormatError for a name that no row has."""
    known = {row.name: row for row in ROWS}
    if names is None:
        return ROWS
    if unknown := sorted(set(names) - set(known)):
        raise FormatError(f"found rows {', '.join(unknown)}, expected some of {', '.join(known)}")
    return tuple(row for row in ROWS if row.name in names)
