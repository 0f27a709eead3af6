// How many times of `times` each file of SIZES was whole at the moment at which RemoteAuth had unzipped it.
const { RemoteAuth } = require('whatsapp-web.js');
const fs = require('node:fs');
const path = require('node:path');

(async () => {
  const [zipped, times, folder] = process.argv.slice(2);
  const sizes = Object.entries(JSON.parse(process.env.SIZES));
  const auth = new RemoteAuth({ store: {}, clientId: 's1', dataPath: folder, backupSyncIntervalMs: 60_000 });
  let whole = 0;
  for (let i = 0; i < Number(times); i++) {
    auth.userDataDir = path.join(folder, `unzipped${i}`);
    fs.copyFileSync(zipped, path.join(folder, 'RemoteAuth-s1.zip')); // which it deletes
    await auth.unCompressSession(path.join(folder, 'RemoteAuth-s1.zip'));
    const sizeOf = (name) => fs.statSync(path.join(auth.userDataDir, name), { throwIfNoEntry: false })?.size;
    whole += sizes.every(([name, size]) => sizeOf(name) === size) ? 1 : 0;
  }
  console.log(whole);
})();
