"""From results in the spool to a complete delivery on Drive: names, reserved ids, staging, verification, publication."""
