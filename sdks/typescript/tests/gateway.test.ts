// The gateway's client (cases A).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { isVirtufinError, NoReplyError, StatusError } from "virtufin-common";
import * as exported from "virtufin-gateway";
import {
  Config,
  DEFAULT_PORT,
  Gateway,
  GatewayClient,
  GetAllStateResponseSchema,
  GetConfigServiceResponseSchema,
  GetMethodSchemaRequestSchema,
  GetMethodSchemaResponseSchema,
  GetStateResponseSchema,
  InvokeJsonRequestSchema,
  InvokeJsonResponseSchema,
  InvokeRequestSchema,
  InvokeResponseSchema,
  ListConfigServicesResponseSchema,
  ListMethodsResponseSchema,
  ListServicesResponseSchema,
  PublishRequestSchema,
  Pubsub,
  PubsubSubscribeRequestSchema,
  type PubsubSubscribeResponse,
  PubsubSubscribeResponseSchema,
  RegisterKeysRequestSchema,
  SaveStateRequestSchema,
  SaveStateResponseSchema,
  State,
  SubscribeRequestSchema,
  TopicEventRequestSchema,
  UnsubscribeRequestSchema,
} from "virtufin-gateway";
import { Server } from "./server.js";
import { camel, structure } from "./structure.js";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (value: string) => new TextEncoder().encode(value);

function reply(correlationid: string, data: string): PubsubSubscribeResponse {
  return create(PubsubSubscribeResponseSchema, { topic: "answers", data: bytes(data), metadata: { correlationid } });
}

describe("GatewayClient", () => {
  let server: Server;
  let client: GatewayClient;

  beforeEach(async () => {
    server = await Server.start();
    client = new GatewayClient({ host: "127.0.0.1", port: server.port });
  });

  afterEach(() => server.stop());

  // A1
  it("is on this machine at the port of gRPC-Web", () => {
    assert.equal(new GatewayClient().baseUrl, "http://localhost:5003");
    assert.equal(DEFAULT_PORT, 5003);
    assert.equal(new GatewayClient({ host: "::1", port: 1, secure: true }).baseUrl, "https://[::1]:1");
  });

  // A3
  it("has a method for every one of the contract", () => {
    const renamed: Record<string, string> = {
      "virtufin.Gateway.Subscribe": "subscribeEvents",
      "virtufin.Config.ListServices": "listConfigServices",
      "virtufin.Config.GetService": "getConfigService",
    };
    for (const service of [Gateway, Pubsub, State, Config]) {
      for (const { name } of structure.services[service.typeName] ?? assert.fail()) {
        const method = renamed[`${service.typeName}.${name}`] ?? camel(name);
        assert.equal(typeof Reflect.get(client, method), "function", method);
      }
    }
  });

  // A4
  it("brings the types of the contract", () => {
    const names = Object.keys(exported);
    for (const service of [Gateway, Pubsub, State, Config]) {
      for (const { input, output } of structure.services[service.typeName] ?? assert.fail()) {
        for (const message of [input, output].filter((message) => message !== "virtufin.Empty")) {
          assert.ok(names.includes(`${message.replace("virtufin.", "")}Schema`), message);
        }
      }
    }
  });

  // A6
  it("lets a stub be made over its transport", async () => {
    server.answer("virtufin.Gateway.ListServices", ListServicesResponseSchema, { services: ["a"] });
    const stub = createClient(Gateway, client.transport);
    assert.deepEqual((await stub.listServices({})).services, ["a"]);
  });

  // A7
  it("calls over gRPC-Web", async () => {
    await client.listServices();
    assert.equal(server.calls.at(-1)?.headers.get("content-type"), "application/grpc-web+proto");
    const transport = createGrpcWebTransport({ baseUrl: `http://127.0.0.1:${server.port}` });
    await new GatewayClient({ transport }).listServices();
    assert.equal(server.calls.length, 2);
  });

  // A8
  it("gives the reply with the correlation id", async () => {
    server.replies = (request) => {
      const own = request.metadata["correlationid"] ?? assert.fail();
      const none = create(PubsubSubscribeResponseSchema, { topic: "answers" });
      return [none, reply(crypto.randomUUID(), "another's"), reply(own, "mine"), reply(own, "late")];
    };
    const metadata = { "ce-type": "asked" };
    const ask = { topic: "ask", replyTopic: "answers", data: bytes("question"), metadata, timeoutMs: 10_000 };
    assert.equal(text((await client.publishWithResult(ask)).data), "mine");
    await server.until("left");
    assert.deepEqual(server.order, ["subscribed", "published", "left"]);
    const published = server.last(PublishRequestSchema);
    assert.equal(published.topic, "ask");
    assert.equal(text(published.data), "question");
    assert.equal(published.metadata["ce-type"], "asked");
    const subscribed = server.calls[0]?.request;
    assert.deepEqual(subscribed, create(PubsubSubscribeRequestSchema, { topics: ["answers"] }));
  });

  it("gives interleaved asks their own replies", async () => {
    const asked: { id: string; data: string }[] = [];
    server.replies = (request) => {
      asked.push({ id: request.metadata["correlationid"] ?? "", data: text(request.data) });
      return asked.length < 5 ? [] : asked.toReversed().map(({ id, data }) => reply(id, data));
    };
    const replies = await Promise.all(
      Array.from({ length: 5 }, (_, number) =>
        client.publishWithResult({ topic: "ask", replyTopic: "answers", data: bytes(`${number}`), timeoutMs: 20_000 }),
      ),
    );
    assert.deepEqual(replies.map((event) => text(event.data)), ["0", "1", "2", "3", "4"]);
  });

  // A9
  it("throws when no reply comes", async () => {
    server.replies = () => [reply("another", "")];
    const error = await client
      .publishWithResult({ topic: "ask", replyTopic: "answers", timeoutMs: 200 })
      .then(
        () => assert.fail("there was a reply"),
        (error: unknown) => error,
      );
    assert.ok(error instanceof NoReplyError);
    assert.equal(error.kind, "no-reply");
    assert.equal(error.topic, "answers");
    server.streams.set("virtufin.Pubsub.Subscribe", []);
    await assert.rejects(client.publishWithResult({ topic: "ask", replyTopic: "answers", timeoutMs: 10_000 }), {
      kind: "unavailable",
    });
  });

  // A10
  it("makes a correlation id for every ask", async () => {
    const seen: string[] = [];
    server.replies = (request) => {
      seen.push(request.metadata["correlationid"] ?? "");
      return [reply(seen.at(-1) ?? "", "")];
    };
    for (const _ of [1, 2]) {
      await client.publishWithResult({ topic: "ask", replyTopic: "answers", timeoutMs: 10_000 });
    }
    assert.equal(new Set(seen).size, 2);
    for (const id of seen) {
      assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    }
  });

  // X8
  it("passes every call on", async () => {
    const status = { success: true, status: "OK" };
    server.answer("virtufin.Gateway.Invoke", InvokeResponseSchema, { success: true, responseData: bytes("out") });
    server.answer("virtufin.Gateway.ListMethods", ListMethodsResponseSchema, { methods: [{ name: "Do" }] });
    server.answer("virtufin.Gateway.GetMethodSchema", GetMethodSchemaResponseSchema, { schema: { schemaType: "output" } });
    server.answer("virtufin.State.SaveState", SaveStateResponseSchema, { status, etag: "2" });
    server.answer("virtufin.State.GetState", GetStateResponseSchema, { key: "k", value: "v", etag: "1" });
    server.answer("virtufin.State.GetAllState", GetAllStateResponseSchema, { values: { k: "v" } });
    server.answer("virtufin.Config.ListServices", ListConfigServicesResponseSchema, { services: [{ name: "a" }] });
    server.answer("virtufin.Config.GetService", GetConfigServiceResponseSchema, { service: { name: "b" } });
    assert.equal(text(await client.invoke("a", "Do", bytes("in"))), "out");
    assert.equal(text(server.last(InvokeRequestSchema).requestData), "in");
    assert.deepEqual((await client.listMethods("a")).map(({ name }) => name), ["Do"]);
    assert.equal((await client.getMethodSchema("a", "Do", "output")).schemaType, "output");
    assert.equal(server.last(GetMethodSchemaRequestSchema).schemaType, "output");
    await client.publishEvent({ topic: "t", data: bytes("d"), metadata: { "ce-id": "1" } });
    assert.deepEqual(server.last(PublishRequestSchema).metadata, { "ce-id": "1" });
    await client.unsubscribe("s1");
    assert.equal(server.last(UnsubscribeRequestSchema).subscriptionId, "s1");
    assert.equal(await client.saveState({ service: "svc", key: "k", value: "v", etag: "1" }), "2");
    assert.equal(server.last(SaveStateRequestSchema).service, "svc");
    assert.deepEqual(await client.getState("svc", "k"), { value: "v", etag: "1" });
    server.answer("virtufin.State.GetState", GetStateResponseSchema, { key: "k" });
    assert.equal(await client.getState("svc", "k"), undefined);
    assert.deepEqual(await client.getAllState("svc"), { k: "v" });
    await client.registerKeys("svc", ["k", "l"]);
    assert.deepEqual(server.last(RegisterKeysRequestSchema).keys, ["k", "l"]);
    await client.deleteState({ service: "svc", key: "k" });
    assert.deepEqual((await client.listConfigServices()).map(({ name }) => name), ["a"]);
    assert.equal((await client.getConfigService("b")).name, "b");
  });

  // X9
  it("gives events in order, and a refusal as an error", async () => {
    const path = "virtufin.Gateway.Subscribe";
    const ids = Array.from({ length: 100 }, (_, number) => `${number}`);
    server.streams.set(path, ids.map((id) => create(TopicEventRequestSchema, { id })));
    const seen: string[] = [];
    for await (const event of client.subscribeEvents({ services: ["a"] })) {
      seen.push(event.id);
    }
    assert.deepEqual(seen, ids);
    assert.deepEqual(server.last(SubscribeRequestSchema).services, ["a"]);
    server.streams.set(path, new ConnectError("bad filter", Code.InvalidArgument));
    const refused = client.subscribeEvents();
    await assert.rejects(refused.next(), { kind: "invalid-argument", message: "bad filter" });
    assert.equal((await refused.next()).done, true);
  });

  // X5
  it("calls a backend by name", async () => {
    server.answer("virtufin.Gateway.InvokeJson", InvokeJsonResponseSchema, {
      success: true,
      responseData: '{"workers":[{"id":"w1"}]}',
    });
    const answer = await client.service("workmanager").call("ListWorkers", { filters: [] });
    assert.deepEqual(answer, { workers: [{ id: "w1" }] });
    const request = server.last(InvokeJsonRequestSchema);
    assert.deepEqual([request.service, request.method, request.requestData], ["workmanager", "ListWorkers", '{"filters":[]}']);
  });

  // X6
  it("keeps the status of a backend called by name", async () => {
    server.answer("virtufin.Gateway.InvokeJson", InvokeJsonResponseSchema, {
      success: false,
      status: "NOT_FOUND",
      message: "no such worker",
    });
    const error: unknown = await client.service("workmanager").call("StartWorker", { id: "w1" }).catch((error: unknown) => error);
    assert.ok(isVirtufinError(error) && error instanceof StatusError);
    assert.equal(error.kind, "not-found");
    assert.equal(error.code, Code.NotFound);
  });

  const address = process.env["VIRTUFIN_TEST_GATEWAY_WEB"] ?? "";
  const skip = address === "" && "VIRTUFIN_TEST_GATEWAY_WEB (host:port) is not set";
  it("asks a real gateway over gRPC-Web", { skip }, async () => {
    const [host = "", port] = address.split(/:(?=\d+$)/);
    const real = new GatewayClient({ host, port: Number(port) });
    const services = await real.listServices();
    assert.ok(services[0] !== undefined, "the gateway has no backends");
    assert.ok((await real.listMethods(services[0])).length > 0);
    await assert.rejects(real.listMethods("no-such-service"), { kind: "not-found" });
    const events = real.subscribe([`clients.${crypto.randomUUID()}`]);
    await events.opened;
    await events.return();
    const [ask, answers] = ["ask", "answers"].map((name) => `clients.${name}.${crypto.randomUUID()}`) as [string, string];
    const asked = real.subscribe([ask]);
    await asked.opened;
    const answering = (async () => {
      for await (const question of asked) {
        for (const correlationid of ["nobody", question.metadata["correlationid"] ?? ""]) {
          await real.publishEvent({ topic: answers, data: question.data, metadata: { correlationid } });
        }
      }
    })();
    const replies = await Promise.all(
      ["0", "1", "2"].map((data) =>
        real.publishWithResult({ topic: ask, replyTopic: answers, data: bytes(data), timeoutMs: 20_000 }),
      ),
    );
    assert.deepEqual(replies.map(({ data }) => text(data)), ["0", "1", "2"]);
    await asked.return();
    await answering;
    const other = new GatewayClient({ host, port: Number(port), apiVersion: "9.0.0" });
    await assert.rejects(other.listServices(), { kind: "api-version-mismatch" });
  });
});
