// A worker for Sluice: plain Node 20 around the unmodified whatsapp-web.js client. docs/workers.md explains each step.
import { createHmac, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import QRCode from 'qrcode';
import wwebjs from 'whatsapp-web.js';

const { GATEWAY, ID, PORT, SECRET, URL: url = `http://127.0.0.1:${PORT}`, CLIENT = '{}' } = process.env;
// By id: the sessions that run here; and `over`, the fences of former ones, of which the next beat tells.
const sessions = new Map(), over = { gone: {}, released: {} }, api = '/_sluice/workers', method = 'POST';
// Of sends: what was answered, by the id that the gateway has given; and that id by WhatsApp's. `last`: the newest one.
const sends = Object.assign(new Map(), { last: null }), given = new Map();
// `beat` in seconds, `sent` and `deadline` by `now()`. `above`: creates under fences up to it came too late.
let registered = false, draining = false, beat = 2, above = 0, sent = 0, deadline = 0;
const now = () => performance.now(), unix = () => `${Math.floor(Date.now() / 1000)}`, live = () => now() < deadline;
const instance = randomUUID(), hmac = (text) => createHmac('sha256', SECRET).update(text).digest('hex');

async function call(path, fields) { // signed over method and path, too
  const body = JSON.stringify({ instance, ...fields }), at = unix();
  const headers = { 'X-Sluice-Timestamp': at, 'X-Sluice-Signature': `v1=${hmac(`v1\n${at}\nPOST\n${path}\n${body}`)}` };
  const answer = await fetch(GATEWAY + path, { method, body, headers, signal: AbortSignal.timeout(beat * 1500) });
  if (answer.status === 409) registered = deadline = 0; // it is not ours any more: everything stops
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

function emit(id, { fence }, event, data) { // only while it is ours, and under the fence that it runs under
  if (sessions.get(id)?.fence !== fence || !live()) return;
  const body = JSON.stringify({ event, data: { session_id: id, ...data } }), at = unix();
  const headers = { 'X-Timestamp': at, 'X-HMAC-Signature': hmac(at + body), 'X-Sluice-Fence': fence };
  fetch(`${GATEWAY}/api/whatsapp/webhooks/webjs`, { method, body, headers }).catch(console.error);
}

function start(id, fence) {
  const client = new wwebjs.Client({ ...JSON.parse(CLIENT), authStrategy: new wwebjs.LocalAuth({ clientId: id }) });
  const session = Object.defineProperty({ fence, state: 'starting' }, 'client', { value: client }); // not reported
  const on = (name, event, state, about) => client.on(name, async (what) => {
    const data = await about(what);
    Object.assign(session, state && { state, phone: data.phone_number ?? session.phone, reason: data.reason });
    emit(id, session, event, { status: state, ...data });
  });
  on('qr', 'qr_code_generated', 'qr_scanning', async (qr) => ({ qr_code: await QRCode.toDataURL(qr), expires_in: 60 }));
  on('ready', 'session_ready', 'connected', () => ({ phone_number: client.info.wid.user }));
  on('disconnected', 'session_disconnected', 'disconnected', (reason) => ({ reason }));
  on('message', 'message_received', null, ({ id, from, body }) => ({ message: { id: id._serialized, from, body } }));
  on('message_ack', 'message_status_updated', null, async ({ id: { _serialized: id }, ack }) => {
    await Promise.allSettled([sends.last]); // it may be a receipt of that one, whose id is not known yet
    const status = ['pending', 'sent', 'delivered', 'read'][ack];
    return { message_id: given.get(id) ?? id, status, ack_level: ack + 1 };
  });
  client.initialize().catch((error) => Object.assign(session, { state: 'failed', reason: `${error}`.slice(0, 200) }));
  sessions.set(id, session);
}

function send(session, own, { session_id: id, recipient_phone: phone, message: body }) { // what has an id only once
  if (own && sends.has(own)) return sends.get(own);
  sends.last = session.client.sendMessage(`${phone}@c.us`, body).then(({ id: { _serialized: its }, timestamp }) => {
    if (own) given.set(its, own);
    const message = { id: own ?? its, to: `${phone}@c.us`, body, timestamp, from_me: true };
    emit(id, session, 'message_sent', { message });
    return { message_id: message.id, timestamp };
  });
  if (own) sends.set(own, sends.last);
  for (const kept of [sends, given]) if (kept.size > 1000) kept.delete(kept.keys().next().value);
  return sends.last;
}

async function stop(id) {
  const { client } = sessions.get(id) ?? {};
  sessions.delete(id); // first: nothing is sent or answered for it from now on
  await client?.destroy().catch(() => client.pupBrowser?.process()?.kill('SIGKILL'));
}

async function tell() { // one beat: what runs here; its answer is what shall run here
  const told = Object.fromEntries(sessions), ended = structuredClone(over), begun = (sent = now());
  const about = { sessions: told, ...ended, draining, creates_above: above };
  const { lease, sessions: given, creates_above } = await call(`${api}/${ID}/beat`, about);
  [above, deadline] = [creates_above, begun + (lease * 1000 * 5) / 6]; // a margin early
  for (const kind in ended) for (const id in ended[kind]) delete over[kind][id];
  for (const id in told) if (given[id] !== told[id].fence || told[id].state === 'failed') await stop(id);
  for (const id in given) if (!sessions.has(id) && !draining && !over.gone[id]) start(id, given[id]);
}

async function answer({ method: verb, url: path, headers }, text) { // a status, and fields
  const [, , what, last] = path.split('?')[0].split('/'), said = text ? JSON.parse(text) : {};
  const id = said.session_id ?? last, fence = Number(headers['x-sluice-fence']), creates = what === 'sessions' && !last;
  if (verb === 'POST' && creates && live() && !draining && fence > above && !sessions.has(id)) start(id, fence);
  const session = sessions.get(id), about = { success: true, session_id: id };
  if (session?.fence !== fence || !live()) return [421, { error: 'not the owner' }];
  if (verb === 'DELETE') await stop(id).then(() => (over.gone[id] = fence));
  if (what === 'messages' && verb === 'POST')
    return [200, { ...about, ...(await send(session, headers['x-sluice-message-id'], said)) }];
  return [200, { ...about, status: session.state, phone_number: session.phone }];
}

createServer(async (request, response) => {
  const answered = answer(request, `${Buffer.concat(await request.toArray())}`);
  const [status, fields] = await answered.catch((error) => [500, { error: error.message }]);
  response.writeHead(status).end(JSON.stringify(fields));
}).listen(PORT);
process.once('SIGTERM', () => (draining = true));
setInterval(() => live() || [...sessions.keys()].forEach(stop), 100); // before others may have them
while (!draining || live()) {
  try {
    registered ||= ({ beat, creates_above: above } = await call(api, { id: ID, url, capacity: 10, takes_ids: true }));
    await tell();
    if (!draining) await call(`${api}/${ID}/wait`, { since: (now() - sent) / 1000, seconds: beat });
    else if (!sessions.size) break;
    else for (const [id, { fence }] of [[...sessions][0]]) await stop(id).then(() => (over.released[id] = fence));
  } catch (error) {
    await new Promise((done) => setTimeout(done, beat * 200, console.error(error.message)));
  }
}
await call(`${api}/${ID}/leave`, {}).catch(console.error).finally(process.exit);
