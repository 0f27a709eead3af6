// RemoteAuth of any version of whatsapp-web.js, with as much of a client as it asks for: for a browser that somebody else
// opens. It says {event: 'started'} when the profile is there, and answers ["save"] with {answer} or {error}.
//   AUTH   its options; STORE  a module, the name of a class that it exports, and that class's options; as JSON
const { RemoteAuth } = require('whatsapp-web.js');
const { createInterface } = require('node:readline');

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

(async () => {
  const [module, name, given] = JSON.parse(process.env.STORE);
  const store = new (require(module)[name])({ ...given, onProblem: (problem) => say({ event: 'problem', ...problem }) });
  const auth = new RemoteAuth({ ...JSON.parse(process.env.AUTH), store });
  auth.setup({ options: { puppeteer: {} }, emit: (event) => say({ event }) });
  await auth.beforeBrowserInitialized();
  say({ event: 'started' });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === '["save"]') await auth.storeRemoteSession({ emit: true }).then(() => say({ answer: null }), (error) => say({ error: error.message }));
  }
  await auth.destroy();
})();
