// BullMQ with its defaults, but for the concurrency; the protocol is that of ../peers/protocol.py.
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Queue, Worker } from "bullmq";

const QUEUES = ["color-extraction", "weather-ingestion", "alert-fanout", "moderation-review"];
const SETTLED = 1_000; // ms that a worker gets before it counts as idle

const text = (value) => ({ type: "string", default: value });
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    redis: text(),
    jobs: text("0"),
    ms: text("0"),
    concurrency: text("10"),
    queues: text("1"),
    pause: text("0"),
    delay: text("0"),
    chunk: text("10000"), // jobs in one bulk call
  },
});
const [jobs, ms, concurrency, queues, pause, delay, chunk] = [
  "jobs",
  "ms",
  "concurrency",
  "queues",
  "pause",
  "delay",
  "chunk",
].map((name) => Number(values[name]));
const connection = { url: values.redis, maxRetriesPerRequest: null };

const say = (fields) => process.stdout.write(JSON.stringify(fields) + "\n");
const clock = process.versions.bun ? await bunClock() : () => Number(process.hrtime.bigint());
const payload = () => (ms ? { ms } : {});

// The machine's monotonic clock, as Python's time.monotonic_ns; that of Bun begins with the process.
async function bunClock() {
  const { dlopen } = await import("bun:ffi");
  const { symbols } = dlopen("libc.so.6", { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } });
  const time = new BigInt64Array(2);
  return () => {
    symbols.clock_gettime(1, time);
    return Number(time[0] * 1_000_000_000n + time[1]);
  };
}

async function handler(job) {
  if (job.data.sent) say({ sent: job.data.sent, at: clock() });
  if (job.data.ms) await sleep(job.data.ms);
}

function worker(name) {
  const made = new Worker(name, handler, { connection, concurrency, autorun: false });
  made.on("error", (error) => console.error(error));
  return made;
}

async function openQueue() {
  const queue = new Queue(QUEUES[0], { connection });
  await queue.waitUntilReady();
  return queue;
}

const verbs = {
  async enqueue() {
    const queue = await openQueue();
    const began = performance.now();
    for (let start = 0; start < jobs; start += chunk) {
      const size = Math.min(chunk, jobs - start);
      await queue.addBulk(Array.from({ length: size }, () => ({ name: "handler", data: payload() })));
    }
    say({ seconds: (performance.now() - began) / 1000 });
  },

  async work() {
    const ours = worker(QUEUES[0]);
    await ours.waitUntilReady();
    let left = jobs;
    const done = new Promise((resolve) => ours.on("completed", () => --left || resolve()));
    const began = performance.now();
    ours.run();
    await done; // "completed" comes once Redis has recorded it
    say({ seconds: (performance.now() - began) / 1000 });
  },

  async serve() {
    const workers = QUEUES.slice(0, queues).map(worker);
    for (const each of workers) each.run();
    await sleep(SETTLED);
    say({ ready: true });
    for await (const _ of process.stdin);
  },

  async send() {
    const queue = await openQueue();
    for (let sent = 0; sent < jobs; sent++) {
      await sleep(pause * 1000);
      const due = clock() + delay * 1e9;
      await queue.add("handler", { ...payload(), sent: due }, { delay: delay * 1000 });
    }
  },
};

await verbs[positionals[0]]();
process.exit(0);
