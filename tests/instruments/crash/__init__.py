"""Every point of a clean run is killed once; see `python -m tests.instruments.crash --help`."""
