"""HTTP over a Unix socket: what the commands ask the running service, and what it answers.

`messages` is shared by both sides; `client` is the commands' side and light to import, `server` the service's.
"""
