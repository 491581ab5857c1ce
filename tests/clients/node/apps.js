"use strict";
// The two apps beside the sidecars: `one` speaks HTTP, `two` speaks gRPC. Both note what reaches them.

const { CommunicationProtocolEnum, DaprPubSubStatusEnum, DaprServer, HttpMethod, LogLevel } = require("@dapr/dapr");

/** What arrived, by "<app>:<topic or binding>". */
const arrived = new Proxy({}, { get: (all, key) => (all[key] ??= []) });

async function serve(name, protocol, port, daprPort) {
  const server = new DaprServer({
    serverHost: "127.0.0.1",
    serverPort: port,
    communicationProtocol: protocol,
    clientOptions: { daprHost: "127.0.0.1", daprPort, communicationProtocol: protocol },
    logger: { level: LogLevel.Error },
  });
  const note = (key) => async (data) => {
    arrived[`${name}:${key}`].push(data);
  };
  await server.pubsub.subscribe("pubsub", "orders", note("orders"));
  await server.pubsub.subscribeBulk("pubsub", "heaps", note("heaps"), { maxMessagesCount: 10, maxAwaitDurationMs: 100 });
  await server.pubsub.subscribe("pubsub", "unsteady", async (data) => {
    arrived[`${name}:unsteady`].push(data);
    // The first delivery is refused and must come again.
    return arrived[`${name}:unsteady`].length === 1 ? DaprPubSubStatusEnum.RETRY : DaprPubSubStatusEnum.SUCCESS;
  });
  await server.pubsub.subscribeWithOptions("pubsub", "broken", {
    callback: async () => DaprPubSubStatusEnum.DROP,
    deadLetterTopic: "graveyard",
  });
  await server.pubsub.subscribe("pubsub", "graveyard", note("graveyard"));
  await server.pubsub.subscribe("pubsub", "routed", note("routed-default"), {
    default: "/routed-default",
    rules: [{ match: `event.type == "special"`, path: "/routed-special" }],
  });
  server.pubsub.subscribeToRoute("pubsub", "routed", "/routed-special", note("routed-special"));
  await server.binding.receive("tick", note("tick"));
  await server.invoker.listen(
    "echo",
    async (call) => ({ app: name, body: JSON.parse(call.body || "null"), content: call.metadata?.contentType }),
    { method: HttpMethod.POST },
  );
  await server.start();
}

async function start() {
  const env = process.env;
  await Promise.all([
    serve("one", CommunicationProtocolEnum.HTTP, env.APP_PORT, env.DAPR_HTTP_PORT),
    serve("two", CommunicationProtocolEnum.GRPC, env.TWO_APP_PORT, env.TWO_GRPC_PORT),
  ]);
}

module.exports = { arrived, start };
