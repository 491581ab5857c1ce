"""Generated from the schemas; see sdks/generate.py."""
