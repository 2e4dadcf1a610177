"""The embedded Drive: a directory served through the Drive v3 REST API on loopback."""
