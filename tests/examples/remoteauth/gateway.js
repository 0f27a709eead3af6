// A gateway in a few lines, as docs/vault.md describes its HTTP API: one session, in memory. `faults` go before.
const { createHash, createHmac } = require('node:crypto');
const { once } = require('node:events');
const { createServer } = require('node:http');

const SECRET = 'a secret of the tests';
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

class Gateway {
  generations = [];
  deleted = null;
  fence = 1000;
  gone = 0;
  calls = []; // of each: method, path, headers, body
  faults = []; // functions of request and response; true: it has answered
  skipped = [];
  browser = '';
  backend = '';

  async open() {
    this.server = createServer((request, response) => this.#answer(request, response, false));
    this.server.on('checkContinue', (request, response) => this.#answer(request, response, true));
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  async close() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  /** Answers the next `times` calls, or those of one method, in place of the gateway. */
  fail(status, { times = 1, method, headers = {}, body = '' } = {}) {
    this.faults.push((request, response) => {
      if (!times || (method && request.method !== method)) return false;
      times -= 1;
      response.writeHead(status, headers).end(body);
      return true;
    });
  }

  count(method) {
    return this.calls.filter((call) => call.method === method).length;
  }

  async #answer(request, response, waits) {
    const call = { method: request.method, path: request.url, headers: request.headers };
    this.calls.push(call);
    request.on('error', () => {});
    for (const fault of this.faults) if (await fault(request, response)) return;
    const problem = this.#problem(call);
    if (problem) return this.#say(response, problem[0], { detail: problem[1], reason: problem[2] }, problem[2]);
    if (waits) response.writeContinue();
    call.body = Buffer.concat(await request.toArray().catch(() => []));
    this[request.method](call, response);
  }

  #problem({ method, path, headers }) {
    const { 'x-sluice-timestamp': at, 'x-sluice-fence': fence = '', 'x-sluice-content-sha256': digest = sha256('') } = headers;
    const text = `v1\n${at}\n${method}\n${path}\n${fence}\n${digest}`;
    const right = createHmac('sha256', SECRET).update(text).digest('hex');
    if (headers['x-sluice-signature'] !== `v1=${right}` || Math.abs(Date.now() / 1000 - at) > 300) return [401, 'unproven'];
    if (method !== 'PUT' && method !== 'DELETE') return null;
    if (Number(fence) < this.fence) return [409, 'a later start', 'stale'];
    return method === 'PUT' && Number(fence) <= this.gone ? [409, 'deleted since', 'deleted'] : null;
  }

  #say(response, status, fields, reason) {
    const headers = reason ? { 'X-Sluice-Reason': reason } : {};
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(fields));
  }

  get newest() {
    return this.deleted ? undefined : this.generations.at(-1);
  }

  #tag() {
    return { ETag: `"${this.generations.length}"` };
  }

  POST(call, response) {
    const { newest, deleted, skipped, browser, backend } = this;
    const generation = newest ? this.generations.length : null;
    this.#say(response, 200, { fence: String(++this.fence), generation, deleted, skipped, browser, backend });
  }

  HEAD(call, response) {
    if (!this.newest) return this.#say(response, 404, {}, this.deleted ? 'deleted' : 'none');
    return response.writeHead(200, this.#tag()).end();
  }

  GET(call, response) {
    if (!this.newest) return this.#say(response, 404, {}, 'none');
    const zip = this.newest;
    const headers = { ...this.#tag(), 'Content-Length': zip.length, 'X-Sluice-Content-SHA256': sha256(zip) };
    return response.writeHead(200, headers).end(zip);
  }

  PUT(call, response) {
    const since = this.#problem(call); // once more, as time has passed
    if (since) return this.#say(response, since[0], { reason: since[2] });
    if (sha256(call.body) !== call.headers['x-sluice-content-sha256']) return this.#say(response, 400, { detail: 'cut' });
    this.generations.push(call.body);
    this.deleted = null;
    return this.#say(response, 201, { generation: this.generations.length, size: call.body.length, new: 1 });
  }

  DELETE(call, response) {
    const known = this.generations.length > 0;
    this.gone = this.fence;
    this.deleted ??= known ? Date.now() / 1000 : null;
    this.#say(response, 200, { deleted: known });
  }
}

module.exports = { Gateway, SECRET, sha256 };
