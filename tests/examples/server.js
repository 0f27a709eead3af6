// A worker as small as it can be, that does at its start what the existing ones do: it listens, asks Laravel once which
// sessions there are, and starts them one after the other. It only pretends to start them.
const http = require('node:http');

const sessions = [];

http
  .createServer((request, answer) => {
    const path = request.url.split('?')[0];
    const list = sessions.map((one) => ({ session_id: one, workspace_id: 1, status: 'connected' }));
    const said = {
      '/health': { status: 'healthy', uptime: process.uptime(), sessions: { total: list.length, connected: list.length } },
      '/api/sessions': { success: true, sessions: list, total: list.length },
      '/environment': { pid: process.pid, port: process.env.PORT, laravel: process.env.LARAVEL_URL },
    }[path];
    answer.writeHead(said ? 200 : 404, { 'Content-Type': 'application/json' });
    answer.end(JSON.stringify(said || { error: 'Endpoint not found' }));
  })
  .listen(Number(process.env.PORT || 3000), '127.0.0.1', async () => {
    const asked = await fetch(`${process.env.LARAVEL_URL}/api/whatsapp/accounts/active`, { headers: { 'X-API-Key': 'k' } });
    for (const account of asked.ok ? (await asked.json()).sessions : []) sessions.push(account.session_id);
  });
