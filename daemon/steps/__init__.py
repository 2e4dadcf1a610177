"""The flow, in the order a file walks it; `pipeline` is its table of contents."""
