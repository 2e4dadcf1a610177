"""The world: Drive, disk, DICOM, converter, log. Neighbours here do not import each other."""
