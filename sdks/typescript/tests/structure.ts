// What generated code says of the contract, in the words of sdks/structure.json.
import { readFileSync } from "node:fs";
import type { DescEnum, DescField, DescMessage, DescService } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";

interface Structure {
  services: Record<string, { name: string; input: string; output: string; stream: boolean }[]>;
  messages: Record<string, { name: string; number: number; type: string }[]>;
  enums: Record<string, Record<string, number>>;
}

/** From `build/tests`, where this runs. */
export const structure = JSON.parse(
  readFileSync(new URL("../../../structure.json", import.meta.url), "utf8"),
) as Structure;

function scalar(type: ScalarType): string {
  return (ScalarType[type] as string).toLowerCase();
}

function kind(field: DescField): string {
  switch (field.fieldKind) {
    case "scalar":
      return scalar(field.scalar);
    case "message":
      return field.message.typeName;
    case "enum":
      return field.enum.typeName;
    case "map":
      return `map<${scalar(field.mapKey)}, ${field.mapKind === "scalar" ? scalar(field.scalar) : field.mapKind}>`;
    case "list":
      switch (field.listKind) {
        case "scalar":
          return `repeated ${scalar(field.scalar)}`;
        case "message":
          return `repeated ${field.message.typeName}`;
        case "enum":
          return `repeated ${field.enum.typeName}`;
      }
  }
}

export function fields(message: DescMessage) {
  return message.fields.map((field) => ({ name: field.name, number: field.number, type: kind(field) }));
}

export function values(type: DescEnum) {
  return Object.fromEntries(type.values.map((value) => [value.name, value.number]));
}

export function methods(service: DescService) {
  return service.methods.map((method) => ({
    name: method.name,
    input: method.input.typeName,
    output: method.output.typeName,
    stream: method.methodKind === "server_streaming",
  }));
}

/** The client's name of a method. */
export function camel(name: string): string {
  return name.charAt(0).toLowerCase() + name.slice(1);
}
