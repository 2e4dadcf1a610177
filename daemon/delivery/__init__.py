"""From results in the spool to a complete delivery on Drive: names, reserved ids, staging, verification, publication."""

from __future__ import annotations

from daemon.delivery.deliver import deliver
from daemon.delivery.held import held_rows, update_held
from daemon.delivery.litter import sweep_litter
from daemon.delivery.reserve import reserve

__all__ = ["deliver", "held_rows", "reserve", "sweep_litter", "update_held"]
