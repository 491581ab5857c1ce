"""The platform's data types (requirement J5.1): bytes of every language are read the same.

`VIRTUFIN_BLESS=1` writes this language's bytes anew.
"""

import json
import os

import flatbuffers
import pytest
from conftest import SDKS
from virtufin_core import MAX_NESTING, decode_variant, encode_variant
from virtufin_core.flatbuffers import worker_generated as fb

DATA = SDKS.parent / "platform/core/tests/data"
LANGUAGES = ("rust", "python", "typescript")


def encode_response(event, error):
    builder = flatbuffers.Builder()
    extensions = []
    for name in ("correlationid", "clocktype", "scenarioid"):
        key, value = builder.CreateString(name), builder.CreateString(event[name])
        fb.ExtensionStart(builder)
        fb.ExtensionAddName(builder, key)
        fb.ExtensionAddValue(builder, value)
        extensions.append(fb.ExtensionEnd(builder))
    builder.StartVector(4, len(extensions), 4)
    for extension in reversed(extensions):
        builder.PrependUOffsetTRelative(extension)
    extensions = builder.EndVector()
    data = builder.CreateByteVector(json.dumps(event["data"]).encode())
    attributes = ("id", "source", "type", "specversion", "datacontenttype", "dataschema", "subject", "time")
    texts = {name: builder.CreateString(event[name]) for name in attributes}
    fb.CloudEventStart(builder)
    for name, text in texts.items():
        getattr(fb, f"CloudEventAdd{name.capitalize()}")(builder, text)
    fb.CloudEventAddData(builder, data)
    fb.CloudEventAddExtensions(builder, extensions)
    table = fb.CloudEventEnd(builder)
    message = builder.CreateString(error)
    fb.WorkerResponseStart(builder)
    fb.WorkerResponseAddResultEvent(builder, table)
    fb.WorkerResponseAddErrorMessage(builder, message)
    builder.Finish(fb.WorkerResponseEnd(builder))
    return bytes(builder.Output())


def decode_response(data):
    response = fb.WorkerResponse.GetRootAs(data)
    event = response.ResultEvent()
    read = {
        name: getattr(event, name.capitalize())().decode()
        for name in ("id", "source", "type", "specversion", "datacontenttype", "dataschema", "subject", "time")
    }
    read["data"] = json.loads(bytes(event.Data(index) for index in range(event.DataLength())))
    extensions = [event.Extensions(index) for index in range(event.ExtensionsLength())]
    assert extensions[0].Name() == b"correlationid"
    read |= {extension.Name().decode(): extension.Value().decode() for extension in extensions}
    return read, response.ErrorMessage().decode()


def golden(name, written):
    """This language's checked-in bytes are what it writes."""
    path = DATA / f"{name}.python.bin"
    if os.environ.get("VIRTUFIN_BLESS"):
        path.write_bytes(written)
    assert path.read_bytes() == written


# X11
@pytest.mark.parametrize("language", LANGUAGES)
def test_bytes_of_every_language_are_read_the_same(language):
    expected = json.loads((DATA / "variant.json").read_text())
    assert decode_variant((DATA / f"variant.{language}.bin").read_bytes()) == expected
    event = json.loads((DATA / "event.json").read_text())
    assert decode_response((DATA / f"event.{language}.bin").read_bytes()) == (event, "late")


# X12
def test_what_is_written_is_what_the_others_read():
    golden("variant", encode_variant(json.loads((DATA / "variant.json").read_text())))
    golden("event", encode_response(json.loads((DATA / "event.json").read_text()), "late"))


def test_what_is_no_variant_is_refused():
    for number in (2**31, -(2**31) - 1):
        with pytest.raises(OverflowError):
            encode_variant(number)
    with pytest.raises(TypeError):
        encode_variant(1.5)
    deep = 1
    for _ in range(MAX_NESTING - 1):
        deep = [deep]
    assert decode_variant(encode_variant(deep)) == deep
    with pytest.raises(ValueError, match="deep"):
        encode_variant([deep])
    for data in (b"", b"\x00", b"\xff" * 8):
        with pytest.raises(ValueError, match="not a variant"):
            decode_variant(data)
