"""Nothing lost, nothing twice, nothing half: faults and kills by seed; see `python -m tests.instruments.faults --help`."""
