// What a login of WhatsApp Web consists of, put into the page that stands in for it: four IndexedDB databases, a Blob, a
// key that cannot be exported and what it encrypted, localStorage, a cookie. `__login.found()` looks whether all of it
// is there, and makes nothing.
window.__login = (() => {
  const STORES = { 'signal-storage': 'kv', wawc: 'user', wawc_db_enc: 'keys', 'model-storage': 'message' };
  const SECRET = 'what only this key opens', ROWS = 400, PAYLOAD = 4096, BLOB = 700_000;
  const known = new Map(); // open databases; a profile that is looked at has no others

  const open = (name, makes) => known.get(name) ?? new Promise((done, failed) => {
    const asked = indexedDB.open(name, makes ? 1 : undefined);
    asked.onupgradeneeded = () => (makes ? asked.result.createObjectStore(STORES[name]) : asked.transaction.abort());
    asked.onsuccess = () => (known.set(name, asked.result), done(asked.result));
    asked.onerror = () => failed(new Error(`${name}: ${asked.error.name}: ${asked.error.message}`));
  });
  async function within(name, mode, work, makes = false) { // what `work` asks for, when its transaction has ended
    const transaction = (await open(name, makes)).transaction(STORES[name], mode, { durability: 'strict' });
    const asked = work(transaction.objectStore(STORES[name]));
    return new Promise((done, failed) => {
      transaction.oncomplete = () => done(asked?.result);
      transaction.onabort = transaction.onerror = () => failed(new Error(`${name}: ${transaction.error}`));
    });
  }
  const put = (name, key, value) => within(name, 'readwrite', (store) => store.put(value, key), true);
  const get = (name, key) => within(name, 'readonly', (store) => store.get(key));
  const bytes = (size, seed) => Uint8Array.from({ length: size }, (_, i) => (i * 31 + seed * 17 + (i >> 8)) & 255);
  const random = (size) => crypto.getRandomValues(new Uint8Array(size));
  const same = (left, right) => left.length === right.length && left.every((byte, i) => byte === right[i]);

  async function fill(phone) {
    const registered = () => get('signal-storage', 'registered').catch(() => null);
    if (!(await registered())) window.__standin.pair(phone); // it would wait for a client
    while (!(await registered())) await new Promise((done) => setTimeout(done, 20));
    const key = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
    const iv = random(12), sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, key, new TextEncoder().encode(SECRET));
    await put('wawc_db_enc', 'key', key);
    await put('wawc', 'sealed', { iv, sealed });
    await put('model-storage', 'picture', new Blob([bytes(BLOB, 1)], { type: 'image/jpeg' }));
    await write(1);
    localStorage.setItem('WANoiseInfo', 'noise');
    document.cookie = `wa_account=${phone}; Max-Age=31536000; Path=/; Secure`;
  }

  // One round is one transaction, so a copy has all of its rows or none of them. `size` MiB: rows that stay.
  const write = (round) => within('model-storage', 'readwrite', (store) => {
    for (let i = 0; i < ROWS; i++) store.put({ round, payload: random(PAYLOAD) }, `row${i}`);
    return store.put(round, 'round');
  }, true);
  async function grow(size) {
    for (let i = 0; i < size; i++)
      await within('model-storage', 'readwrite', (store) => {
        for (let j = 0; j < 32; j++) store.put(random(32768), `large${i}-${j}`);
      }, true);
  }
  let writing = false;
  async function keepWriting() {
    writing = true;
    for (let round = ((await get('model-storage', 'round')) ?? 0) + 1; writing; round++) await write(round);
  }
  const rounds = () => get('model-storage', 'round');

  const looks = {
    databases: async () => {
      const names = (await indexedDB.databases()).map((one) => one.name);
      return Object.keys(STORES).every((name) => names.includes(name));
    },
    registered: async () => !!(await get('signal-storage', 'registered')),
    rows: async () => {
      const round = await get('model-storage', 'round');
      const range = IDBKeyRange.bound('row', 'row:');
      const rows = await within('model-storage', 'readonly', (store) => store.getAll(range));
      return rows.length === ROWS && rows.every((row) => row.round === round && row.payload.length === PAYLOAD);
    },
    blob: async () => same(new Uint8Array(await (await get('model-storage', 'picture')).arrayBuffer()), bytes(BLOB, 1)),
    key: async () => {
      const key = await get('wawc_db_enc', 'key'), { iv, sealed } = await get('wawc', 'sealed');
      const opened = await crypto.subtle.decrypt({ name: 'AES-GCM', iv }, key, sealed);
      return !key.extractable && new TextDecoder().decode(opened) === SECRET;
    },
    local_storage: () => !!localStorage.getItem('last-wid-md') && localStorage.getItem('WANoiseInfo') === 'noise',
    cookies: () => /wa_account=\d+/.test(document.cookie),
  };
  async function found() { // each part: true, false, or what went wrong
    const told = {};
    for (const [name, look] of Object.entries(looks))
      told[name] = await Promise.resolve().then(look).catch((error) => `${error?.message ?? error}`);
    return told;
  }
  return { fill, grow, keepWriting, rest: () => (writing = false), rounds, found };
})();
