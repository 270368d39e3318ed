// Prints the versions of BullMQ and of what it runs on.
import { readFileSync } from "node:fs";

const bullmq = JSON.parse(readFileSync(new URL("node_modules/bullmq/package.json", import.meta.url)));
const on = process.versions.bun ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`;
console.log(`bullmq ${bullmq.version}, ${on}`);
