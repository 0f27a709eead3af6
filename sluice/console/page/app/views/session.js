// One session: who runs it, what has happened to it, its login, and what can be done.

import { get, part, post } from "../api.js";
import { ago, clock, number, size, some } from "../text.js";
import { Done, Facts, State, Table, Text, Trouble, Verb, html, useEvery, useLoaded, useState } from "../ui.js";
import { Linking } from "./linking.js";
import { Verbs } from "./session_verbs.js";

export function SessionView({ status, may, parts }) {
  const [name] = parts;
  const [said, setSaid] = useState("");
  const session = useLoaded(() => get(`sessions/${part(name)}`), [name]);
  const profile = useLoaded(() => get(`vault/sessions/${part(name)}`), [name]);
  useEvery(3, session.again, [name]);
  const it = session.value, now = Date.parse(status.at);
  const done = (words) => { setSaid(words); session.again(); profile.again(); };
  if (!it) return html`<section><h2>${name}</h2>${session.busy ? html`<p class="note">Looking…</p>` : null}<${Trouble} of=${session.trouble} /><${Done} of=${said} /></section>`;
  return html`<section aria-labelledby="session">
      <p><a href="#/sessions">All sessions</a></p>
      <h2 id="session">${it.session}</h2>
      <${Facts} facts=${[
        ["State", html`<${State} of=${it.state} />`], ["Why", it.reason], ["Since", `${clock(it.since)} (${ago(it.since, now)})`],
        ["Phone", it.phone], ["Workspace", it.workspace],
        ["Worker", it.worker ? html`<a href="#/workers">${it.worker}</a>` : "nobody"], ["Address", it.url], ["Fence", it.fence],
        ["Lease", it.lease_left === null ? null : `${it.lease_left.toFixed(1)} s left`],
        ["Last event", it.last_event ? `${clock(it.last_event)} (${ago(it.last_event, now)})` : null],
        ["Not well", it.fault ? `${it.fault.kind}: ${it.fault.reason} (since ${clock(it.fault.since)})` : null],
        ["Last owner", it.last_owner], ["Nobody runs it since", it.lost_since ? clock(it.lost_since) : null],
        ["Its worker does not list it since", it.missing_since ? clock(it.missing_since) : null],
        ["What helps", it.orphaned], ["It was ended", it.ended],
        ["Its phone has also", it.rival ? html`<a href=${`#/session/${part(it.rival)}`}>${it.rival}</a>` : null],
      ]} />
      ${may ? html`<${Verbs} it=${it} status=${status} done=${done} />` : null}
      <${Done} of=${said} />
    </section>
    ${may && it.worker && it.state !== "connected" ? html`<${Linking} name=${name} changed=${session.again} />` : null}
    <section><h2>What has happened</h2><${Table} label="History" empty="Nothing is kept of it." rows=${[...it.history].reverse()} columns=${[
      { title: "At", text: true, of: (row) => clock(row.at) }, { title: "What", text: true, of: (row) => row.what }, { title: "Who", text: true, of: (row) => row.who }]} /></section>
    <section><h2>Its login</h2>${profile.value ? html`<${Login} ...${{ name, profile: profile.value, may, done }} />` : html`<p class="note">${profile.trouble || "Looking…"}</p>`}</section>
    <section><h2>What was said when it was created</h2><${Text} of=${JSON.stringify(it.about, null, 2)} label="About" /></section>`;
}

function Login({ name, profile, may, done }) {
  return html`
    ${profile.deleted ? html`<p><b class="look">It was deleted ${clock(profile.deleted)}</b>; until it is pruned that can be taken back.</p>` : null}
    ${profile.late ? html`<p><b class="look">It is stale</b>: the session is connected, and nobody has saved it for three times <code>sessions.vault.every</code>. See its worker's log.</p>` : null}
    <${Table} label="Generations" empty="No generation is kept." rows=${profile.generations} columns=${[
      { title: "Generation", text: true, of: (row) => number(row.number), small: (row) => row.problem ?? "" },
      { title: "Saved", text: true, of: (row) => clock(row.made), small: (row) => ago(row.made) },
      { title: "Browser", text: true, of: (row) => row.browser || "–" },
      { title: "Size", of: (row) => size(row.size) },
      { title: "Written", of: (row) => size(row.stored) },
      { title: "Readable", of: (row) => (row.readable ? "yes" : html`<b class="bad">no</b>`) }]} />
    ${may ? html`<div class="actions">${profile.deleted ? html`<${Verb} title=${`Take back that the login of ${name} was deleted`} verb="Take it back" after=${done}
      look=${async () => { const would = await post(`vault/undelete/${part(name)}`, { dry_run: true }); return html`<p>The session starts with its login again: generation ${would.generation}, saved ${clock(would.made)}.</p>`; }} act=${async () => { await post(`vault/undelete/${part(name)}`); return "Its login is back."; }}>Take back the deletion…</${Verb}>`
      : html`<${Verb} title=${`Delete the login of ${name}`} verb="Delete it" dangerous=${true} after=${done}
      look=${async () => { const would = await post(`vault/delete/${part(name)}`, { dry_run: true }); return html`<p>The session needs a QR code at its next start. ${some(would.generations, "generation is", "generations are")} kept until the vault is pruned, so this can be taken back.</p>`; }}
      act=${async () => { await post(`vault/delete/${part(name)}`, { confirm: true }); return "Its login is deleted."; }}>Delete the login…</${Verb}>`}</div>` : null}`;
}
