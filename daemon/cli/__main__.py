"""`python -m daemon.cli`: the same as the command `sdd-dicom`."""

from daemon.cli.app import main

main()
