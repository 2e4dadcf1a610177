"""The outside world: DICOM files."""
