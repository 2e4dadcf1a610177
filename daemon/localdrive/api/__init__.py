"""Requests and answers, as Drive v3 defines them."""
