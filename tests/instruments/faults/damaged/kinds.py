"""Every kind of damage: (chance, a good file) → the bytes of a bad one. The same chance gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping

from tests.instruments.faults.damaged import claims, raw
from tests.instruments.faults.damaged.raw import Damage, Good

__all__ = ["KINDS", "Damage", "Good"]

KINDS: Mapping[str, Damage] = {
    "bits in the header": raw.bits_in_the_header,
    "bits anywhere": raw.bits_anywhere,
    "cut": raw.cut,
    "spliced": raw.spliced,
    "other beginning": raw.other_beginning,
    "bytes swapped": raw.swapped,
    "forged lengths": raw.forged_lengths,
    "nested sequences": raw.nested,
    "private sequences": raw.private_sequences,
    "forged image": claims.forged_image,
    "forged geometry": claims.forged_geometry,
    "forged text": claims.forged_text,
    "wrong syntax": claims.wrong_syntax,
    "deflate bombs": claims.bombs,
    "fragments": claims.fragments,
}
"""Each comes equally often, but bombs a tenth as often: they take time to make."""
