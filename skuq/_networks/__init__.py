"""Building, inspecting and calling a user's module, and replacements for some of its layers."""
