// The peer: BullMQ on undici, at the same work. `node bullmq.mjs work|fill SOCKET [PORT]`
import { createHmac } from "node:crypto";
import { createInterface } from "node:readline";
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";
import { Pool } from "undici";

const [what, path, port] = process.argv.slice(2);
const connection = new Redis({ path, maxRetriesPerRequest: null });
const secret = "the-secret-of-the-benchmark";

if (what === "fill") {
  // Bodies come on standard input, a line each, so that both sides send the same bytes.
  const queue = new Queue("events", { connection });
  let jobs = [];
  for await (const body of createInterface({ input: process.stdin })) {
    jobs.push({ name: "message_received", data: { body }, opts: { removeOnComplete: true, attempts: 12 } });
    if (jobs.length === 1000) {
      await queue.addBulk(jobs);
      jobs = [];
    }
  }
  if (jobs.length) await queue.addBulk(jobs);
  await queue.close();
  connection.disconnect();
} else {
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: 50 });
  const worker = new Worker(
    "events",
    async (job) => {
      const { body } = job.data;
      const timestamp = Math.floor(Date.now() / 1000).toString();
      const signature = createHmac("sha256", secret).update(`${timestamp}.${body}`).digest("hex");
      const answer = await pool.request({
        path: "/ok/api/webhooks",
        method: "POST",
        headers: {
          "content-type": "application/json",
          "x-timestamp": timestamp,
          "x-signature": signature,
          "webhook-id": job.id,
        },
        body,
      });
      await answer.body.dump();
      if (answer.statusCode >= 300) throw new Error(`answered ${answer.statusCode}`);
    },
    { connection, concurrency: 50 },
  );
  process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
}
