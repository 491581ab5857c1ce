// What the clients share: errors, metadata, the structure of the contract.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import type { DescFile } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { API_VERSION, file_virtufin_common, isVirtufinError, ofName, StatusError } from "virtufin-common";
import { BadRequestSchema, ErrorInfoSchema } from "virtufin-common/proto/error_details_pb.js";
import {
  file_virtufin_config,
  file_virtufin_gateway,
  file_virtufin_pubsub,
  file_virtufin_state,
  GatewayClient,
} from "virtufin-gateway";
import { file_virtufin_websocketmanager, WebSocketManagerClient } from "virtufin-websocketmanager";
import { file_virtufin_workmanager, WorkManagerClient } from "virtufin-workmanager";
import { Server } from "./server.js";
import { fields, methods, structure, values } from "./structure.js";

const LIST = "virtufin.Gateway.ListServices";
const NAMES = [
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

describe("clients", () => {
  let server: Server;
  let client: GatewayClient;

  beforeEach(async () => {
    server = await Server.start();
    client = new GatewayClient({ host: "127.0.0.1", port: server.port });
  });

  afterEach(() => server.stop());

  // X1
  it("tell every status by a kind of its own", async () => {
    for (const [index, name] of NAMES.entries()) {
      const code = (index + 1) as Code;
      server.answers.set(LIST, new ConnectError("why", code));
      const error: unknown = await client.listServices().catch((error: unknown) => error);
      assert.ok(error instanceof StatusError);
      assert.equal(error.kind, name.toLowerCase().replaceAll("_", "-"));
      assert.equal(error.code, code);
      assert.equal(error.message, "why");
      assert.deepEqual([ofName(name, "why").kind, ofName(name, "why").code], [error.kind, code]);
    }
    assert.equal(ofName("NO_SUCH", "").kind, "unknown");
  });

  // X2
  it("keep the details of a status", async () => {
    const details = [
      { desc: ErrorInfoSchema, value: { reason: "NOT_OWNER", domain: "virtufin", metadata: { owner: "b" } } },
      { desc: BadRequestSchema, value: { fieldViolations: [{ field: "id", description: "not here" }] } },
    ];
    server.answers.set(LIST, new ConnectError("elsewhere", Code.FailedPrecondition, undefined, details));
    const error: unknown = await client.listServices().catch((error: unknown) => error);
    assert.ok(isVirtufinError(error) && error.kind === "failed-precondition");
    assert.deepEqual(error.details, {
      reason: "NOT_OWNER",
      domain: "virtufin",
      metadata: { owner: "b" },
      violations: [{ field: "id", description: "not here" }],
    });
  });

  // X3
  it("tell another version of the contract by its own error", async () => {
    const details = [{ desc: ErrorInfoSchema, value: { reason: "API_VERSION_MISMATCH", domain: "virtufin" } }];
    server.answers.set(LIST, new ConnectError("the service speaks 2.0.0", Code.FailedPrecondition, undefined, details));
    await assert.rejects(client.listServices(), {
      kind: "api-version-mismatch",
      message: "API version mismatch: the service speaks 2.0.0",
    });
  });

  // X4
  it("send version and metadata with every call", async () => {
    const options = { host: "127.0.0.1", port: server.port, metadata: { "dapr-app-id": "it" } };
    const calls = [
      () => new GatewayClient(options).subscribeEvents().opened,
      () => new WorkManagerClient(options).listWorkers(),
      () => new WebSocketManagerClient(options).list(),
    ];
    for (const call of calls) {
      await call();
      assert.equal(server.calls.at(-1)?.headers.get("x-api-version"), API_VERSION);
      assert.equal(server.calls.at(-1)?.headers.get("dapr-app-id"), "it");
    }
    assert.equal(API_VERSION, "1.0.0");
  });

  it("tell that nobody is there", async () => {
    await server.stop();
    const error: unknown = await client.listServices().catch((error: unknown) => error);
    assert.ok(isVirtufinError(error), String(error));
  });

  // X7
  it("have every message, enum and service of the contract", () => {
    const files: DescFile[] = [
      file_virtufin_common,
      file_virtufin_config,
      file_virtufin_gateway,
      file_virtufin_pubsub,
      file_virtufin_state,
      file_virtufin_websocketmanager,
      file_virtufin_workmanager,
    ];
    const of = <T extends { typeName: string }, S>(all: T[], shape: (one: T) => S) =>
      Object.fromEntries(all.map((one) => [one.typeName, shape(one)]));
    assert.deepEqual(of(files.flatMap((file) => file.messages), fields), structure.messages);
    assert.deepEqual(of(files.flatMap((file) => file.enums), values), structure.enums);
    assert.deepEqual(of(files.flatMap((file) => file.services), methods), structure.services);
  });
});
