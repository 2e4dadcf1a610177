"""Damaged DICOM files by seed, and what the daemon makes of them; see `python -m tests.instruments.faults.damaged --help`."""
