// A store for RemoteAuth that keeps its zips in a folder: the least that its interface asks for.
import { access, copyFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';

export class FolderStore {
  constructor({ folder, dataPath }) {
    this.kept = (session) => join(folder, `${basename(session)}.zip`);
    this.zip = (session) => join(dataPath, `${basename(session)}.zip`);
  }
  sessionExists({ session }) {
    return access(this.kept(session)).then(() => true, () => false);
  }
  save({ session }) {
    return copyFile(this.zip(session), this.kept(session));
  }
  extract({ session, path }) {
    return copyFile(this.kept(session), path);
  }
  delete({ session }) {
    return rm(this.kept(session), { force: true });
  }
}
