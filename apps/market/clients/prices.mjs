// Prints the pipeline's prices as they come: `node prices.mjs [count]`, with gRPC-Web at VIRTUFIN_API_GRPC_WEB
// (http://localhost:5003).
//
// Needs the packages below sdks/typescript, which `cargo xtask sdks --test` builds; run it in that folder.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const here = createRequire(`${process.cwd()}/package.json`);
const load = (name) => import(pathToFileURL(here.resolve(name)).href);
const { GatewayClient } = await load("virtufin-gateway");

const gateway = new URL(process.env.VIRTUFIN_API_GRPC_WEB ?? "http://localhost:5003");
const topics = ["binance", "alpaca"].map((exchange) => `act.exchange.${exchange}.ticker.update`);
let count = Number(process.argv[2] ?? Number.MAX_SAFE_INTEGER);
const client = new GatewayClient({ host: gateway.hostname, port: Number(gateway.port) });
for await (const event of client.subscribe(topics)) {
  const { ticks } = JSON.parse(new TextDecoder().decode(event.data));
  for (const tick of ticks) console.log(event.topic, tick.symbol, tick.price, tick.average);
  count -= ticks.length;
  if (count <= 0) break;
}
process.exit(0);
