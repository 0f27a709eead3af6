// Who runs sessions, how full they are, and which existing ones do not answer, and why.

import { part, post } from "../api.js";
import { age, number, some } from "../text.js";
import { Done, Table, Verb, html, useState } from "../ui.js";

const percent = (share) => `${Math.round(share * 100)}%`;

export function Workers({ status, may }) {
  const [said, setSaid] = useState("");
  const { workers, existing, store } = status;
  const known = new Set(workers.map(({ worker }) => worker));
  const never = existing.filter((one) => one.why !== null || !known.has(one.worker));
  return html`<section><h2>Workers</h2>
      <${Table} label="Workers" rows=${workers} keyOf=${(row) => row.worker} empty=${store.ok ? "No worker has registered." : "Not known while the store is away."} columns=${[
        { title: "Worker", text: true, of: (row) => html`<a href=${`#/sessions?worker=${part(row.worker)}`}><b>${row.worker}</b></a>`, small: (row) => (row.existing ? `${row.url} · an existing service` : row.url) },
        { title: "Sessions", of: (row) => `${number(row.sessions)} of ${number(row.capacity)}`, small: (row) => row.notes.join(", ") },
        { title: "Memory", of: (row) => (row.existing ? "–" : percent(row.memory)), kind: (row) => (row.memory >= 0.9 ? "bad" : "") },
        { title: "CPU", of: (row) => (row.existing ? "–" : percent(row.cpu)), kind: (row) => (row.cpu >= 0.9 ? "bad" : "") },
        { title: "Draining", of: (row) => (row.draining || row.drains_s !== null ? "yes" : "no"), kind: (row) => (row.draining || row.drains_s !== null ? "look" : "none"),
          small: (row) => (row.drains_s === null ? "" : `for ${age(row.drains_s)}`) },
        { title: "Last beat", of: (row) => (row.lost ? "lost" : `${age(row.last_beat_s)} ago`), kind: (row) => (row.lost ? "bad" : "") },
        ...(may ? [{ title: "What can be done", unseen: true, of: (row) => (row.existing || row.lost ? null : html`<${Drain} row=${row} after=${setSaid} />`) }] : []),
      ]} />
      <${Done} of=${said} />
    </section>
    ${never.length ? html`<section><h2>Named in sessions.workers, and silent</h2>
      <${Table} label="Silent workers" rows=${never} keyOf=${(row) => row.worker} columns=${[
        { title: "Worker", text: true, of: (row) => html`<b>${row.worker}</b>`, small: (row) => row.url },
        { title: "Why", text: true, of: (row) => row.why ?? "it is being asked" },
        { title: "For", of: (row) => age(row.since_s) },
        { title: "Has answered before", of: (row) => (row.answered ? "yes" : "never") },
      ]} /></section>` : null}
    <section><h2>Processes</h2><${Table} label="Processes" rows=${status.processes} empty="Only sluice up knows its processes." columns=${[
      { title: "Process", text: true, of: (row) => row.process }, { title: "Runs for", of: (row) => (row.up_s === null ? "–" : age(row.up_s)) },
      { title: "Started again", of: (row) => number(row.restarts), kind: (row) => (row.restarts ? "look" : "none") },
      { title: "Open files", of: (row) => (row.files === null ? "–" : `${number(row.files)} of ${number(row.max_files)}`) }]} /></section>`;
}

function Drain({ row, after }) {
  const name = row.worker, back = row.drains_s !== null;
  const look = async () => {
    const would = await post(`drains/${part(name)}`, { drain: !back, dry_run: true });
    if (back) return html`<p>It gets sessions again. It has ${some(would.sessions, "session", "sessions")} still.</p>`;
    return html`<p>It gets no more sessions, and gives its ${some(would.sessions, "session", "sessions")} to others, two at a time: each is closed here and opened there, first what is quiet.
      ${would.room < would.sessions ? html` <b>The others have room for ${number(would.room)}</b>: the rest stays until there is more.` : ""}</p>`;
  };
  return html`<${Verb} title=${back ? `Take ${name} back` : `Drain ${name}`} verb=${back ? "Take it back" : "Drain it"} after=${after} look=${look}
    act=${async () => { await post(`drains/${part(name)}`, { drain: !back }); return back ? `${name} gets sessions again.` : `${name} drains.`; }}>${back ? "Take back…" : "Drain…"}</${Verb}>`;
}
