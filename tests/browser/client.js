// The unmodified Client of whatsapp-web.js with one of its own authentication strategies, on the page that stands in for
// WhatsApp Web. It says {event} for each of the client's events, {event: 'started', pid} when its browser runs, and
// answers each line that it is sent, [function, argument...], with {answer} or {error}. It ends with its input, and by
// `destroy`.
//   AUTH   {"kind": "LocalAuth" | "RemoteAuth", ...its options}
//   STORE  for RemoteAuth: a module, the name of a class that it exports, and that class's options; as JSON
const wwebjs = require('whatsapp-web.js');
const { createInterface } = require('node:readline');

const { AUTH, STORE, CLIENT } = process.env;
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const { kind, ...options } = JSON.parse(AUTH);

(async () => {
  if (kind === 'RemoteAuth') {
    const [module, name, given] = JSON.parse(STORE);
    const onProblem = (problem) => say({ event: 'problem', ...problem });
    options.store = new (await import(module))[name]({ ...given, onProblem });
  }
  const authStrategy = new wwebjs[kind](options);
  const client = new wwebjs.Client({ ...JSON.parse(CLIENT), authStrategy });
  for (const event of ['qr', 'authenticated', 'ready', 'remote_session_saved', 'auth_failure', 'disconnected'])
    client.on(event, (what) => say({ event, what: typeof what === 'string' ? what : null }));
  const functions = {
    save: () => authStrategy.storeRemoteSession({ emit: true }), // RemoteAuth itself waits for 60 s before the first
    destroy: () => client.destroy(),
    logout: () => client.logout(),
    reload: () => client.pupPage.reload(), // as WhatsApp's page does now and then; `ready` comes once more
    login(name, ...args) {
      const asked = client.pupPage.evaluate(async (name, args) => window.__login[name](...args), name, args);
      return name === 'keepWriting' ? void asked.catch(() => {}) : asked;
    },
  };
  client.initialize().then(
    () => say({ event: 'started', pid: client.pupBrowser.process().pid }),
    (error) => say({ event: 'failed', what: `${error?.message ?? error}` }),
  );
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, ...args] = JSON.parse(line);
    await Promise.resolve().then(() => functions[name](...args)).then(
      (answer) => say({ answer: answer ?? null }),
      (error) => say({ error: `${error?.message ?? error}` }),
    );
  }
  await client.destroy().catch(() => {});
  process.exit(0);
})().catch((error) => (say({ event: 'failed', what: error.message }), process.exit(1)));
