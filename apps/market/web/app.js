// Prices as they come from the gateway, by gRPC-Web.
import { subscribe } from "/grpcweb.js";

const MINUTE = 60_000;
const POINTS = 120;
const AGES = 2_000;

const at = (id) => document.getElementById(id);
const rows = new Map();
const ages = [];
const seen = new Map();
let ticks = 0;
let missing = 0;
let lastTicks = 0;

function live(state, words) {
  at("live").dataset.state = state;
  at("live").textContent = words;
}

function row(exchange, symbol) {
  const key = `${exchange}/${symbol}`;
  if (rows.has(key)) return rows.get(key);
  let section = document.querySelector(`[data-exchange="${exchange}"]`);
  if (!section) {
    section = at("exchange").content.firstElementChild.cloneNode(true);
    section.dataset.exchange = exchange;
    section.querySelector("h2").textContent = exchange;
    at("exchanges").append(section);
  }
  const line = at("row").content.firstElementChild.cloneNode(true);
  line.dataset.symbol = symbol;
  line.querySelector(".symbol").textContent = symbol;
  section.querySelector("tbody").append(line);
  const made = { line, points: [], price: 0, average: 0, changed: false };
  rows.set(key, made);
  return made;
}

/** Counts trade numbers that were passed over; false for one that was there already. */
function count(exchange, symbol, id) {
  const key = `${exchange}/${symbol}`;
  const known = seen.get(key) ?? { next: id, open: new Set() };
  seen.set(key, known);
  if (id < known.next) {
    if (!known.open.delete(id)) return false;
    missing -= 1;
    return true;
  }
  // Far ahead is another run of the exchange, or a tab that slept: no list of what was not seen.
  if (id - known.next > 100_000) {
    missing -= known.open.size;
    known.open.clear();
    known.next = id;
  }
  for (; known.next < id; known.next += 1) {
    known.open.add(known.next);
    missing += 1;
  }
  known.next = id + 1;
  return true;
}

function show(result) {
  const now = Date.now();
  for (const tick of result.ticks) {
    if (!count(result.exchange, tick.symbol, tick.trade_id)) continue;
    ticks += 1;
    ages.push(now - tick.time_ns / 1e6);
    if (ages.length > AGES) ages.shift();
    const line = row(result.exchange, tick.symbol);
    const price = Number(tick.price);
    line.up = price > line.price;
    line.price = price;
    line.average = tick.average;
    line.changed = true;
    const last = line.points.at(-1);
    // Half a second is one point; a minute is what is drawn.
    if (!last || now - last.at >= MINUTE / POINTS) line.points.push({ at: now, price, average: tick.average });
    while (line.points.length && now - line.points[0].at > MINUTE) line.points.shift();
  }
}

function draw() {
  for (const line of rows.values()) {
    if (!line.changed) continue;
    line.changed = false;
    const price = line.line.querySelector(".price");
    price.textContent = line.price.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 8 });
    price.className = `price ${line.up ? "up" : "down"}`;
    setTimeout(() => (price.className = "price"), 120);
    line.line.querySelector(".average").textContent = line.average.toFixed(2);
    const all = line.points.flatMap((point) => [point.price, point.average]);
    const low = Math.min(...all);
    const span = Math.max(...all) - low || 1;
    const now = Date.now();
    const path = (name) =>
      line.points
        .map((point) => `${240 - ((now - point.at) / MINUTE) * 240},${34 - ((point[name] - low) / span) * 32}`)
        .join(" ");
    line.line.querySelector(".line").setAttribute("points", path("price"));
    line.line.querySelector(".mean").setAttribute("points", path("average"));
  }
}

function sums() {
  at("rate").textContent = ticks - lastTicks;
  lastTicks = ticks;
  at("ticks").textContent = ticks;
  at("missing").textContent = missing;
  if (ages.length) {
    const sorted = [...ages].sort((a, b) => a - b);
    const part = (share) => `${Math.max(0, sorted[Math.floor((sorted.length - 1) * share)]).toFixed(0)} ms`;
    at("p50").textContent = part(0.5);
    at("p99").textContent = part(0.99);
  }
}

const told = await (await fetch("/config.json")).json();
const gateway = told.gateway ?? `${location.protocol}//${location.hostname}:${told.gatewayPort}`;
setInterval(draw, 100);
setInterval(sums, 1_000);
let pause = 250;
for (;;) {
  try {
    const events = subscribe(gateway, told.topics, () => {
      live("live", "live");
      pause = 250;
    });
    for await (const event of events) show(JSON.parse(event.data));
    live("down", "the gateway ended the stream; coming back");
  } catch (error) {
    live("down", `no gateway: ${error.message}`);
  }
  await new Promise((done) => setTimeout(done, pause));
  pause = Math.min(pause * 2, 5_000);
}
