"""Requests and answers, as Drive v3 spells them."""
