// The worker manager's client (cases M).
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { GetTagResponseSchema, GetTagsResponseSchema, SetTagsRequestSchema } from "virtufin-common";
import * as exported from "virtufin-workmanager";
import {
  CodeSourceSchema,
  CreateWorkerRequestSchema,
  CreateWorkerResponseSchema,
  DEFAULT_PORT,
  DeleteWorkerRequestSchema,
  GetWorkerHistoryRequestSchema,
  GetWorkerHistoryResponseSchema,
  ListWorkersRequestSchema,
  ListWorkersResponseSchema,
  LoadCodeFromContentRequestSchema,
  LoadCodeFromUrlRequestSchema,
  LoadCodeRequestSchema,
  RecoverWorkersRequestSchema,
  RecoverWorkersResponseSchema,
  StartWorkerRequestSchema,
  StopWorkerRequestSchema,
  WorkerInfoSchema,
  WorkerStatus,
  WorkerStatusSchema,
  WorkManager,
  WorkManagerClient,
} from "virtufin-workmanager";
import { Server } from "./server.js";
import { camel, fields, structure, values } from "./structure.js";

const SERVICE = "virtufin.WorkManager";

describe("WorkManagerClient", () => {
  let server: Server;
  let client: WorkManagerClient;

  beforeEach(async () => {
    server = await Server.start();
    client = new WorkManagerClient({ host: "127.0.0.1", port: server.port });
  });

  afterEach(() => server.stop());

  // M1
  it("is on this machine at port 5102", () => {
    assert.equal(new WorkManagerClient().baseUrl, "http://localhost:5102");
    assert.equal(DEFAULT_PORT, 5102);
  });

  // M3
  it("has a method for every one of the contract", () => {
    for (const { name } of structure.services[SERVICE] ?? assert.fail()) {
      assert.equal(typeof Reflect.get(client, camel(name)), "function", name);
    }
  });

  // M4
  it("brings the types of the contract", () => {
    for (const { input } of structure.services[SERVICE] ?? assert.fail()) {
      const name = `${input.replace("virtufin.", "")}Schema`;
      assert.ok(/^(Set|Get)Tags?Request/.test(name) || name in exported, name);
    }
  });

  // M5
  it("brings enums", () => {
    assert.equal(WorkerStatus.UNSPECIFIED, 0);
    assert.equal(WorkerStatus[1], "STOPPED");
    assert.equal(WorkerStatus.RUNNING, 2);
  });

  // M6
  it("lets a stub be made over its transport", async () => {
    server.answer(`${SERVICE}.CreateWorker`, CreateWorkerResponseSchema, { id: "w1" });
    assert.equal((await createClient(WorkManager, client.transport).createWorker({})).id, "w1");
  });

  // M7
  it("calls over gRPC-Web", async () => {
    await client.listWorkers();
    assert.equal(server.calls.at(-1)?.headers.get("content-type"), "application/grpc-web+proto");
  });

  // M8
  it("knows the schema of CreateWorkerRequest", () => {
    assert.deepEqual(fields(CreateWorkerRequestSchema), structure.messages["virtufin.CreateWorkerRequest"]);
  });

  // M9
  it("knows the schema of ListWorkersRequest", () => {
    assert.deepEqual(fields(ListWorkersRequestSchema), structure.messages["virtufin.ListWorkersRequest"]);
  });

  // M10
  it("knows the schema of DeleteWorkerRequest", () => {
    assert.deepEqual(fields(DeleteWorkerRequestSchema), structure.messages["virtufin.DeleteWorkerRequest"]);
  });

  // M11
  it("knows the schema of StartWorkerRequest", () => {
    assert.deepEqual(fields(StartWorkerRequestSchema), structure.messages["virtufin.StartWorkerRequest"]);
  });

  // M12
  it("knows the schema of StopWorkerRequest", () => {
    assert.deepEqual(fields(StopWorkerRequestSchema), structure.messages["virtufin.StopWorkerRequest"]);
  });

  // M13
  it("knows the schema of RecoverWorkersRequest", () => {
    assert.deepEqual(fields(RecoverWorkersRequestSchema), structure.messages["virtufin.RecoverWorkersRequest"]);
  });

  // M14
  it("knows the schema of LoadCodeFromContentRequest", () => {
    const expected = structure.messages["virtufin.LoadCodeFromContentRequest"];
    assert.deepEqual(fields(LoadCodeFromContentRequestSchema), expected);
  });

  // M15
  it("knows the schema of LoadCodeFromUrlRequest", () => {
    assert.deepEqual(fields(LoadCodeFromUrlRequestSchema), structure.messages["virtufin.LoadCodeFromUrlRequest"]);
  });

  // M16
  it("knows the schema of WorkerInfo", () => {
    assert.deepEqual(fields(WorkerInfoSchema), structure.messages["virtufin.WorkerInfo"]);
  });

  // M17
  it("knows the schema of CodeSource", () => {
    assert.deepEqual(fields(CodeSourceSchema), structure.messages["virtufin.CodeSource"]);
    assert.deepEqual(CodeSourceSchema.oneofs.map(({ name }) => name), ["source"]);
  });

  // M18
  it("knows the values of WorkerStatus", () => {
    assert.deepEqual(values(WorkerStatusSchema), structure.enums["virtufin.WorkerStatus"]);
  });

  // M19
  it("makes a worker of code from a URL", async () => {
    server.answer(`${SERVICE}.CreateWorker`, CreateWorkerResponseSchema, { id: "w1" });
    const id = await client.createWorker({
      codeSource: { source: { case: "url", value: "https://code.example/w.py" }, contentSha256: "ab" },
      mimeType: "text/x-python",
      topic: "in",
      config: { c: "1" },
    });
    assert.equal(id, "w1");
    const request = server.last(CreateWorkerRequestSchema);
    assert.deepEqual(request.codeSource?.source, { case: "url", value: "https://code.example/w.py" });
    assert.deepEqual([request.mimeType, request.topic, request.config], ["text/x-python", "in", { c: "1" }]);
  });

  // M22
  it("passes ListWorkers on", async () => {
    server.answer(`${SERVICE}.ListWorkers`, ListWorkersResponseSchema, { workers: [{ id: "w1" }] });
    assert.deepEqual((await client.listWorkers({ team: "a" })).map(({ id }) => id), ["w1"]);
    const [filter] = server.last(ListWorkersRequestSchema).filters;
    assert.deepEqual([filter?.key, filter?.value], ["team", "a"]);
  });

  // M23
  it("passes DeleteWorker on", async () => {
    await client.deleteWorker("w1");
    assert.equal(server.last(DeleteWorkerRequestSchema).id, "w1");
  });

  // M24
  it("passes StartWorker on", async () => {
    await client.startWorker("w1");
    assert.equal(server.last(StartWorkerRequestSchema).id, "w1");
  });

  // M25
  it("passes StopWorker on", async () => {
    await client.stopWorker("w1");
    assert.equal(server.last(StopWorkerRequestSchema).id, "w1");
  });

  // M26
  it("passes RecoverWorkers on", async () => {
    server.answer(`${SERVICE}.RecoverWorkers`, RecoverWorkersResponseSchema, { recoveredCount: 3 });
    assert.equal(await client.recoverWorkers(), 3);
  });

  // M27
  it("passes GetWorkerHistory on", async () => {
    const entries = [{ sha256: "a" }, { sha256: "b" }];
    server.answer(`${SERVICE}.GetWorkerHistory`, GetWorkerHistoryResponseSchema, { entries });
    assert.deepEqual((await client.getWorkerHistory("w1")).map(({ sha256 }) => sha256), ["a", "b"]);
    assert.equal(server.last(GetWorkerHistoryRequestSchema).id, "w1");
  });

  // M28
  it("passes LoadCodeFromContent on", async () => {
    const content = new TextEncoder().encode("code");
    await client.loadCodeFromContent({ id: "w1", content });
    const request = server.last(LoadCodeFromContentRequestSchema);
    assert.equal(request.id, "w1");
    assert.deepEqual(new Uint8Array(request.content), content);
  });

  // M29
  it("passes LoadCodeFromUrl on", async () => {
    await client.loadCodeFromUrl({ id: "w1", url: "https://code.example" });
    assert.equal(server.last(LoadCodeFromUrlRequestSchema).url, "https://code.example");
    await client.loadCode("w1", { source: { case: "url", value: "https://code.example" } });
    assert.equal(server.last(LoadCodeRequestSchema).codeSource?.source.value, "https://code.example");
  });

  // M30
  it("throws an error of CreateWorker by its kind", async () => {
    server.answers.set(`${SERVICE}.CreateWorker`, new ConnectError("unknown MIME type", Code.InvalidArgument));
    await assert.rejects(client.createWorker({}), { kind: "invalid-argument", message: "unknown MIME type" });
  });

  // M31
  it("throws an error of ListWorkers by its kind", async () => {
    server.answers.set(`${SERVICE}.ListWorkers`, new ConnectError("gone", Code.Unavailable));
    await assert.rejects(client.listWorkers(), { kind: "unavailable" });
  });

  // M32
  it("throws an error of DeleteWorker by its kind", async () => {
    server.answers.set(`${SERVICE}.DeleteWorker`, new ConnectError("no such worker", Code.NotFound));
    await assert.rejects(client.deleteWorker("w1"), { kind: "not-found" });
  });

  // M34
  it("calls over a transport of one's own", async () => {
    const transport = createRouterTransport(({ service }) => {
      service(WorkManager, { createWorker: () => create(CreateWorkerResponseSchema, { id: "inside" }) });
    });
    assert.equal(await new WorkManagerClient({ transport }).createWorker({}), "inside");
  });

  // M35
  it("exports client, service and messages", () => {
    for (const name of ["WorkManagerClient", "WorkManager", "WorkerInfoSchema", "WorkerStatus", "DEFAULT_PORT"]) {
      assert.ok(name in exported, name);
    }
  });

  // X10
  it("passes tags on", async () => {
    server.answer(`${SERVICE}.GetTags`, GetTagsResponseSchema, { tags: { a: "1" } });
    await client.setTag("w1", "a", "1");
    assert.equal(await client.getTag("w1", "a"), undefined);
    server.answer(`${SERVICE}.GetTag`, GetTagResponseSchema, { value: "", found: true });
    assert.equal(await client.getTag("w1", "a"), "");
    await client.setTags("w1", { b: "2" });
    assert.deepEqual(server.last(SetTagsRequestSchema).tags, { b: "2" });
    assert.deepEqual(await client.getTags("w1"), { a: "1" });
  });
});
