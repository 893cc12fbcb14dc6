"""Helpers that know nothing of uncertainty: seeds, devices, memory, progress, messages."""
