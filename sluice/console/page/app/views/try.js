// Try it: a test event to one endpoint, signed as any other, and how it arrives.

import { get, part, post } from "../api.js";
import { clock, number } from "../text.js";
import { Choice, Done, Field, State, Table, Text, Verb, html, useEvery, useLoaded, useState } from "../ui.js";

const OVER = ["delivered", "dead", "dropped", "expired", "replaced", "superseded"];

export function Try({ status, may }) {
  const [asked, setAsked] = useState({ endpoint: Object.keys(status.endpoints)[0] ?? "", event: "sluice_test", path: "/api/whatsapp/webhooks/webjs", session: "" });
  const [id, setId] = useState(null);
  const set = (name) => (event) => setAsked({ ...asked, [name]: event.target.value });
  const { endpoint, ...what } = asked;
  const body = { ...what, event: what.event || undefined };
  return html`<section aria-labelledby="try"><h2 id="try">Send a test event</h2>
    <p class="note">It is stored, signed and sent as any event of a worker, so you see whether the endpoint takes it. Laravel knows no <code>sluice_test</code>, and answers 200 to it.</p>
    <div class="filter">
      <${Choice} label="Endpoint" name="endpoint" value=${endpoint} options=${Object.keys(status.endpoints).map((name) => [name, name])} onChange=${set("endpoint")} />
      <${Field} label="Event type" name="event" value=${asked.event} onInput=${set("event")} />
      <${Field} label="Path behind its url" name="path" value=${asked.path} onInput=${set("path")} />
      <${Field} label="Behind what waits of session" name="session" value=${asked.session} onInput=${set("session")} />
    </div>
    ${may ? html`<div class="actions"><${Verb} title=${`Send a test event to ${endpoint}`} verb="Send it" disabled=${!endpoint} after=${setId}
      look=${async () => planned(await post(`tries/${part(endpoint)}`, { ...body, dry_run: true }))}
      act=${async () => (await post(`tries/${part(endpoint)}`, body)).id}>Send a test event…</${Verb}></div>` : html`<p class="note">Only <code>console.token</code> may send.</p>`}
    ${id ? html`<${Arrival} key=${id} id=${id} />` : null}</section>`;
}

function planned(would) {
  return html`<p>This goes to <code>${would.url}</code>, ${would.signed ? "signed" : html`<b>not signed</b>, as the endpoint has no <code>sign</code>`}${would.waiting ? `; ${number(would.waiting)} wait for it already` : ""}:</p>
    <${Text} of=${would.body} label="Body" />`;
}

/** Asked for until it is over. */
function Arrival({ id }) {
  const event = useLoaded(() => get(`events/${part(id)}`), [id]);
  const at = Object.entries(event.value?.endpoints ?? {});
  const over = at.length > 0 && at.every(([, one]) => OVER.includes(one.state));
  useEvery(1, () => over || event.busy || event.again(), [id, over, event.busy]);
  if (!event.value) return html`<${Done} of=${event.trouble || "It is stored."} />`;
  return html`<h3>How it arrives</h3>${at.map(([name, one]) => html`
    <p role="status"><${State} of=${one.state} /> ${one.why}</p>
    <${Table} label=${`Attempts at ${name}`} empty="No attempt yet." rows=${one.attempts} columns=${[
      { title: "At", text: true, of: (row) => clock(row.at) },
      { title: "Answer", text: true, of: (row) => row.status ?? "none", small: (row) => row.reason },
      { title: "Took", of: (row) => `${Math.round(row.ms)} ms` }]} />`)}
    <p><a href=${`#/event/${part(id)}`}>Everything about it</a></p>`;
}
