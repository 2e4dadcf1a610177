"""sdd-dicom: DICOM exams in a Google Drive folder come back as NIfTI volumes, complete and exactly once."""

__version__ = "0.2.0"
