// The WebSocket manager's client (cases W).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { GetTagsResponseSchema, SetTagsRequestSchema } from "virtufin-common";
import * as exported from "virtufin-websocketmanager";
import {
  ConnectRequestSchema,
  ConnectResponseSchema,
  DEFAULT_PORT,
  DisconnectRequestSchema,
  ListRequestSchema,
  ListResponseSchema,
  SEND_TIMEOUT_MS,
  SendRawRequestSchema,
  SendRequestSchema,
  SendResponseSchema,
  StartPublishRequestSchema,
  StopPublishRequestSchema,
  WebSocketConnectionSchema,
  WebSocketManager,
  WebSocketManagerClient,
} from "virtufin-websocketmanager";
import { Server } from "./server.js";
import { camel, fields, structure } from "./structure.js";

const SERVICE = "virtufin.WebSocketManager";
const bytes = (value: string) => new TextEncoder().encode(value);

describe("WebSocketManagerClient", () => {
  let server: Server;
  let client: WebSocketManagerClient;

  beforeEach(async () => {
    server = await Server.start();
    client = new WebSocketManagerClient({ host: "127.0.0.1", port: server.port });
  });

  afterEach(() => server.stop());

  // W1
  it("is on this machine at port 5202", () => {
    assert.equal(new WebSocketManagerClient().baseUrl, "http://localhost:5202");
    assert.equal(DEFAULT_PORT, 5202);
  });

  // W3
  it("has a method for every one of the contract", () => {
    for (const { name } of structure.services[SERVICE] ?? assert.fail()) {
      assert.equal(typeof Reflect.get(client, camel(name)), "function", name);
    }
  });

  // W4
  it("brings the types of the contract", () => {
    for (const { input } of structure.services[SERVICE] ?? assert.fail()) {
      const name = `${input.replace("virtufin.", "")}Schema`;
      assert.ok(/^(Set|Get)Tags?Request/.test(name) || name in exported, name);
    }
  });

  // W5
  it("lets a stub be made over its transport", async () => {
    server.answer(`${SERVICE}.Connect`, ConnectResponseSchema, { id: "c1" });
    assert.equal((await createClient(WebSocketManager, client.transport).connect({})).id, "c1");
  });

  // W6
  it("calls over gRPC-Web", async () => {
    await client.list();
    assert.equal(server.calls.at(-1)?.headers.get("content-type"), "application/grpc-web+proto");
  });

  // W7
  it("knows the schema of ConnectRequest", () => {
    assert.deepEqual(fields(ConnectRequestSchema), structure.messages["virtufin.ConnectRequest"]);
  });

  // W8
  it("knows the schema of ConnectResponse", () => {
    assert.deepEqual(fields(ConnectResponseSchema), structure.messages["virtufin.ConnectResponse"]);
  });

  // W9
  it("knows the schema of ListRequest", () => {
    assert.deepEqual(fields(ListRequestSchema), structure.messages["virtufin.ListRequest"]);
  });

  // W10
  it("knows the schema of ListResponse", () => {
    assert.deepEqual(fields(ListResponseSchema), structure.messages["virtufin.ListResponse"]);
  });

  // W11
  it("knows the schema of DisconnectRequest", () => {
    assert.deepEqual(fields(DisconnectRequestSchema), structure.messages["virtufin.DisconnectRequest"]);
  });

  // W12
  it("knows the schema of SendRequest", () => {
    assert.deepEqual(fields(SendRequestSchema), structure.messages["virtufin.SendRequest"]);
  });

  // W14
  it("knows the schema of SendRawRequest", () => {
    assert.deepEqual(fields(SendRawRequestSchema), structure.messages["virtufin.SendRawRequest"]);
  });

  // W15
  it("knows the schema of StartPublishRequest", () => {
    assert.deepEqual(fields(StartPublishRequestSchema), structure.messages["virtufin.StartPublishRequest"]);
  });

  // W16
  it("knows the schema of StopPublishRequest", () => {
    assert.deepEqual(fields(StopPublishRequestSchema), structure.messages["virtufin.StopPublishRequest"]);
  });

  // W17
  it("knows the schema of WebSocketConnection", () => {
    assert.deepEqual(fields(WebSocketConnectionSchema), structure.messages["virtufin.WebSocketConnection"]);
  });

  // W18
  it("passes Connect on", async () => {
    server.answer(`${SERVICE}.Connect`, ConnectResponseSchema, { id: "c1", status: "Connected" });
    const answer = await client.connect({ url: "wss://a.example", autoReconnect: true, tags: { t: "1" } });
    assert.deepEqual([answer.id, answer.status], ["c1", "Connected"]);
    const request = server.last(ConnectRequestSchema);
    assert.deepEqual([request.url, request.autoReconnect, request.tags], ["wss://a.example", true, { t: "1" }]);
  });

  // W19
  it("passes List on", async () => {
    server.answer(`${SERVICE}.List`, ListResponseSchema, { connections: [{ id: "c1" }] });
    assert.deepEqual((await client.list({ t: "" })).map(({ id }) => id), ["c1"]);
    assert.deepEqual(server.last(ListRequestSchema).filters.map(({ key }) => key), ["t"]);
  });

  // W20
  it("passes Disconnect on", async () => {
    await client.disconnect("c1");
    assert.equal(server.last(DisconnectRequestSchema).id, "c1");
  });

  // W21
  it("passes Send on", async () => {
    server.answer(`${SERVICE}.Send`, SendResponseSchema, { response: bytes("pong") });
    assert.deepEqual(new Uint8Array(await client.send("c1", bytes("ping"), "text/plain", 500)), bytes("pong"));
    const request = server.last(SendRequestSchema);
    assert.deepEqual([request.id, request.contentType, request.timeoutMs], ["c1", "text/plain", 500]);
    await client.send("c1", bytes("ping"));
    assert.equal(server.last(SendRequestSchema).timeoutMs, SEND_TIMEOUT_MS);
  });

  // W23
  it("passes SendRaw on", async () => {
    await client.sendRaw("c1", new Uint8Array([0, 255]), "application/octet-stream");
    const request = server.last(SendRawRequestSchema);
    assert.deepEqual([...request.message], [0, 255]);
    assert.equal(request.contentType, "application/octet-stream");
  });

  // W24
  it("passes StartPublish on", async () => {
    await client.startPublish("c1", "ticks");
    const request = server.last(StartPublishRequestSchema);
    assert.deepEqual([request.id, request.topic], ["c1", "ticks"]);
  });

  // W25
  it("passes StopPublish on", async () => {
    await client.stopPublish("c1");
    assert.equal(server.last(StopPublishRequestSchema).id, "c1");
  });

  // W27
  it("throws an error of Connect by its kind", async () => {
    server.answers.set(`${SERVICE}.Connect`, new ConnectError("ws or wss only", Code.InvalidArgument));
    await assert.rejects(client.connect({ url: "http://a" }), { kind: "invalid-argument", message: "ws or wss only" });
  });

  // W28
  it("throws an error of Send by its kind", async () => {
    server.answers.set(`${SERVICE}.Send`, new ConnectError("no answer", Code.DeadlineExceeded));
    await assert.rejects(client.send("c1", bytes("ping")), { kind: "deadline-exceeded" });
  });

  // W29
  it("throws an error of List by its kind", async () => {
    server.answers.set(`${SERVICE}.List`, new ConnectError("broken", Code.Internal));
    await assert.rejects(client.list(), { kind: "internal" });
  });

  // W31
  it("calls over a transport of one's own", async () => {
    const transport = createRouterTransport(({ service }) => {
      service(WebSocketManager, { connect: () => create(ConnectResponseSchema, { id: "inside" }) });
    });
    assert.equal((await new WebSocketManagerClient({ transport }).connect({})).id, "inside");
  });

  // W32
  it("exports client, service and messages", () => {
    for (const name of ["WebSocketManagerClient", "WebSocketManager", "WebSocketConnectionSchema", "DEFAULT_PORT"]) {
      assert.ok(name in exported, name);
    }
  });

  // X10
  it("passes tags on", async () => {
    server.answer(`${SERVICE}.GetTags`, GetTagsResponseSchema, { tags: { a: "1" } });
    await client.setTag("c1", "a", "");
    assert.equal(await client.getTag("c1", "a"), undefined);
    await client.setTags("c1", { b: "2" });
    assert.deepEqual(server.last(SetTagsRequestSchema).tags, { b: "2" });
    assert.deepEqual(await client.getTags("c1"), { a: "1" });
  });
});
