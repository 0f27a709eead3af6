// Existing workers behind Sluice: for each of them one process, one port and one LARAVEL_URL.
//
// Several processes behind one address (exec_mode: 'cluster') cannot be told apart: each believes that it has all
// sessions, and a request reaches any of them. The rest of the environment (API_KEY, HMAC_SECRET, …) comes from where
// the service has it today, its .env; what stands here wins over that.
const path = require('node:path');

const gateway = process.env.SLUICE_URL || 'http://127.0.0.1:8080';
const service = path.resolve(process.env.WORKER_FOLDER || '.');
const workers = Number(process.env.WORKERS || 4);
const firstPort = Number(process.env.FIRST_PORT || 3001);

module.exports = {
  apps: Array.from({ length: workers }, (_, index) => ({
    name: `w${index + 1}`,
    cwd: service,
    script: 'server.js',
    exec_mode: 'fork',
    instances: 1,
    autorestart: true,
    kill_timeout: 30000, // browsers close one after the other, which takes longer than PM2's 1.6 s
    env: {
      PORT: String(firstPort + index), // its X-Instance-Url says another one where this is missing
      LARAVEL_URL: `${gateway}/w/w${index + 1}`, // the prefix in sessions.workers, without a slash at the end
    },
  })),
};
