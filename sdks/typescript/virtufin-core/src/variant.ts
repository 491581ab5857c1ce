// A value of one of six types: null, boolean, integer of 32 bits, string, dictionary, array.
import { Builder, ByteBuffer, type Offset } from "flatbuffers";
import {
  ArrayValue,
  BoolValue,
  DictionaryValue,
  Int32Value,
  KeyValuePair,
  NoneValue,
  StringValue,
  Variant as Table,
  VariantType,
  VariantValue,
} from "./flatbuffers/virtufin/core/flat-buffers.js";

/** A value that was read; dictionaries are maps, in the order of their keys. */
export type Variant = null | boolean | number | string | Variant[] | Map<string, Variant>;
/** A value to be written; a plain object will do for a dictionary. */
export type VariantInput =
  | null
  | boolean
  | number
  | string
  | readonly VariantInput[]
  | ReadonlyMap<string, VariantInput>
  | { readonly [key: string]: VariantInput };

/** How deep variants may stand in one another. */
export const MAX_NESTING = 64;

/** The binary form. Throws RangeError for a number that is no integer of 32 bits, and for a value that is too deep. */
export function encodeVariant(value: VariantInput): Uint8Array {
  const builder = new Builder();
  builder.finish(build(builder, value, MAX_NESTING));
  return builder.asUint8Array().slice();
}

/** Reads the binary form. The library does not verify buffers: data has to come from someone who is trusted. */
export function decodeVariant(data: Uint8Array): Variant {
  return read(Table.getRootAsVariant(new ByteBuffer(data)), MAX_NESTING);
}

const utf8 = new TextEncoder();

/** The order of UTF-8, as everywhere else; that of JavaScript's strings is another one. */
function compare([left]: readonly [string, unknown], [right]: readonly [string, unknown]): number {
  const [a, b] = [utf8.encode(left), utf8.encode(right)];
  for (let index = 0; index < Math.min(a.length, b.length); index++) {
    const difference = (a[index] as number) - (b[index] as number);
    if (difference !== 0) {
      return difference;
    }
  }
  return a.length - b.length;
}

function build(builder: Builder, value: VariantInput, nesting: number): Offset {
  if (nesting === 0) {
    throw new RangeError(`variants stand in one another more than ${MAX_NESTING} deep`);
  }
  const [type, table] = union(builder, value, nesting - 1);
  return Table.createVariant(builder, type, (type as number) + 1, table);
}

function union(builder: Builder, value: VariantInput, nesting: number): [VariantType, Offset] {
  if (value === null) {
    return [VariantType.None, NoneValue.createNoneValue(builder)];
  }
  if (typeof value === "boolean") {
    return [VariantType.Bool, BoolValue.createBoolValue(builder, value)];
  }
  if (typeof value === "number") {
    if ((value | 0) !== value) {
      throw new RangeError(`${value} is no integer of 32 bits`);
    }
    return [VariantType.Int32, Int32Value.createInt32Value(builder, value)];
  }
  if (typeof value === "string") {
    return [VariantType.String, StringValue.createStringValue(builder, builder.createString(value))];
  }
  if (Array.isArray(value)) {
    const elements = (value as readonly VariantInput[]).map((inner) => build(builder, inner, nesting));
    return [VariantType.Array, ArrayValue.createArrayValue(builder, ArrayValue.createElementsVector(builder, elements))];
  }
  const entries: [string, VariantInput][] = value instanceof Map ? [...value] : Object.entries(value);
  const pairs = entries.sort(compare).map(([key, entry]) => {
    const inner = build(builder, entry, nesting);
    const name = builder.createString(key);
    KeyValuePair.startKeyValuePair(builder);
    KeyValuePair.addKey(builder, name);
    KeyValuePair.addValue(builder, inner);
    return KeyValuePair.endKeyValuePair(builder);
  });
  const vector = DictionaryValue.createEntriesVector(builder, pairs);
  return [VariantType.Dictionary, DictionaryValue.createDictionaryValue(builder, vector)];
}

function read(table: Table | null, nesting: number): Variant {
  if (table === null) {
    throw new TypeError("a variant is missing");
  }
  if (nesting === 0) {
    throw new RangeError(`variants stand in one another more than ${MAX_NESTING} deep`);
  }
  const type = table.type();
  // A value's number is one higher than its type's.
  if ((table.valueType() as number) !== type + 1) {
    throw new TypeError(`the type is ${type}, the value is not`);
  }
  switch (table.valueType()) {
    case VariantValue.NoneValue:
      return null;
    case VariantValue.BoolValue:
      return (table.value(new BoolValue()) as BoolValue).value();
    case VariantValue.Int32Value:
      return (table.value(new Int32Value()) as Int32Value).value();
    case VariantValue.StringValue:
      return (table.value(new StringValue()) as StringValue).value() ?? "";
    case VariantValue.DictionaryValue: {
      const dictionary = table.value(new DictionaryValue()) as DictionaryValue;
      const entries = new Map<string, Variant>();
      for (let index = 0; index < dictionary.entriesLength(); index++) {
        const pair = dictionary.entries(index);
        entries.set(pair?.key() ?? "", read(pair?.value() ?? null, nesting - 1));
      }
      return entries;
    }
    case VariantValue.ArrayValue: {
      const array = table.value(new ArrayValue()) as ArrayValue;
      return Array.from({ length: array.elementsLength() }, (_, index) => read(array.elements(index), nesting - 1));
    }
    default:
      throw new TypeError(`${type} is no type of a variant`);
  }
}
