"use strict";
// Named cases: each runs alone, is asserted by itself and says how it ended on a line of its own.

const PATIENCE = 10_000;
const cases = [];

/** The case cannot be run here; the text says why. */
class Skipped extends Error {}

/** Registers a case, which runs in the order of registration. */
function add(name, action) {
  cases.push([name, action]);
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until a condition holds; what it throws on the way only delays it. */
async function eventually(condition, what = "the condition") {
  const deadline = Date.now() + PATIENCE;
  let last;
  while (Date.now() < deadline) {
    try {
      last = await condition();
      if (last) return;
    } catch (error) {
      last = error;
    }
    await pause(50);
  }
  throw new Error(`${what}: not within ${PATIENCE} ms; last seen: ${last}`);
}

/** Fails unless the action does, with one of the parts in its text. Some calls of the SDK return their error. */
async function fails(action, ...parts) {
  let text;
  try {
    const answer = await action();
    if (!answer?.error) throw new Skipped();
    text = String(answer.error);
  } catch (error) {
    if (error instanceof Skipped) throw new Error("it did not fail");
    text = error?.error ? String(error.error) : String(error);
  }
  // In the log, to be compared between sidecars.
  console.error(`refused: ${text}`);
  if (!parts.some((part) => text.includes(part))) throw new Error(`it failed otherwise: ${text}`);
}

function bounded(promise) {
  let timer;
  const hang = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it hangs")), PATIENCE + 5_000);
  });
  return Promise.race([promise, hang]).finally(() => clearTimeout(timer));
}

/** Runs all cases; the number of those that failed. */
async function run() {
  const count = { ok: 0, failed: 0, skipped: 0 };
  for (const [name, action] of cases) {
    try {
      await bounded(action());
      count.ok += 1;
      console.log(`ok ${name}`);
    } catch (error) {
      if (error instanceof Skipped) {
        count.skipped += 1;
        console.log(`skipped ${name}: ${error.message}`);
        continue;
      }
      count.failed += 1;
      console.error(error);
      console.log(`failed ${name}: ${String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 400)}`);
    }
  }
  console.log(`${count.ok} ok, ${count.failed} failed, ${count.skipped} skipped`);
  return count.failed;
}

module.exports = { Skipped, add, eventually, fails, run };
