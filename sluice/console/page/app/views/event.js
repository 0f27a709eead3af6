// One event: where it is, why, each attempt, and what is in it.

import { get, part, post } from "../api.js";
import { ago, clock, number, pretty, size, some } from "../text.js";
import { Done, Facts, State, Table, Text, Trouble, Verb, html, useEvery, useLoaded, useState } from "../ui.js";
import { carried } from "./deliveries.js";

export function EventView({ may, parts, status }) {
  const [id] = parts;
  const [said, setSaid] = useState("");
  const event = useLoaded(() => get(`events/${part(id)}`), [id]);
  const content = useLoaded(() => contentOf(event.value), [event.value && JSON.stringify(event.value.endpoints)]);
  useEvery(2, event.again, [id]);
  const it = event.value;
  if (!it) return html`<section><h2>${id}</h2>${event.busy ? html`<p class="note">Looking…</p>` : null}<${Trouble} of=${event.trouble} /></section>`;
  const done = (words) => { setSaid(words); event.again(); };
  return html`<section aria-labelledby="event">
      <p><a href="#/deliveries?tab=find">Find another</a></p>
      <h2 id="event">${it.id}</h2>
      <${Facts} facts=${[
        ["Type", it.event ?? "it has left with its body"],
        ["Session", it.session === null ? null : html`<a href=${`#/session/${part(it.session)}`}>${it.session}</a>`],
        ["Lane", it.lane], ["Accepted", `${clock(it.accepted_at)} (${ago(it.accepted_at, Date.parse(status.at))})`], ["Body", it.bytes === null ? null : size(it.bytes)]]} />
      <${Done} of=${said} />
    </section>
    ${Object.entries(it.endpoints).map(([name, one]) => html`<${AtEndpoint} key=${name} ...${{ id, name, one, may, done }} />`)}
    <section><h2>Content</h2><${Content} of=${content.value} trouble=${content.trouble} /></section>`;
}

function AtEndpoint({ id, name, one, may, done }) {
  const ids = { ids: [id], endpoint: name };
  const verbs = {
    waiting: [["queue", "skip", "Skip", "It becomes a dead letter, so that its session goes on.", false], ["queue", "drop", "Drop", "It is erased for good.", true]],
    dead: [["dead", "replay", "Replay", "It is sent again, before younger events of its session.", false], ["dead", "drop", "Drop", "It is erased for good.", true]],
  }[one.state] ?? [];
  return html`<section>
    <h2>At <a href=${`#/deliveries/${part(name)}`}>${name}</a></h2>
    <p><${State} of=${one.state} /> ${one.why}</p>
    <${Facts} facts=${[
      ["Due", one.due_at ? clock(one.due_at) : null], ["Left", one.at ? clock(one.at) : null],
      ["Older ones of its session", one.older ? html`${number(one.older)}${one.waits_for ? html`; first: <a href=${`#/event/${part(one.waits_for)}`}>${one.waits_for}</a>` : null}` : null],
      ["Can be sent once more until", one.kept_until ? clock(one.kept_until) : null]]} />
    <h3>${one.attempts.length ? some(one.attempts.length, "attempt", "attempts") : "No attempt yet"}</h3>
    ${one.attempts.length ? html`<${Table} label=${`Attempts at ${name}`} rows=${one.attempts} columns=${[
      { title: "At", text: true, of: (row) => clock(row.at) },
      { title: "Answer", text: true, of: (row) => row.status ?? "none", small: (row) => row.reason },
      { title: "Took", of: (row) => `${Math.round(row.ms)} ms` }]} />` : null}
    ${may ? html`<div class="actions">
      ${verbs.map(([path, verb, words, means, dangerous]) => html`<${Verb} title=${`${words} ${id}`} verb=${words} dangerous=${dangerous} after=${done}
        look=${async () => html`<p>${means}</p>`} act=${() => carried(path, verb, ids, dangerous)}>${words}…</${Verb}>`)}
      ${one.kept_until ? html`<${Verb} title=${`Send ${id} once more`} verb="Send it" after=${done}
        look=${async () => html`<p>${name} has had it already, and gets it once more, with the same id.</p>`}
        act=${async () => { await post("events/resend", { ...ids }); return "It is sent once more."; }}>Send once more…</${Verb}>` : null}
    </div>` : null}
  </section>`;
}

/** From wherever it still lies. */
async function contentOf(event) {
  if (!event) return null;
  for (const [name, { state }] of Object.entries(event.endpoints)) {
    const path = { waiting: "queue", leased: "queue", dead: "dead" }[state];
    if (path) return get(`${path}/${part(name)}/${part(event.id)}`);
  }
  return null;
}

function Content({ of, trouble }) {
  if (trouble) return html`<${Trouble} of=${trouble} />`;
  if (!of) return html`<p class="note">It has left with the event: bodies of what is delivered are not shown.</p>`;
  return html`<p class="note">Sent to <code>${of.target}</code>. What proves the sender is masked.</p>
    <${Table} label="Headers" rows=${of.headers} empty="No header is kept." columns=${[
      { title: "Header", text: true, of: ([name]) => name }, { title: "Value", text: true, of: ([, value]) => value }]} />
    ${of.body === null ? html`<p class="note">The body is no text; this is Base64 of it.</p><${Text} of=${of.body_base64} label="Body in Base64" />`
      : html`<${Text} of=${pretty(of.body)} label="Body" />`}`;
}
