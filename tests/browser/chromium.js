// Chromium on a profile, with the page that stands in for WhatsApp Web at its address. It says {ready, pid}, and answers
// each line that it is sent, [function of __login, argument...], with {answer} or {error}. It ends with its input.
const puppeteer = require('puppeteer');
const { createInterface } = require('node:readline');

const { PROFILE, PAGE, BROWSER, FLAGS = '[]' } = process.env;
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

(async () => {
  const browser = await puppeteer.launch({
    executablePath: BROWSER, userDataDir: PROFILE, pipe: true, args: ['--no-sandbox', ...JSON.parse(FLAGS)],
    protocolTimeout: 240_000, timeout: 120_000,
  });
  browser.process().once('exit', () => process.exit(0)); // not when it disconnects: it writes until it has ended
  const [page] = await browser.pages();
  await page.setRequestInterception(true);
  const body = require('node:fs').readFileSync(PAGE);
  page.on('request', (request) =>
    request.respond(request.isNavigationRequest() ? { status: 200, contentType: 'text/html', body } : { status: 404 }));
  await page.goto('https://web.whatsapp.com/', { timeout: 120_000 });
  say({ ready: true, pid: browser.process().pid });
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, ...args] = JSON.parse(line);
    const asked = page.evaluate(async (name, args) => window.__login[name](...args), name, args);
    if (name === 'keepWriting') (asked.catch(() => {}), say({ answer: null }));
    else say(await asked.then((answer) => ({ answer: answer ?? null }), (error) => ({ error: error.message })));
  }
  await browser.close(); // returns when it has ended
})().catch((error) => (say({ error: error.message }), process.exit(1)));
