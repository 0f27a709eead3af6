// A profile as RemoteAuth of whatsapp-web.js 1.34.7 and the store wwebjs-aws-s3 handle it: benchmarks/vault.py runs this.
//
//     node aws_s3_store.mjs MODULES ENDPOINT BUCKET FOLDER PROFILE
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const [modules, endpoint, bucket, folder, name] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), 'node_modules', 'x.js'));
const archiver = require('archiver');
const unzipper = require('unzipper');
const { AwsS3Store } = require('wwebjs-aws-s3');
const s3 = require('@aws-sdk/client-s3');

const store = new AwsS3Store({
  bucketName: bucket,
  remoteDataPath: 'beside',
  s3Client: new s3.S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true }),
  putObjectCommand: s3.PutObjectCommand,
  headObjectCommand: s3.HeadObjectCommand,
  getObjectCommand: s3.GetObjectCommand,
  deleteObjectCommand: s3.DeleteObjectCommand,
});
process.chdir(folder);
const peak = () => Number(/VmHWM:\s*(\d+)/.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]);
const before = peak();
const rows = [];

async function measured(what, act) {
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  const stored = (await act()) ?? 0;
  const used = process.cpuUsage(cpu);
  rows.push({
    what,
    seconds: (performance.now() - began) / 1000,
    cpu_seconds: (used.user + used.system) / 1e6,
    peak_mb: ((peak() - before) * 1024) / 1e6,
    stored_mb: stored / 1e6,
  });
}

async function save() {
  await fs.promises.rm('staging', { recursive: true, force: true });
  for (const tree of ['IndexedDB', 'Local Storage'])
    await fs.promises.cp(`${name}/Default/${tree}`, `staging/Default/${tree}`, { recursive: true });
  const archive = archiver('zip');
  const written = fs.createWriteStream('session.zip');
  await new Promise((resolve, reject) => {
    archive.directory('staging', false).on('error', reject).pipe(written);
    written.on('close', resolve);
    archive.finalize();
  });
  await store.save({ session: 'session' });
  return fs.statSync('session.zip').size;
}

async function restore() {
  await store.extract({ session: 'session', path: 'fetched.zip' });
  await new Promise((resolve, reject) => {
    fs.createReadStream('fetched.zip').pipe(unzipper.Extract({ path: 'restored' })).on('error', reject).on('close', resolve);
  });
}

await measured('save', save);
await measured('save, 1 % changed', save);
await measured('restore', restore);
console.log(JSON.stringify(rows));
