"""A ledger that may be older than the output is brought up to it before anything is delivered (DESIGN.md, 4.9)."""
