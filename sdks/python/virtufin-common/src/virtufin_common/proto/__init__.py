"""Generated from the contracts; see sdks/generate.py."""
