// The platform's data types (requirement J5.1): bytes of every language are read the same.
// `VIRTUFIN_BLESS=1` writes this language's bytes anew.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { describe, it } from "node:test";
import { Builder, ByteBuffer } from "flatbuffers";
import { decodeVariant, encodeVariant, MAX_NESTING, type Variant, type VariantInput } from "virtufin-core";
import { CloudEvent, Extension, WorkerResponse } from "virtufin-core/flatbuffers/virtufin/worker/flat-buffers.js";

const DATA = new URL("../../../../platform/core/tests/data/", import.meta.url);
const ATTRIBUTES = ["id", "source", "type", "specversion", "datacontenttype", "dataschema", "subject", "time"] as const;
const EXTENSIONS = ["correlationid", "clocktype", "scenarioid"] as const;

type Event = Record<(typeof ATTRIBUTES)[number] | (typeof EXTENSIONS)[number], string> & { data: unknown };

const file = (name: string) => new Uint8Array(readFileSync(new URL(name, DATA)));
const json = (name: string): unknown => JSON.parse(new TextDecoder().decode(file(name)));

/** Maps as objects. */
function plain(value: Variant): unknown {
  if (value instanceof Map) {
    return Object.fromEntries([...value].map(([key, inner]) => [key, plain(inner)]));
  }
  return Array.isArray(value) ? value.map(plain) : value;
}

function encodeResponse(event: Event, error: string): Uint8Array {
  const builder = new Builder();
  const extensions = EXTENSIONS.map((name) =>
    Extension.createExtension(builder, builder.createString(name), builder.createString(event[name])),
  );
  const vector = CloudEvent.createExtensionsVector(builder, extensions);
  const data = CloudEvent.createDataVector(builder, new TextEncoder().encode(JSON.stringify(event.data)));
  const [id, source, type, specversion, datacontenttype, dataschema, subject, time] = ATTRIBUTES.map((name) =>
    builder.createString(event[name]),
  ) as [number, number, number, number, number, number, number, number];
  CloudEvent.startCloudEvent(builder);
  CloudEvent.addId(builder, id);
  CloudEvent.addSource(builder, source);
  CloudEvent.addType(builder, type);
  CloudEvent.addSpecversion(builder, specversion);
  CloudEvent.addDatacontenttype(builder, datacontenttype);
  CloudEvent.addDataschema(builder, dataschema);
  CloudEvent.addSubject(builder, subject);
  CloudEvent.addTime(builder, time);
  CloudEvent.addData(builder, data);
  CloudEvent.addExtensions(builder, vector);
  const table = CloudEvent.endCloudEvent(builder);
  const message = builder.createString(error);
  WorkerResponse.startWorkerResponse(builder);
  WorkerResponse.addResultEvent(builder, table);
  WorkerResponse.addErrorMessage(builder, message);
  builder.finish(WorkerResponse.endWorkerResponse(builder));
  return builder.asUint8Array().slice();
}

function decodeResponse(bytes: Uint8Array): [Record<string, unknown>, string | null] {
  const response = WorkerResponse.getRootAsWorkerResponse(new ByteBuffer(bytes));
  const event = response.resultEvent() ?? assert.fail();
  const read: Record<string, unknown> = {};
  for (const name of ATTRIBUTES) {
    read[name] = event[name]();
  }
  read["data"] = JSON.parse(new TextDecoder().decode(event.dataArray() ?? undefined));
  assert.equal(event.extensions(0)?.name(), "correlationid");
  for (let index = 0; index < event.extensionsLength(); index++) {
    read[event.extensions(index)?.name() ?? ""] = event.extensions(index)?.value();
  }
  return [read, response.errorMessage()];
}

/** This language's checked-in bytes are what it writes. */
function golden(name: string, written: Uint8Array): void {
  const path = `${name}.typescript.bin`;
  if (process.env["VIRTUFIN_BLESS"]) {
    writeFileSync(new URL(path, DATA), written);
  }
  assert.deepEqual(file(path), written);
}

describe("core", () => {
  // X11
  it("reads bytes of every language the same", () => {
    for (const language of ["rust", "python", "typescript"]) {
      assert.deepEqual(plain(decodeVariant(file(`variant.${language}.bin`))), json("variant.json"), language);
      assert.deepEqual(decodeResponse(file(`event.${language}.bin`)), [json("event.json"), "late"], language);
    }
  });

  // X12
  it("writes what the others read", () => {
    golden("variant", encodeVariant(json("variant.json") as VariantInput));
    golden("event", encodeResponse(json("event.json") as Event, "late"));
  });

  it("refuses what is no variant", () => {
    for (const number of [2 ** 31, -(2 ** 31) - 1, 1.5, Number.NaN]) {
      assert.throws(() => encodeVariant(number), RangeError);
    }
    let deep: VariantInput = 1;
    for (let level = 1; level < MAX_NESTING; level++) {
      deep = [deep];
    }
    assert.deepEqual(decodeVariant(encodeVariant(deep)), deep);
    assert.throws(() => encodeVariant([deep]), RangeError);
  });
});
