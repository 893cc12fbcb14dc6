"""Helpers without any notion of uncertainty: seeds, devices, memory, progress, messages."""
