"""What Drive shows becomes rows of the ledger: the feed of changes, and listings."""
