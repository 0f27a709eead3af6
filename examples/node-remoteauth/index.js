'use strict';
// The store for RemoteAuth of whatsapp-web.js that keeps logins in the vault of Sluice. docs/vault.md has the HTTP API.
//
// A throw from `save` or `delete` ends Node with all its sessions, and leaves a client that can no longer be stopped:
// both resolve, whatever happens, and tell `onProblem`. RemoteAuth deletes the local profile right after
// `sessionExists`, so that one throws rather than guess: `false` means that the vault said so.
const { createHash, createHmac } = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const os = require('node:os');
const path = require('node:path');
const { Transform } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const { setTimeout: sleep } = require('node:timers/promises');

const NAME = /^RemoteAuth(?:-([-_A-Za-z0-9]{1,200}))?$/;
const PREFIX = '.sluice-'; // of our own files in dataPath
const TRIES = 5;
const MAX_PAUSE = 10_000; // milliseconds between two tries
const MAX_ZIP = 2 ** 30; // bytes; the vault keeps profiles of 512 MiB
const MAX_TEXT = 64 * 1024; // bytes of an answer that is not a zip
const MAX_TIMEOUT = 600_000;
const TRANSFER = 10; // times `timeout`: how long a zip may be under way
const CONTINUE = 1000; // milliseconds until a body is sent, although nobody has asked for it
const AGAIN = new Set([401, 403, 408, 421, 425, 429]); // and all from 500 on
const NOBODY = 'nobody'; // in place of a login folder that there is not
const NOTHING = createHash('sha256').digest('hex');

class Problem extends Error {
  constructor(reason, detail) {
    super(detail);
    this.reason = reason;
  }
}

class SluiceStore {
  #url;
  #secret;
  #dataPath;
  #onProblem;
  #pause;
  #timeout;
  #copies = 0;
  #sessions = new Map();

  constructor({ url, secret, dataPath = './.wwebjs_auth/', onProblem = complain, pause = 1e3, timeout = 120e3 } = {}) {
    this.#url = addressOf(url);
    need(typeof secret === 'string' && secret, 'secret', 'that of the signature in sessions.vault.verify');
    need(typeof onProblem === 'function', 'onProblem', 'a function');
    need(pause > 0 && pause <= MAX_PAUSE, 'pause', `1 to ${MAX_PAUSE} milliseconds`);
    need(timeout > 0 && timeout <= MAX_TIMEOUT, 'timeout', `1 to ${MAX_TIMEOUT} milliseconds`);
    this.#secret = secret;
    this.#dataPath = path.resolve(dataPath);
    this.#onProblem = onProblem;
    this.#pause = pause;
    this.#timeout = timeout;
    fs.mkdirSync(this.#dataPath, { recursive: true }); // RemoteAuth does not, where the vault has the session
  }

  /** Is there a login? The first call of a process is a start: it takes the session's fence from whoever had it. */
  async sessionExists({ session }) {
    const known = this.#known(session);
    try {
      const login = await loginFolderOf(known.profile);
      known.fresh = !known.fence || isNew(login, known);
      if (known.fresh) return await this.#start(known);
      known.seen = login ?? known.seen;
      return await this.#look(known);
    } catch (error) {
      // After `ready` nobody catches: a throw would end all sessions. Nothing is deleted for a true one that runs.
      if (!known.fence || !(await isInUse(known.profile))) throw error;
      this.#tell(known.name, 'sessionExists', 'unknown', `${error.message}; the next save finds out`);
      return true;
    }
  }

  /** The zip that RemoteAuth has just made, as a new generation. Never throws. */
  async save({ session }) {
    await this.#guard(session, 'save', async (known) => {
      await this.#check(known);
      const copy = await this.#copy(known, session);
      if (known.waiting) {
        fs.renameSync(copy, known.waiting.copy); // it is newer, and the upload of the other one has not begun
        return known.waiting.done;
      }
      const done = known.saving.then(() => {
        known.waiting = null;
        return this.#upload(known, copy).finally(() => fs.promises.rm(copy, { force: true }));
      });
      known.waiting = { copy, done };
      known.saving = done.catch(() => {});
      return done;
    });
  }

  /** Writes the zip to `path`, whole or not at all. Throws. */
  async extract({ session, path: target }) {
    const known = this.#known(session);
    const part = path.join(path.dirname(path.resolve(target)), `${PREFIX}${known.folder}.${++this.#copies}.zip`);
    await fs.promises.mkdir(path.dirname(part), { recursive: true });
    try {
      if (!known.fresh) await this.#start(known); // only a start extracts
      known.fresh = false;
      const headers = known.generation && { 'If-Match': `"${known.generation}"` };
      const answer = await this.#again(() => this.#call('GET', known, headers ?? {}, { into: part }));
      if (answer.status !== 200) throw unexpected(answer);
      await fs.promises.rename(part, target);
      known.seen = null;
    } finally {
      await fs.promises.rm(part, { force: true });
    }
  }

  /** A logout: the login counts no more; a person can still bring it back. Never throws. */
  async delete({ session }) {
    await this.#guard(session, 'delete', async (known) => {
      const login = await loginFolderOf(known.profile);
      if (!known.fence) await this.#start(known);
      if (known.refused === 'stale') throw refusal('stale', known.name);
      known.seen = login ?? NOBODY;
      known.refused = 'deleted'; // from now on: what is saved meanwhile is of the login that ends
      const answer = await this.#again(() => this.#call('DELETE', known, { 'X-Sluice-Fence': known.fence }));
      if (answer.status !== 200) throw this.#refused(known, answer);
    });
  }

  #known(session) {
    const folder = path.basename(String(session));
    const named = NAME.exec(folder);
    if (!named) throw new Problem('name', `${JSON.stringify(session)} is no session's name of RemoteAuth`);
    if (!this.#sessions.has(folder)) {
      const profile = path.join(this.#dataPath, folder);
      const saves = { refused: '', seen: null, saving: Promise.resolve(), waiting: null };
      const start = { fence: '', fresh: false, generation: null, browser: '', backend: '' };
      this.#sessions.set(folder, { folder, name: named[1] ?? folder, profile, ...start, ...saves });
    }
    return this.#sessions.get(folder);
  }

  /** Takes the next fence. The gateway has read and checked the generation that it names. */
  async #start(known) {
    if (!known.fence) await this.#sweep(known);
    const answer = await this.#again(() => this.#call('POST', known));
    const { fence, generation, deleted, browser, backend, skipped } = answer.said;
    const whole = /^\d{1,20}$/.test(fence) && (generation === null || Number.isSafeInteger(generation));
    if (answer.status !== 200 || !whole) throw unexpected(answer);
    const kept = deleted === null || deleted === undefined ? generation : null;
    const by = { browser: String(browser ?? ''), backend: String(backend ?? '') };
    Object.assign(known, { fence, generation: kept, ...by, refused: '', seen: null });
    for (const one of Array.isArray(skipped) ? skipped : []) this.#tell(known.name, 'sessionExists', 'skipped', one);
    return kept !== null;
  }

  async #look(known) {
    const answer = await this.#again(() => this.#call('HEAD', known));
    if (answer.status === 200) return true;
    // Whatever stands between may answer 404, too.
    if (answer.status === 404 && ['none', 'deleted'].includes(answer.headers['x-sluice-reason'])) return false;
    throw unexpected(answer);
  }

  /** May this profile be saved? Only that of the start, and not of a browser that may have dropped what was there. */
  async #check(known) {
    const login = await loginFolderOf(known.profile);
    if (!known.fence || isNew(login, known)) await this.#start(known);
    known.seen = login ?? known.seen;
    if (known.refused) throw refusal(known.refused, known.name);
    const [browser, backend] = [await versionOf(known.profile), await backendOf(known.profile)];
    const older = majorOf(browser) < majorOf(known.browser);
    if (!older && (!backend || !known.backend || backend === known.backend)) return;
    const [here, kept] = older ? [browser, known.browser] : [`a browser with ${backend}`, `one with ${known.backend}`];
    const cure = `run such a one here, or delete the login (sluice vault delete ${known.name}) and log in again`;
    throw new Problem('other browser', `${here} may have dropped what ${kept} had written: ${cure}`);
  }

  /** RemoteAuth deletes its zip, or begins the next one, whenever it likes; up to 1.34.6 it must stay where it is. */
  async #copy(known, session) {
    const zip = await newestOf([
      ...(path.isAbsolute(session) ? [`${session}.zip`] : []),
      path.join(this.#dataPath, `${known.folder}.zip`),
      path.resolve(`${known.folder}.zip`),
    ]);
    const cure = `give the store the dataPath of RemoteAuth`;
    if (!zip) throw new Problem('no zip', `there is no ${known.folder}.zip in ${this.#dataPath}: ${cure}`);
    const copy = path.join(this.#dataPath, `${PREFIX}${known.folder}.${++this.#copies}.zip`);
    try {
      await fs.promises.copyFile(zip, copy, fs.constants.COPYFILE_FICLONE);
      await fs.promises.chmod(copy, 0o600);
    } catch (error) {
      await fs.promises.rm(copy, { force: true });
      throw error;
    }
    return copy;
  }

  async #upload(known, copy) {
    if (known.refused) throw refusal(known.refused, known.name);
    const hash = createHash('sha256');
    await pipeline(fs.createReadStream(copy), hash);
    const body = { file: copy, size: (await fs.promises.stat(copy)).size, sha256: hash.digest('hex') };
    const browser = await versionOf(known.profile);
    const host = os.hostname().replace(/[^ -~]/g, '?');
    const about = { 'X-Sluice-Browser': browser, 'X-Sluice-Client': client(), 'X-Sluice-Host': host };
    const headers = { 'X-Sluice-Fence': known.fence, ...about };
    const answer = await this.#again(() => this.#call('PUT', known, headers, { body }));
    if (answer.status !== 201) throw this.#refused(known, answer);
    known.browser = browser || known.browser;
  }

  #refused(known, answer) {
    const { reason } = answer.said;
    if (answer.status !== 409 || !['stale', 'deleted'].includes(reason)) return unexpected(answer);
    known.refused = reason;
    return refusal(reason, known.name);
  }

  /** What a worker that was killed has left. */
  async #sweep({ folder }) {
    const found = await fs.promises.readdir(this.#dataPath);
    const left = found.filter((name) => name.startsWith(`${PREFIX}${folder}.`));
    await Promise.all(left.map((name) => fs.promises.rm(path.join(this.#dataPath, name), { force: true })));
  }

  async #guard(session, what, act) {
    try {
      await act(this.#known(session));
    } catch (error) {
      const { name } = this.#sessions.get(path.basename(String(session))) ?? { name: String(session) };
      this.#tell(name, what, error.reason ?? 'failed', error.message);
    }
  }

  #tell(session, what, reason, detail) {
    Promise.resolve({ session, what, reason, detail }).then(this.#onProblem).catch(complain);
  }

  /** The first answer that another try would not change. Throws after the last try. */
  async #again(act) {
    for (let tries = 1, pause = this.#pause; ; tries++, pause *= 2) {
      let failure, later;
      try {
        const answer = await act();
        if (answer.status < 500 && !AGAIN.has(answer.status)) return answer;
        failure = unexpected(answer);
        later = 1000 * Number(answer.headers['retry-after']);
      } catch (error) {
        failure = error;
      }
      if (tries === TRIES) throw failure;
      await sleep(Math.min(Math.max(pause, later || 0), MAX_PAUSE));
    }
  }

  /** One exchange: its status and headers, and what its JSON says. With `into`, the zip lies there when it was 200. */
  async #call(method, known, headers = {}, { body, into } = {}) {
    const url = new URL(`${this.#url.pathname}_sluice/vault/${known.name}`, this.#url);
    const signed = this.#sign(method, url.pathname, headers['X-Sluice-Fence'] ?? '', body?.sha256 ?? NOTHING);
    const all = { ...headers, ...signed };
    if (body) Object.assign(all, { Expect: '100-continue', 'Content-Type': 'application/zip' });
    if (body) Object.assign(all, { 'Content-Length': body.size, 'X-Sluice-Content-SHA256': body.sha256 });
    const signal = AbortSignal.timeout(this.#timeout * (body || into ? TRANSFER : 1));
    const open = url.protocol === 'https:' ? https.request : http.request;
    const request = open(url, { method, headers: all, agent: false, signal });
    request.on('error', () => {}); // whoever waits for the answer hears of it, too
    let silent = false;
    request.setTimeout(this.#timeout, () => request.destroy((silent = new Error('silence'))));
    try {
      const answered = once(request, 'response');
      if (body) {
        const wanted = [once(request, 'continue'), sleep(CONTINUE, null, { ref: false })];
        const refused = await Promise.race([answered.then(() => true), ...wanted.map((one) => one.then(() => false))]);
        if (!refused) pipeline(fs.createReadStream(body.file), request).catch(() => {});
      } else {
        request.end();
      }
      const [response] = await answered;
      const { statusCode: status, headers: heads } = response;
      const zipped = into && status === 200;
      if (zipped) await receive(response, into);
      return { status, headers: heads, said: zipped ? {} : await jsonOf(response), call: `${method} ${url}` };
    } catch (error) {
      const why = silent ? `it was silent for ${this.#timeout / 1000} s` : error.message || error.code;
      throw new Error(`${method} ${url}: ${signal.aborted ? 'it took too long' : why}`);
    } finally {
      request.destroy();
    }
  }

  #sign(method, target, fence, sha256) {
    const at = Math.floor(Date.now() / 1000);
    const text = ['v1', at, method, target, fence, sha256].join('\n');
    const digest = createHmac('sha256', this.#secret).update(text).digest('hex');
    return { 'X-Sluice-Timestamp': at, 'X-Sluice-Signature': `v1=${digest}` };
  }
}

function addressOf(url) {
  const address = /^https?:\/\//.test(url) && new URL(url);
  need(address, 'url', 'where Sluice answers, as http://127.0.0.1:8080');
  if (!address.pathname.endsWith('/')) address.pathname += '/';
  return address;
}

function need(holds, name, what) {
  if (!holds) throw new TypeError(`SluiceStore: \`${name}\` is ${what}`);
}

/** Another browser began with another folder. One that is missing says nothing: RemoteAuth removes it at a logout. */
function isNew(login, { seen }) {
  return Boolean(login && seen) && login !== seen;
}

/** Which one it is. RemoteAuth makes a folder of that name at each start, and a browser never makes it a second time:
 * where it is removed below a browser that goes on running, as at a logout, no other one comes. */
async function loginFolderOf(profile) {
  const folder = path.join(profile, 'Default', 'Local Storage');
  const found = await fs.promises.stat(folder, { bigint: true }).catch(() => null);
  return found && `${found.dev}.${found.ino}.${found.birthtimeNs}`;
}

/** Does a browser run on this profile, on this machine? */
async function isInUse(profile) {
  const lock = await fs.promises.readlink(path.join(profile, 'SingletonLock')).catch(() => '');
  const [, host, pid] = /^(.*)-(\d+)$/.exec(lock) ?? [];
  if (!pid) return fs.existsSync(path.join(profile, 'lockfile')); // Windows, where it goes with the browser
  try {
    return host === os.hostname() && process.kill(Number(pid), 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Of the browser that runs there, as each Chromium notes it; which product it is, is not noted. */
async function versionOf(profile) {
  const said = await fs.promises.readFile(path.join(profile, 'Last Version'), 'utf8').catch(() => '');
  return /^[\d.]{1,50}$/.test(said.trim()) ? said.trim() : '';
}

/** How it keeps IndexedDB; one that does it otherwise deletes what it finds. Empty: there is none yet. */
async function backendOf(profile) {
  const names = await fs.promises.readdir(path.join(profile, 'Default', 'IndexedDB')).catch(() => []);
  if (names.some((name) => name.endsWith('.indexeddb.leveldb'))) return 'leveldb';
  return names.some((name) => /^https_.*_\d+$/.test(name)) ? 'sqlite' : '';
}

/** NaN, which is less than nothing, where there is none. */
function majorOf(browser) {
  return Number(/\d+/.exec(browser)?.[0]);
}

function client() {
  try {
    const found = require.resolve('whatsapp-web.js/package.json', { paths: [process.cwd(), __dirname] });
    return `whatsapp-web.js ${require(found).version}`;
  } catch {
    return '';
  }
}

async function newestOf(files) {
  const changed = (file) => fs.promises.stat(file).then(({ mtimeMs }) => ({ file, mtimeMs }), () => null);
  const found = (await Promise.all(files.map(changed))).filter(Boolean);
  return found.sort((a, b) => b.mtimeMs - a.mtimeMs)[0]?.file;
}

/** The zip, of the length and with the hash that its head names. */
async function receive(response, file) {
  const { 'content-length': length, 'x-sluice-content-sha256': sha256 } = response.headers;
  if (!(Number(length) <= MAX_ZIP) || !sha256) throw new Error('the answer does not say its length or hash');
  const hash = createHash('sha256');
  const hashed = new Transform({ transform: (data, _, done) => done(null, (hash.update(data), data)) });
  await pipeline(response, hashed, fs.createWriteStream(file, { mode: 0o600 }));
  if (hash.digest('hex') !== sha256) throw new Error('the zip was changed or cut on its way');
}

async function jsonOf(response) {
  const parts = [];
  let size = 0;
  for await (const part of response) {
    if ((size += part.length) > MAX_TEXT) throw new Error(`${response.statusCode} with over ${MAX_TEXT} bytes`);
    parts.push(part);
  }
  try {
    return Object(JSON.parse(Buffer.concat(parts).toString()));
  } catch {
    return {};
  }
}

function unexpected({ status, said, call }) {
  const reasons = { 400: 'broken', 413: 'too large', 507: 'full' };
  return new Problem(reasons[status] ?? 'failed', `${call}: ${status} ${said.detail ?? ''}`.trim());
}

function refusal(reason, name) {
  if (reason === 'stale') return new Problem('stale', `a later start has ${name}: stop it here, or start it again`);
  return new Problem('deleted', `the login of ${name} was deleted; it is saved again when a new browser has logged in`);
}

function complain(problem) {
  console.error('SluiceStore:', problem);
}

module.exports = { SluiceStore };
