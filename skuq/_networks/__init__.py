"""Build, inspect and call a user's module, and replace some of its layers."""
