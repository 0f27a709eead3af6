// Sessions that are of no use any more: which they are, by the gateway's own dry run, and ending them.

import { part, post } from "../api.js";
import { number, some } from "../text.js";
import { Table, Verb, html } from "../ui.js";

const ENDED = "They run nowhere then, until somebody creates or restores them; Laravel is told.";
const WITHIN = 310000; // workers are asked to close one after the other
const OUTCOMES = { ended: "ended", changed: "not as it was found any more", not_closed: "not closed by their worker" };

export function Cleaning({ after }) {
  return html`
    <${Verb} title="End duplicates of a phone" verb="End them" dangerous=${true} after=${after} look=${duplicates}
      act=${async () => came(await post("cleaning/duplicates", { confirm: true }, WITHIN))}>Clean duplicates…</${Verb}>
    <${Verb} title="End stale sessions" verb="End them" dangerous=${true} after=${after} look=${stale}
      act=${async () => came(await post("cleaning", { confirm: true }, WITHIN))}>Clean up…</${Verb}>`;
}

export function Rivals({ rivals }) {
  return html`<h3>Two with one phone</h3><${Table} label="Two with one phone" rows=${rivals} columns=${[
    { title: "Session", text: true, of: (row) => html`<a href=${`#/session/${part(row.session)}`}>${row.session}</a>` },
    { title: "At", text: true, of: (row) => row.worker },
    { title: "Has the phone of", text: true, of: (row) => html`<a href=${`#/session/${part(row.stays)}`}>${row.stays}</a>` }]} />`;
}

async function duplicates() {
  const would = await post("cleaning/duplicates", { dry_run: true });
  if (!would.sessions.length) return nothing("No session has the phone of another one that is connected.");
  return html`<p>${some(would.sessions.length, "session has", "sessions have")} the phone of another one that is connected${more(would)}. ${ENDED}</p>
    <ul>${would.sessions.map((one) => html`<li><b>${one.session}</b>: ${one.why}${one.worker ? ` (at ${one.worker})` : ""}; <b>${one.stays}</b> stays with phone ${one.phone}</li>`)}</ul>`;
}

async function stale() {
  const would = await post("cleaning", { dry_run: true });
  if (!would.sessions.length) return nothing("No session is stale (sessions.cleanup).");
  return html`<p>${some(would.sessions.length, "session is", "sessions are")} stale${more(would)}. ${ENDED}</p>
    <ul>${would.sessions.map((one) => html`<li><b>${one.session}</b>: ${one.why}${one.phone ? ` (phone ${one.phone})` : ""}</li>`)}</ul>`;
}

function nothing(words) {
  return html`<p>${words}</p>`;
}

function more(would) {
  return would.more ? ", and there may be more" : "";
}

function came({ outcomes }) {
  return Object.entries(outcomes).map(([outcome, many]) => `${number(many)} ${OUTCOMES[outcome] ?? outcome}`).join(", ") || "There was none.";
}
