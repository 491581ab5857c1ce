"""A value of one of six types: None, bool, int of 32 bits, str, dict, list."""

from __future__ import annotations

from typing import Any, Union

import flatbuffers

from .flatbuffers import variant_generated as fb

Variant = Union[None, bool, int, str, dict[str, "Variant"], list["Variant"]]

MAX_NESTING = 64
"""How deep variants may stand in one another."""


def encode_variant(value: Variant) -> bytes:
    """The binary form; keys are written in order.

    Raises TypeError for a value of another type, OverflowError for an int that does not fit, ValueError for one that is
    too deep.
    """
    builder = flatbuffers.Builder()
    builder.Finish(_build(builder, value, MAX_NESTING))
    return bytes(builder.Output())


def decode_variant(data: bytes) -> Variant:
    """Reads the binary form. The library does not verify buffers: data has to come from someone who is trusted.

    Raises ValueError for data that is no variant.
    """
    try:
        return _read(fb.Variant.GetRootAs(data), MAX_NESTING)
    except (TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"not a variant: {error}") from error
    except Exception as error:
        # The library raises struct.error where data ends early.
        if type(error).__module__ == "struct":
            raise ValueError(f"not a variant: {error}") from error
        raise


def _build(builder: flatbuffers.Builder, value: Variant, nesting: int) -> int:
    if nesting == 0:
        raise ValueError(f"variants stand in one another more than {MAX_NESTING} deep")
    if value is None:
        fb.NoneValueStart(builder)
        kind, union, table = fb.VariantType.None_, fb.VariantValue.NoneValue, fb.NoneValueEnd(builder)
    elif isinstance(value, bool):
        fb.BoolValueStart(builder)
        fb.BoolValueAddValue(builder, value)
        kind, union, table = fb.VariantType.Bool, fb.VariantValue.BoolValue, fb.BoolValueEnd(builder)
    elif isinstance(value, int):
        if not -(2**31) <= value < 2**31:
            raise OverflowError(f"{value} does not fit into 32 bits")
        fb.Int32ValueStart(builder)
        fb.Int32ValueAddValue(builder, value)
        kind, union, table = fb.VariantType.Int32, fb.VariantValue.Int32Value, fb.Int32ValueEnd(builder)
    elif isinstance(value, str):
        text = builder.CreateString(value)
        fb.StringValueStart(builder)
        fb.StringValueAddValue(builder, text)
        kind, union, table = fb.VariantType.String, fb.VariantValue.StringValue, fb.StringValueEnd(builder)
    elif isinstance(value, dict):
        pairs = []
        for key in sorted(value):
            inner = _build(builder, value[key], nesting - 1)
            name = builder.CreateString(key)
            fb.KeyValuePairStart(builder)
            fb.KeyValuePairAddKey(builder, name)
            fb.KeyValuePairAddValue(builder, inner)
            pairs.append(fb.KeyValuePairEnd(builder))
        entries = _vector(builder, pairs)
        fb.DictionaryValueStart(builder)
        fb.DictionaryValueAddEntries(builder, entries)
        kind, union = fb.VariantType.Dictionary, fb.VariantValue.DictionaryValue
        table = fb.DictionaryValueEnd(builder)
    elif isinstance(value, list):
        elements = _vector(builder, [_build(builder, inner, nesting - 1) for inner in value])
        fb.ArrayValueStart(builder)
        fb.ArrayValueAddElements(builder, elements)
        kind, union, table = fb.VariantType.Array, fb.VariantValue.ArrayValue, fb.ArrayValueEnd(builder)
    else:
        raise TypeError(f"{type(value).__name__} is no type of a variant")
    fb.VariantStart(builder)
    fb.VariantAddType(builder, kind)
    fb.VariantAddValueType(builder, union)
    fb.VariantAddValue(builder, table)
    return fb.VariantEnd(builder)


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _read(table: Any, nesting: int) -> Variant:
    if nesting == 0:
        raise ValueError(f"variants stand in one another more than {MAX_NESTING} deep")
    kind = table.Type()
    # A value's number is one higher than its type's.
    if table.ValueType() != kind + 1 or not 0 <= kind <= 5:
        raise ValueError(f"the type is {kind}, the value is not")
    inner = (fb.NoneValue, fb.BoolValue, fb.Int32Value, fb.StringValue, fb.DictionaryValue, fb.ArrayValue)[kind]()
    union = table.Value()
    inner.Init(union.Bytes, union.Pos)
    if kind == fb.VariantType.None_:
        return None
    if kind == fb.VariantType.String:
        return inner.Value().decode()
    if kind == fb.VariantType.Dictionary:
        pairs = [inner.Entries(index) for index in range(inner.EntriesLength())]
        return {pair.Key().decode(): _read(pair.Value(), nesting - 1) for pair in pairs}
    if kind == fb.VariantType.Array:
        return [_read(inner.Elements(index), nesting - 1) for index in range(inner.ElementsLength())]
    return inner.Value()
