// The store against a small gateway that follows docs/vault.md. tests/examples/test_remoteauth.py runs this.
const assert = require('node:assert/strict');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { afterEach, beforeEach, describe, it } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { SluiceStore } = require(process.env.STORE);
const { Gateway, SECRET, sha256 } = require('./gateway.js');

const SESSION = { session: 'RemoteAuth-s1' };
let gateway, folder, dataPath, problems, elsewhere;

beforeEach(async () => {
  gateway = await new Gateway().open();
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sluice-store-'));
  dataPath = path.join(folder, 'data');
  elsewhere = process.cwd();
  process.chdir(folder);
  problems = [];
});

afterEach(async () => {
  await gateway.close();
  process.chdir(elsewhere);
  fs.rmSync(folder, { recursive: true });
});

const open = (options = {}) =>
  new SluiceStore({ url: gateway.url, secret: SECRET, dataPath, onProblem: (one) => problems.push(one), pause: 1, ...options });
const profile = () => path.join(dataPath, 'RemoteAuth-s1');
const write = (content, where = dataPath, name = 'RemoteAuth-s1.zip') => fs.writeFileSync(path.join(where, name), content);
const reasons = () => problems.map(({ what, reason }) => `${what}: ${reason}`);

/** What RemoteAuth and a browser do at a start: the old profile goes, a new one comes. */
function browse(version = '156.0.8078.79') {
  if (fs.existsSync(profile())) fs.renameSync(profile(), path.join(folder, `old-${Math.random()}`)); // so that no inode comes twice
  fs.mkdirSync(path.join(profile(), 'Default', 'Local Storage'), { recursive: true });
  fs.writeFileSync(path.join(profile(), 'Last Version'), version);
}

/** As Chromium does, with a process that lives. */
function lock(pid = process.pid, host = os.hostname()) {
  fs.symlinkSync(`${host}-${pid}`, path.join(profile(), 'SingletonLock'));
}

/** A store whose session has started, without a login, and runs a browser. */
async function started(options) {
  const store = open(options);
  assert.equal(await store.sessionExists(SESSION), false);
  browse();
  return store;
}

async function until(holds) {
  for (const deadline = Date.now() + 30_000; !holds(); await sleep(5)) assert.ok(Date.now() < deadline, `${holds}`);
}

async function saved(store, content) {
  write(content);
  await store.save(SESSION);
}

describe('what it is given', () => {
  const options = { url: 'http://127.0.0.1:1', secret: 's', dataPath: os.tmpdir() };
  for (const [wrong, said] of [
    [{ url: undefined }, 'SluiceStore: `url` is where Sluice answers, as http://127.0.0.1:8080'],
    [{ url: 'ftp://host' }, 'SluiceStore: `url` is where Sluice answers, as http://127.0.0.1:8080'],
    [{ secret: '' }, 'SluiceStore: `secret` is that of the signature in sessions.vault.verify'],
    [{ onProblem: 1 }, 'SluiceStore: `onProblem` is a function'],
    [{ pause: 0 }, 'SluiceStore: `pause` is 1 to 10000 milliseconds'],
    [{ timeout: Infinity }, 'SluiceStore: `timeout` is 1 to 600000 milliseconds'],
  ]) {
    it(said, () => assert.throws(() => new SluiceStore({ ...options, ...wrong }), { message: said }));
  }

  it('makes dataPath', () => {
    open();
    assert.ok(fs.statSync(dataPath).isDirectory());
  });

  it('takes only names of RemoteAuth, and never one that is empty', async () => {
    const store = open();
    for (const session of ['', 'RemoteAuth-', '..', 'RemoteAuth-../x', 'RemoteAuth-a b', 's1', undefined]) {
      const expected = { message: `${JSON.stringify(session)} is no session's name of RemoteAuth` };
      await assert.rejects(store.sessionExists({ session }), session === 'RemoteAuth-../x' ? Error : expected);
      await store.save({ session });
      await store.delete({ session });
    }
    assert.deepEqual(new Set(reasons()), new Set(['save: name', 'delete: name']));
    assert.equal(gateway.calls.length, 0);
  });

  it('calls the session by its clientId, and RemoteAuth where there is none', async () => {
    const store = open();
    await store.sessionExists(SESSION);
    await store.sessionExists({ session: 'RemoteAuth' });
    assert.deepEqual(gateway.calls.map((call) => call.path), ['/_sluice/vault/s1', '/_sluice/vault/RemoteAuth']);
  });
});

describe('sessionExists', () => {
  it('takes the fence at the first call, and only looks at later ones', async () => {
    const store = await started();
    await store.sessionExists(SESSION);
    await saved(store, 'one');
    assert.equal(await store.sessionExists(SESSION), true);
    assert.deepEqual(gateway.calls.map((call) => call.method), ['POST', 'HEAD', 'PUT', 'HEAD']);
  });

  for (const status of [302, 400, 401, 403, 404, 500, 502, 503]) {
    it(`throws at a start that is answered ${status}`, async () => {
      gateway.fail(status, { times: Infinity });
      await assert.rejects(open().sessionExists(SESSION), new RegExp(`POST .*/_sluice/vault/s1: ${status}`));
      assert.equal(gateway.calls.length, [302, 400, 404].includes(status) ? 1 : 5);
      assert.deepEqual(problems, []);
    });
  }

  it('throws at a start whose answer says nothing of a generation', async () => {
    gateway.fail(200, { body: '{"status":"ok"}' });
    await assert.rejects(open().sessionExists(SESSION), /POST .*: 200/);
  });

  it('throws when nobody listens', async () => {
    const url = 'http://127.0.0.1:1';
    await assert.rejects(open({ url }).sessionExists(SESSION), /POST http:\/\/127.0.0.1:1\/_sluice\/vault\/s1: .*ECONNREFUSED/);
  });

  it('throws when nobody answers', async () => {
    gateway.faults.push(() => true);
    await assert.rejects(open({ timeout: 50 }).sessionExists(SESSION), /silent for 0.05 s|took too long/);
  });

  it('waits out an outage that ends', async () => {
    gateway.generations.push(Buffer.from('zip'));
    gateway.fail(503, { times: 3, headers: { 'Retry-After': '0' } });
    assert.equal(await open().sessionExists(SESSION), true);
    assert.equal(gateway.count('POST'), 4);
  });

  it('takes no 404 of somebody else for an answer', async () => {
    const store = await started();
    gateway.fail(404, { times: Infinity, body: '<h1>Not Found</h1>' });
    await assert.rejects(store.sessionExists(SESSION), /HEAD .*: 404/);
  });

  it('counts a running session as kept when nobody can say, as a throw would end Node', async () => {
    const store = await started();
    lock();
    gateway.fail(503, { times: Infinity });
    assert.equal(await store.sessionExists(SESSION), true);
    assert.deepEqual(reasons(), ['sessionExists: unknown']);
    assert.match(problems[0].detail, /HEAD .*: 503; the next save finds out/);
  });

  for (const [what, pid, host] of [['has died', 2 ** 22 - 1], ['ran elsewhere', process.pid, 'another.host']]) {
    it(`throws, too, where the browser ${what}`, async () => {
      const store = await started();
      lock(pid, host);
      gateway.fail(503, { times: Infinity });
      await assert.rejects(store.sessionExists(SESSION), /HEAD .*: 503/);
    });
  }

  it('tells which generations were broken', async () => {
    gateway.generations.push(Buffer.from('zip'));
    gateway.skipped = ['generation 2: chunk 1 is missing'];
    assert.equal(await open().sessionExists(SESSION), true);
    assert.deepEqual(problems, [
      { session: 's1', what: 'sessionExists', reason: 'skipped', detail: 'generation 2: chunk 1 is missing' },
    ]);
  });
});

describe('save', () => {
  const places = {
    'up to 1.34.4, in the folder of the process': () => [folder, 'RemoteAuth-s1'],
    '1.34.5 and 1.34.6, by its whole path': () => [dataPath, path.join(dataPath, 'RemoteAuth-s1')],
    '1.34.7, in dataPath': () => [dataPath, 'RemoteAuth-s1'],
  };
  for (const [version, place] of Object.entries(places)) {
    it(`finds the zip of ${version}`, async () => {
      const store = await started();
      const [where, session] = place();
      write(version, where);
      await store.save({ session });
      assert.deepEqual(problems, []);
      assert.equal(String(gateway.newest), version);
      assert.ok(fs.existsSync(path.join(where, 'RemoteAuth-s1.zip')), 'RemoteAuth deletes it itself');
    });
  }

  it('takes the newest of two, not what another version has left', async () => {
    const store = await started();
    write('old');
    fs.utimesSync(path.join(dataPath, 'RemoteAuth-s1.zip'), 1, 1);
    write('new', folder);
    await store.save(SESSION);
    assert.equal(String(gateway.newest), 'new');
  });

  it('says where it has looked', async () => {
    const store = await started();
    await store.save(SESSION);
    const detail = `there is no RemoteAuth-s1.zip in ${dataPath}: give the store the dataPath of RemoteAuth`;
    assert.deepEqual(problems, [{ session: 's1', what: 'save', reason: 'no zip', detail }]);
  });

  it('says what it has saved, and from where', async () => {
    const store = await started();
    await saved(store, 'one');
    const { headers } = gateway.calls.at(-1);
    assert.equal(headers['x-sluice-browser'], '156.0.8078.79');
    assert.equal(headers['x-sluice-host'], os.hostname());
    assert.equal(headers['content-length'], '3');
  });

  it('uploads a copy, so that the next interval may write the zip meanwhile', async () => {
    const store = await started();
    gateway.faults.push(async (request) => {
      if (request.method === 'PUT') write('half of the next');
      return false;
    });
    await saved(store, 'whole');
    assert.equal(String(gateway.newest), 'whole');
    assert.deepEqual(fs.readdirSync(dataPath).sort(), ['RemoteAuth-s1', 'RemoteAuth-s1.zip']);
  });

  it('uploads one at a time, and of those that wait the newest', async () => {
    const store = await started();
    let free, underWay = 0, most = 0;
    const held = new Promise((done) => (free = done));
    gateway.faults.push(async (request, response) => {
      most = Math.max(most, ++underWay);
      response.on('close', () => (underWay -= 1));
      await held;
      return false;
    });
    const copies = () => fs.readdirSync(dataPath).filter((name) => name.startsWith('.'));
    const read = (name) => fs.readFileSync(path.join(dataPath, name), 'utf8');
    const all = [];
    for (const content of ['a', 'b', 'c', 'd']) {
      write(content);
      all.push(store.save(SESSION));
      const copied = () => copies().length <= 2 && copies().some((name) => read(name) === content);
      await until(() => gateway.count('PUT') && copied());
    }
    free();
    await Promise.all(all);
    assert.deepEqual(gateway.generations.map(String), ['a', 'd']);
    assert.equal(most, 1);
    assert.deepEqual(copies(), []);
  });

  for (const [status, reason, tries] of [[400, 'broken', 1], [413, 'too large', 1], [412, 'failed', 1], [401, 'failed', 5], [503, 'failed', 5], [507, 'full', 5]]) {
    it(`resolves and tells when it is answered ${status}`, async () => {
      const store = await started();
      gateway.fail(status, { times: Infinity, body: '{"detail":"why"}' });
      await saved(store, 'one');
      assert.deepEqual(problems.length && problems[0], {
        ...{ session: 's1', what: 'save', reason },
        detail: `PUT ${gateway.url}/_sluice/vault/s1: ${status} why`,
      });
      assert.equal(gateway.count('PUT'), tries);
      assert.deepEqual(fs.readdirSync(dataPath).sort(), ['RemoteAuth-s1', 'RemoteAuth-s1.zip']);
    });
  }

  it('resolves and tells when the connection breaks in the middle, and tries again', async () => {
    const store = await started();
    let broken = 0;
    gateway.faults.push((request) => broken++ < 2 && Boolean(request.socket.destroy()));
    await saved(store, 'one');
    assert.equal(String(gateway.newest), 'one');
    gateway.faults.push((request) => Boolean(request.socket.destroy()));
    await saved(store, 'two');
    assert.deepEqual(reasons(), ['save: failed']);
  });

  it('resolves and tells when a later start has the session, and uploads no more', async () => {
    const first = await started();
    await saved(first, 'one');
    await open().sessionExists(SESSION);
    await saved(first, 'two');
    await saved(first, 'three');
    assert.deepEqual(gateway.generations.map(String), ['one']);
    assert.deepEqual(reasons(), ['save: stale', 'save: stale']);
    assert.equal(problems[0].detail, 'a later start has s1: stop it here, or start it again');
    assert.equal(gateway.count('PUT'), 2);
    assert.equal(gateway.calls.at(-1).body, undefined, 'refused by its head');
  });

  it('takes the session back with a start of its own', async () => {
    const first = await started();
    await saved(first, 'one');
    const second = open();
    await second.sessionExists(SESSION);
    assert.equal(await first.sessionExists(SESSION), true); // RemoteAuth asks, and then extracts
    await first.extract({ ...SESSION, path: path.join(dataPath, 'RemoteAuth-s1.zip') });
    browse();
    await first.sessionExists(SESSION);
    await saved(first, 'two');
    await saved(second, 'three');
    assert.deepEqual(gateway.generations.map(String), ['one', 'two']);
    assert.deepEqual(reasons(), ['save: stale']);
  });

  it('takes the session back where there was nothing to extract', async () => {
    const first = await started();
    await first.sessionExists(SESSION);
    await open().sessionExists(SESSION);
    await first.sessionExists(SESSION);
    browse(); // the client was initialised once more
    await first.sessionExists(SESSION);
    await saved(first, 'one');
    assert.deepEqual(gateway.generations.map(String), ['one']);
    assert.deepEqual(problems, []);
  });

  it('keeps the login of a newer browser, whose databases an older one drops', async () => {
    gateway.generations.push(Buffer.from('newer'));
    gateway.browser = 'Chromium 157.0.1.2';
    const store = open();
    await store.sessionExists(SESSION);
    browse();
    await saved(store, 'older');
    assert.deepEqual(gateway.generations.map(String), ['newer']);
    assert.equal(
      problems[0].detail,
      '156.0.8078.79 may have dropped what Chromium 157.0.1.2 had written: run such a one here, or delete the ' +
        'login (sluice vault delete s1) and log in again',
    );
  });

  for (const [backend, folder] of [['leveldb', 'https_web.whatsapp.com_0'], ['sqlite', 'https_web.whatsapp.com_0.indexeddb.leveldb']]) {
    it(`keeps the login of a browser with ${backend}, which one with the other deletes`, async () => {
      gateway.generations.push(Buffer.from('whole'));
      gateway.backend = backend;
      const store = open();
      await store.sessionExists(SESSION);
      browse();
      fs.mkdirSync(path.join(profile(), 'Default', 'IndexedDB', folder), { recursive: true });
      await saved(store, 'empty');
      assert.deepEqual(gateway.generations.map(String), ['whole']);
      assert.match(problems[0].detail, /^a browser with \w+ may have dropped what one with \w+ had written: run such/);
      [gateway.deleted, gateway.backend] = [1, '']; // by a person, and another browser logs in
      browse();
      await saved(store, 'new');
      assert.deepEqual(gateway.generations.map(String), ['whole', 'new']);
    });
  }

  it('streams: 200 MiB in little memory', async () => {
    const store = await started();
    const hash = createHash('sha256');
    let most = 0;
    gateway.faults.push(async (request, response) => {
      if (request.method !== 'PUT') return false;
      response.writeContinue();
      for await (const part of request) hash.update(part), (most = Math.max(most, process.memoryUsage().arrayBuffers));
      response.writeHead(201).end('{}');
      return true;
    });
    const file = fs.openSync(path.join(dataPath, 'RemoteAuth-s1.zip'), 'w');
    fs.ftruncateSync(file, 200 * 2 ** 20);
    fs.closeSync(file);
    await store.save(SESSION);
    assert.deepEqual(problems, []);
    assert.equal(hash.digest('hex'), gateway.calls.at(-1).headers['x-sluice-content-sha256']);
    assert.ok(most < 64 * 2 ** 20, `${most >> 20} MiB of buffers`);
  });
});

describe('extract', () => {
  const target = () => path.join(folder, 'fresh', 'RemoteAuth-s1.zip');
  const extract = (store) => store.extract({ ...SESSION, path: target() });

  it('writes what the start has named, into a folder that was not there', async () => {
    gateway.generations.push(Buffer.from('zip'));
    const store = open();
    await store.sessionExists(SESSION);
    await extract(store);
    assert.equal(fs.readFileSync(target(), 'utf8'), 'zip');
    assert.equal(gateway.calls.at(-1).headers['if-match'], '"1"');
    assert.deepEqual(fs.readdirSync(path.dirname(target())), ['RemoteAuth-s1.zip']);
    assert.deepEqual(gateway.calls.map((call) => call.method), ['POST', 'GET']);
  });

  const ill = {
    'is cut': (response) => response.writeHead(200, { 'Content-Length': 10, 'X-Sluice-Content-SHA256': sha256('zip') }).write('zi'),
    'has another hash': (response) => response.writeHead(200, { 'Content-Length': 3, 'X-Sluice-Content-SHA256': sha256('zip') }).end('zap'),
    'has no hash': (response) => response.writeHead(200, { 'Content-Length': 3 }).end('zip'),
    'is too large': (response) => response.writeHead(200, { 'Content-Length': 2 ** 31, 'X-Sluice-Content-SHA256': sha256('') }).write('zip'),
  };
  for (const [what, answer] of Object.entries(ill)) {
    it(`throws and leaves nothing where the zip ${what}, after other tries`, async () => {
      gateway.generations.push(Buffer.from('zip'));
      const store = open();
      await store.sessionExists(SESSION);
      gateway.faults.push((request, response) => {
        answer(response);
        setTimeout(() => response.destroy(), 20);
        return true;
      });
      await assert.rejects(extract(store), /GET .*\/_sluice\/vault\/s1: /);
      assert.equal(gateway.count('GET'), 5);
      assert.deepEqual(fs.readdirSync(path.dirname(target())), []);
      gateway.faults.pop();
      await extract(store);
      assert.equal(fs.readFileSync(target(), 'utf8'), 'zip');
    });
  }

  it('throws where the generation is kept no more', async () => {
    gateway.generations.push(Buffer.from('zip'));
    const store = open();
    await store.sessionExists(SESSION);
    gateway.fail(412, { body: '{"detail":"generation 1 is not kept"}' });
    await assert.rejects(extract(store), /GET .*: 412 generation 1 is not kept/);
  });

  it('ends a drip of bytes', { timeout: 60_000 }, async () => {
    gateway.generations.push(Buffer.from('zip'));
    const store = open({ timeout: 300 });
    await store.sessionExists(SESSION);
    let drips = 0;
    gateway.faults.push((request, response) => {
      if (gateway.count('GET') > 1) return false;
      response.writeHead(200, { 'Content-Length': 1e6, 'X-Sluice-Content-SHA256': sha256('') });
      const drip = setInterval(() => response.write('.', () => (drips += 1)), 10);
      response.on('close', () => clearInterval(drip));
      return true;
    });
    await extract(store);
    assert.ok(drips);
    assert.equal(gateway.count('GET'), 2);
  });

  it('says so when nothing more comes', async () => {
    gateway.generations.push(Buffer.from('zip'));
    const store = open({ timeout: 100 });
    await store.sessionExists(SESSION);
    gateway.faults.push((request, response) => {
      response.writeHead(200, { 'Content-Length': 10, 'X-Sluice-Content-SHA256': sha256('') }).write('.');
      return true;
    });
    await assert.rejects(extract(store), /GET .*: it (was silent for 0.1 s|took too long)/);
  });

  it('removes what a killed worker has left', async () => {
    fs.mkdirSync(dataPath);
    const left = ['.sluice-RemoteAuth-s1.1.zip', '.sluice-RemoteAuth-s1-b.1.zip', 'RemoteAuth-s1.zip'];
    for (const name of left) write('half', dataPath, name);
    await open().sessionExists(SESSION);
    assert.deepEqual(fs.readdirSync(dataPath).sort(), left.slice(1).sort());
  });
});

describe('delete', () => {
  it('goes under the fence of the start', async () => {
    const store = await started();
    await saved(store, 'one');
    await store.delete(SESSION);
    assert.deepEqual(problems, []);
    assert.equal(gateway.calls.at(-1).headers['x-sluice-fence'], '1001');
    assert.equal(await store.sessionExists(SESSION), false);
  });

  it('is no longer its business after a later start, whose login stays', async () => {
    const first = await started();
    await saved(first, 'one');
    await open().sessionExists(SESSION);
    await first.sessionExists(SESSION);
    await first.delete(SESSION);
    await first.delete(SESSION);
    assert.equal(gateway.deleted, null);
    assert.deepEqual(reasons(), ['delete: stale', 'delete: stale']);
  });

  it('resolves and tells in an outage', async () => {
    const store = await started();
    await saved(store, 'one');
    gateway.fail(503, { times: Infinity, body: '{"detail":"the store is away"}' });
    await store.delete(SESSION);
    assert.equal(problems[0].detail, `DELETE ${gateway.url}/_sluice/vault/s1: 503 the store is away`);
  });

  it('of a session that has not started here is a start', async () => {
    gateway.generations.push(Buffer.from('zip'));
    await open().delete(SESSION);
    assert.ok(gateway.deleted);
    assert.deepEqual(gateway.calls.map((call) => call.method), ['POST', 'DELETE']);
  });

  it('refuses what is saved afterwards, until another browser has logged in', async () => {
    const store = await started();
    await store.sessionExists(SESSION);
    await saved(store, 'one');
    await store.delete(SESSION);
    fs.rmSync(profile(), { recursive: true });
    // The browser goes on without its profile; its page is ready once more, and RemoteAuth saves a minute later.
    assert.equal(await store.sessionExists(SESSION), false);
    await saved(store, 'nobody');
    fs.mkdirSync(path.join(profile(), 'Default', 'IndexedDB'), { recursive: true });
    await saved(store, 'nobody');
    assert.deepEqual(gateway.generations.map(String), ['one']);
    assert.deepEqual(reasons(), ['save: deleted', 'save: deleted']);
    const detail = 'the login of s1 was deleted; it is saved again when a new browser has logged in';
    assert.equal(problems[0].detail, detail);
    browse();
    assert.equal(await store.sessionExists(SESSION), false);
    await saved(store, 'two');
    assert.deepEqual(gateway.generations.map(String), ['one', 'two']);
    assert.equal(problems.length, 2);
  });

  it('ends a save that is under way: it does not come after', async () => {
    const store = await started();
    write('late');
    const saving = store.save(SESSION);
    await sleep(1);
    await Promise.all([saving, store.delete(SESSION)]);
    await saving;
    assert.equal(gateway.newest, undefined);
  });

  it('of a person, or of another worker, ends the saves here', async () => {
    const store = await started();
    await store.sessionExists(SESSION);
    await saved(store, 'one');
    gateway.gone = gateway.fence;
    gateway.deleted = 1;
    await saved(store, 'two');
    await store.sessionExists(SESSION);
    await saved(store, 'three');
    assert.deepEqual(reasons(), ['save: deleted', 'save: deleted']);
    assert.equal(gateway.newest, undefined);
    assert.equal(gateway.count('POST'), 1);
  });
});

describe('onProblem', () => {
  for (const [what, onProblem] of [
    ['throws', () => { throw new Error('of the caller'); }],
    ['rejects', async () => { throw new Error('of the caller'); }],
  ]) {
    it(`may be a function that ${what}`, async (test) => {
      const complaints = test.mock.method(console, 'error', () => {});
      await open({ onProblem }).save({ session: '' });
      await sleep(5);
      assert.equal(complaints.mock.callCount(), 1);
    });
  }

  it('is console.error by default', async (test) => {
    const complaints = test.mock.method(console, 'error', () => {});
    await new SluiceStore({ url: gateway.url, secret: SECRET, dataPath }).save({ session: '' });
    await sleep(5);
    assert.equal(complaints.mock.callCount(), 1);
  });
});
