"""LS-EMVAE: the laboratory, and the floor (`lsemvae.ecg`) that laboratory and clinic share.

This module runs no code, so that `lsemvae.ecg` can be imported on a board without torch.
"""
