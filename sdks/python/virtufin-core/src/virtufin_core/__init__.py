"""The platform's data types (requirements J2, J5)."""

from .variant import MAX_NESTING, Variant, decode_variant, encode_variant

__all__ = ["MAX_NESTING", "Variant", "decode_variant", "encode_variant"]
