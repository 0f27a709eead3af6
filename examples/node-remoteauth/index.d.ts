/** What the store could not do, and has not thrown. */
export interface Problem {
  /** The session's name in the vault: the clientId, or `RemoteAuth` where there is none. */
  session: string;
  what: 'sessionExists' | 'save' | 'delete';
  /**
   * - `stale`: a later start has the session; this one saves and deletes nothing more.
   * - `deleted`: its login was deleted; it is saved again when a new browser has logged in.
   * - `skipped`: the newest generation was broken, and the one before is served.
   * - `unknown`: the vault did not answer after `ready`; the session counts as kept.
   * - `broken`, `too large`: the vault did not take the zip. `full`: it has no room.
   * - `no zip`: store and RemoteAuth have not the same dataPath.
   * - `other browser`: it is older, or keeps IndexedDB otherwise, and may have dropped what the last one had written.
   * - `name`: not a name that RemoteAuth makes.
   * - `failed`: all else, after five tries.
   */
  reason:
    | 'stale'
    | 'deleted'
    | 'skipped'
    | 'unknown'
    | 'broken'
    | 'too large'
    | 'full'
    | 'no zip'
    | 'other browser'
    | 'name'
    | 'failed';
  /** For people: what happened, and what to do. */
  detail: string;
}

export interface Options {
  /** Where Sluice answers, as `http://127.0.0.1:8080`. */
  url: string;
  /** Of the signature that `sessions.vault.verify` names. */
  secret: string;
  /** The same as RemoteAuth's. Default: `./.wwebjs_auth/`, as there. It is made where it is missing. */
  dataPath?: string;
  /** Default: console.error. */
  onProblem?: (problem: Problem) => unknown;
  /** Milliseconds before the second try, doubled for each further one. Default: 1000. */
  pause?: number;
  /** Milliseconds of silence that end a try; a zip may take ten times as long as a whole. Default: 120000. */
  timeout?: number;
}

/** A store for RemoteAuth of whatsapp-web.js. One serves all clients of a process. */
export class SluiceStore {
  constructor(options: Options);
  /** Throws where nobody can say: RemoteAuth removes the local profile right after it. */
  sessionExists(options: { session: string }): Promise<boolean>;
  /** Never throws; see `onProblem`. */
  save(options: { session: string }): Promise<void>;
  /** Throws. */
  extract(options: { session: string; path: string }): Promise<void>;
  /** Never throws; see `onProblem`. */
  delete(options: { session: string }): Promise<void>;
}
