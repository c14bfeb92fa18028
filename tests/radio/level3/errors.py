"""What can be wrong before or while an emulated machine runs."""

from __future__ import annotations

from lsemvae.ecg.errors import LinkError


class MachineError(LinkError):
    """The emulated machine could not be made, did not start or did not end."""
