"use strict";
// The JavaScript SDK of Dapr, unchanged, over HTTP and over gRPC, beside two sidecars that `cargo xtask clients` starts.

const assert = require("node:assert/strict");
const { execFileSync } = require("node:child_process");
const crypto = require("node:crypto");
const {
  CommunicationProtocolEnum,
  DaprClient,
  HttpMethod,
  LogLevel,
  StateConcurrencyEnum,
  StateConsistencyEnum,
} = require("@dapr/dapr");
const { arrived, start } = require("./apps");
const { Skipped, add, eventually, fails, run } = require("./cases");

const { APP_ID: ONE, TWO_APP_ID: TWO, DAPR_HTTP_PORT, DAPR_GRPC_PORT, TWO_HTTP_PORT, TWO_GRPC_PORT } = process.env;
const { HTTP, GRPC } = CommunicationProtocolEnum;

function client(communicationProtocol, daprPort) {
  return new DaprClient({
    daprHost: "127.0.0.1",
    daprPort,
    communicationProtocol,
    logger: { level: LogLevel.Error, service: { error() {}, warn() {}, info() {}, verbose() {}, debug() {} } },
  });
}

const one = { http: client(HTTP, DAPR_HTTP_PORT), grpc: client(GRPC, DAPR_GRPC_PORT) };
const two = { http: client(HTTP, TWO_HTTP_PORT), grpc: client(GRPC, TWO_GRPC_PORT) };

function configure(key, value) {
  try {
    execFileSync("python3", [process.env.SET_CONFIGURATION, key, value], { timeout: 10_000 });
  } catch (error) {
    if (error.code === "ENOENT") throw new Skipped("python3 is not here to write the configuration");
    throw error;
  }
}

async function needs(component) {
  const told = await one.http.metadata.get();
  if (!told.components.some((registered) => registered.name === component)) {
    throw new Skipped(`this sidecar has no component ${component}`);
  }
}

/** What both protocols can do. */
function common(protocol) {
  const mine = one[protocol];
  const key = (name) => `${protocol}-${name}`;
  const named = (name, action) => add(`${protocol}.${name}`, action);
  const etag = async (name) => (await mine.state.getBulk("state", [key(name)]))[0].etag;

  named("health", async () => assert.equal(await mine.health.isHealthy(), true));

  named("state.save-get-delete", async () => {
    await mine.state.save("state", [{ key: key("a"), value: { n: 1 } }]);
    assert.deepEqual(await mine.state.get("state", key("a")), { n: 1 });
    await mine.state.delete("state", key("a"));
    assert.equal(await mine.state.get("state", key("a")), "");
  });

  named("state.bulk-get", async () => {
    await mine.state.save("state", [
      { key: key("b1"), value: "x" },
      { key: key("b2"), value: { y: 2 } },
    ]);
    const items = await mine.state.getBulk("state", [key("b1"), key("b2"), key("b3")], { parallelism: 2 });
    const found = Object.fromEntries(items.map((item) => [item.key, item.data || null]));
    assert.deepEqual(found, { [key("b1")]: "x", [key("b2")]: { y: 2 }, [key("b3")]: null });
  });

  named("state.etag-conflict", async () => {
    const options = { concurrency: StateConcurrencyEnum.CONCURRENCY_FIRST_WRITE, consistency: StateConsistencyEnum.CONSISTENCY_STRONG };
    await mine.state.save("state", [{ key: key("tagged"), value: "1" }]);
    const first = await etag("tagged");
    assert.ok(first);
    assert.ok(!(await mine.state.save("state", [{ key: key("tagged"), value: "2", etag: first, options }])).error);
    const stale = () => mine.state.save("state", [{ key: key("tagged"), value: "3", etag: first, options }]);
    await fails(stale, "ERR_STATE_SAVE", "aborted", "etag");
    await fails(() => mine.state.delete("state", key("tagged"), { etag: first, ...options }), "ERR_STATE_DELETE", "aborted", "etag");
    assert.equal(String(await mine.state.get("state", key("tagged"))), "2");
  });

  named("state.transaction", async () => {
    await mine.state.save("state", [{ key: key("gone"), value: "x" }]);
    await mine.state.transaction("state", [
      { operation: "upsert", request: { key: key("t"), value: "kept" } },
      { operation: "delete", request: { key: key("gone") } },
    ]);
    assert.equal(await mine.state.get("state", key("t")), "kept");
    assert.equal(await mine.state.get("state", key("gone")), "");
  });

  named("state.ttl", async () => {
    await mine.state.save("state", [{ key: key("brief"), value: "1", metadata: { ttlInSeconds: "1" } }]);
    assert.equal(String(await mine.state.get("state", key("brief"))), "1");
    await eventually(async () => (await mine.state.get("state", key("brief"))) === "", "the expiry");
  });

  named("state.query-is-refused", () =>
    fails(() => mine.state.query("state", { filter: {}, sort: [], page: { limit: 1 } }), "not support", "unimplemented", "ERR_METHOD_NOT_FOUND", "ERR_STATE_STORE_NOT_SUPPORTED"),
  );

  named("state.unknown-store", () => fails(() => mine.state.get("nowhere", "a"), "nowhere"));

  for (const [app, publisher] of [["one", mine], ["two", two[protocol]]]) {
    named(`publish.subscribe-app-${app}`, async () => {
      await publisher.pubsub.publish("pubsub", "orders", { from: protocol, to: app });
      await eventually(() => arrived[`${app}:orders`].some((event) => event.from === protocol && event.to === app), "the event");
    });

    named(`publish.bulk-to-bulk-subscriber-${app}`, async () => {
      const events = [0, 1, 2, 3, 4].map((n) => ({ event: { n, protocol }, entryID: `e${n}`, contentType: "application/json" }));
      const answer = await publisher.pubsub.publishBulk("pubsub", "heaps", events);
      assert.deepEqual(answer.failedMessages, []);
      const seen = () => arrived[`${app}:heaps`].filter((event) => event.protocol === protocol).map((event) => event.n);
      await eventually(() => new Set(seen()).size === 5, `five events in ${app}`);
    });
  }

  named("publish.text", async () => {
    await mine.pubsub.publish("pubsub", "orders", `plain ${protocol}`, { contentType: "text/plain" });
    await eventually(() => arrived["one:orders"].includes(`plain ${protocol}`), "the text");
  });

  named("publish.route-by-rule", async () => {
    const event = { specversion: "1.0", id: protocol, source: "here", type: "special", datacontenttype: "application/json", data: { rule: protocol } };
    await mine.pubsub.publish("pubsub", "routed", event, { contentType: "application/cloudevents+json" });
    await mine.pubsub.publish("pubsub", "routed", { other: protocol });
    await eventually(() => arrived["one:routed-special"].some((data) => data.rule === protocol), "the special event");
    await eventually(() => arrived["one:routed-default"].some((data) => data.other === protocol), "the other event");
  });

  named("publish.unknown-pubsub", () => fails(() => mine.pubsub.publish("nowhere", "orders", { a: 1 }), "nowhere"));

  for (const [from, source] of [["one", mine], ["two", two[protocol]]]) {
    for (const [to, target] of [["one", ONE], ["two", TWO]]) {
      named(`invoke.${from}-to-${to}`, async () => {
        let answer;
        // The other's name may still be on its way.
        await eventually(async () => (answer = await source.invoker.invoke(target, "echo", HttpMethod.POST, { hello: protocol })));
        assert.equal(answer.app, to);
        assert.deepEqual(answer.body, { hello: protocol });
      });
    }
  }

  named("invoke.unknown-method", () =>
    fails(() => mine.invoker.invoke(ONE, "absent", HttpMethod.POST, {}), "404", "Not Found", "not_found", "Cannot POST"),
  );

  named("invoke.unknown-app", () =>
    fails(() => mine.invoker.invoke(`no-${crypto.randomUUID()}`, "echo", HttpMethod.POST, {}), "ERR_DIRECT_INVOKE", "resolve", "couldn't find"),
  );

  named("binding.output", async () => {
    const fileName = `node-${protocol}.txt`;
    await mine.binding.send("files", "create", { text: protocol }, { fileName });
    const got = await mine.binding.send("files", "get", "", { fileName });
    const text = protocol === "grpc" ? Buffer.from(got.data).toString() : JSON.stringify(got);
    assert.deepEqual(JSON.parse(text), { text: protocol });
    await mine.binding.send("files", "delete", "", { fileName });
    await fails(() => mine.binding.send("files", "get", "", { fileName }), "not found");
  });

  named("secret.get", async () => {
    assert.deepEqual({ ...(await mine.secret.get("secrets", "greeting")) }, { greeting: "hello" });
    await fails(() => mine.secret.get("secrets", "absent"), "absent");
  });

  named("secret.bulk", async () => {
    const secrets = JSON.stringify(await mine.secret.getBulk("secrets"));
    assert.ok(secrets.includes("hello") && secrets.includes("second") && secrets.includes("too"), secrets);
  });

  named("lock.try-unlock", async () => {
    await needs("lock");
    const thing = key("thing");
    assert.equal((await mine.lock.lock("lock", thing, "me", 30)).success, true);
    assert.equal((await mine.lock.lock("lock", thing, "you", 30)).success, false);
    // 0 freed, 1 there is none, 2 it is another's.
    assert.equal((await mine.lock.unlock("lock", thing, "you")).status, 2);
    assert.equal((await mine.lock.unlock("lock", thing, "me")).status, 0);
    assert.equal((await mine.lock.unlock("lock", thing, "me")).status, 1);
  });

  named("metadata.get-set", async () => {
    assert.equal(await mine.metadata.set(`colour-${protocol}`, "teal"), true);
    const told = await mine.metadata.get();
    assert.equal(told.id, ONE);
    const text = JSON.stringify(told, (_, value) => (typeof value === "bigint" ? String(value) : value instanceof Map ? [...value] : value));
    assert.ok(text.includes("teal") && text.includes("state.sqlite") && text.includes("pubsub.in-memory"), text);
  });
}

common("http");
common("grpc");

for (const app of ["one", "two"]) {
  const publisher = app === "one" ? one.http : two.grpc;
  add(`subscribe.retry-app-${app}`, async () => {
    await publisher.pubsub.publish("pubsub", "unsteady", { u: 1 });
    await eventually(() => arrived[`${app}:unsteady`].length >= 2, "a second delivery");
  });
  add(`subscribe.dead-letter-app-${app}`, async () => {
    await publisher.pubsub.publish("pubsub", "broken", { bad: app });
    await eventually(() => arrived[`${app}:graveyard`].some((data) => data.bad === app), "the dead letter");
  });
  add(`binding.input-app-${app}`, () => eventually(() => arrived[`${app}:tick`].length > 0, "a tick"));
}

const value = async (key) => (await one.grpc.configuration.get("configuration", [key])).items[key]?.value;

add("grpc.configuration.get", async () => {
  configure("node-colour", "red");
  await eventually(async () => (await value("node-colour")) === "red");
});

add("grpc.configuration.subscribe-unsubscribe", async () => {
  configure("node-colour", "red");
  const seen = [];
  const subscription = await one.grpc.configuration.subscribeWithKeys("configuration", ["node-colour"], async (answer) => {
    seen.push(answer.items["node-colour"].value);
  });
  // The SDK does not say when the stream is open: change it until a change is seen.
  let turn = 0;
  await eventually(() => {
    if (seen.some((colour) => colour.startsWith("green"))) return true;
    configure("node-colour", `green-${(turn += 1)}`);
    return false;
  }, "the change");
  await subscription.stop();
  const before = seen.length;
  configure("node-colour", "blue");
  await eventually(async () => (await value("node-colour")) === "blue");
  assert.ok(!seen.slice(before).includes("blue"), String(seen));
});

for (const [keyWrapAlgorithm, keyName] of [["RSA-OAEP-256", "rsa.pem"], ["A256KW", "aes.key"]]) {
  for (const dataEncryptionCipher of ["aes-gcm", "chacha20-poly1305"]) {
    add(`grpc.crypto.${keyWrapAlgorithm}.${dataEncryptionCipher}`, async () => {
      // More than one segment.
      const plain = crypto.randomBytes(150_000);
      const sealed = await one.grpc.crypto.encrypt(plain, { componentName: "keys", keyName, keyWrapAlgorithm, dataEncryptionCipher });
      assert.equal(sealed.subarray(0, 15).toString(), "dapr.io/enc/v1\n");
      const opened = await one.grpc.crypto.decrypt(sealed, { componentName: "keys", keyName });
      assert.ok(plain.equals(opened));
    });
  }
}

add("http.shutdown", async () => {
  await one.http.sidecar.shutdown();
  await eventually(async () => !(await one.http.health.isHealthy()), "the end of the sidecar");
});

add("grpc.shutdown", async () => {
  await two.grpc.sidecar.shutdown();
  await eventually(async () => !(await two.http.health.isHealthy()), "the end of the sidecar");
});

async function main() {
  await start();
  process.exit((await run()) ? 1 : 0);
}

// The servers of the SDK refuse requests in the background when a sidecar leaves.
process.on("unhandledRejection", (error) => console.error("unhandled:", error));
main().catch((error) => {
  console.error(error);
  process.exit(2);
});
