// What each limit has decided, now and over time, who is near to it, and how full the buckets of a subject are.

import { LONG, get, post } from "../api.js";
import { Drawn, Ranges, useHistory } from "../history.js";
import { ofLimit } from "../over_time.js";
import { age, clock, decimal, number } from "../text.js";
import { Choice, Done, Field, Table, Trouble, Verb, html, useEvery, useLoaded, useState } from "../ui.js";

const DECISIONS = [["allowed", "Allowed"], ["delayed", "Delayed"], ["held", "Held"], ["dropped", "Dropped"], ["rejected", "Rejected"], ["would_reject", "Would reject"]];

export function Limits({ status, may }) {
  const [subject, setSubject] = useState(null);
  const rows = Object.entries(status.traffic.limits).map(([id, did]) => ({ id, ...did }));
  return html`<section><h2>Limits</h2><p class="note">Decisions since Sluice was started.</p>
      <${Table} label="Limits" rows=${rows} keyOf=${(row) => row.id} empty="No limit is configured." columns=${[
        { title: "Limit", text: true, of: (row) => html`<b>${row.id}</b>` },
        ...DECISIONS.map(([key, title]) => ({ title, of: (row) => number(row[key]), kind: (row) => (row[key] ? "" : "none") })),
      ]} />
      <p>Revision <a href="#/policies">${status.revision}</a> is in force${status.policies.problems.length ? html`, as <a href="#/policies" class="bad">the file is wrong</a>` : ""}; <a href="#/policies">try an edit, or explain a request</a>.</p></section>
    <${OverTime} limits=${rows.map(({ id }) => id)} />
    <${Nearest} choose=${setSubject} />
    <${Buckets} ...${{ limits: rows.map(({ id }) => id), may, subject, setSubject }} />`;
}

function OverTime({ limits }) {
  const [range, setRange] = useState("hour");
  const { value, trouble } = useHistory(range, (history) => limits.map((id) => ofLimit(history, id)).filter((one) => one.lines.length), [limits.join("\n")]);
  return html`<section><h2>Over time</h2><${Ranges} range=${range} choose=${setRange} /><${Trouble} of=${trouble} />
    ${value ? (value.length ? html`<div class="charts">${value.map((one) => html`<${Drawn} key=${one.title + one.unit} of=${one} />`)}</div>`
      : html`<p class="note empty">No limit has met a request in this time.</p>`) : null}</section>`;
}

const named = ({ session, workspace, ip, event, bucket }) => Object.fromEntries(Object.entries({ session, workspace, ip, event, limit: bucket.limit }).filter(([, value]) => value !== null));

/** Looked for only when somebody asks: the log of ten minutes is read for it. */
function Nearest({ choose }) {
  const [asked, setAsked] = useState(0);
  const { value, trouble, busy } = useLoaded(async () => (asked ? get("limits/nearest", {}, LONG) : null), [asked]);
  const open = (row) => { choose(named(row)); document.getElementById("buckets").scrollIntoView(); };
  return html`<section><h2>Nearest to a limit</h2>
    <p class="note">Of the subjects that the access log of this machine has of the last ten minutes, with the level that their buckets have now.</p>
    <div class="actions"><button type="button" class="quiet" disabled=${busy} onClick=${() => setAsked(asked + 1)}>${busy ? "Looking…" : asked ? "Look again" : "Look"}</button></div>
    <${Trouble} of=${trouble} />
    ${value ? html`<p class="note" role="status">${value.began === null ? "The log has no requests of that time: it takes log: {to: files, requests: json}."
      : `${number(value.requests)} requests since ${clock(value.began)}${value.complete ? "" : ", which is all that the log has or that is looked at"}.`}</p>
      <${Table} label="Nearest to a limit" rows=${value.subjects} empty="No subject was seen." columns=${[
        { title: "Subject", text: true, of: (row) => html`<b>${row.bucket.subject}</b>`, small: (row) => row.bucket.limit },
        { title: "Level", of: (row) => html`<${Level} of=${row.bucket} />`, kind: (row) => (row.bucket.wait ? (row.bucket.enforced ? "bad" : "look") : "") },
        { title: "Requests", of: (row) => number(row.requests) },
        { title: "Beyond it", of: (row) => number(row.refused), kind: (row) => (row.refused ? "look" : "none"), small: () => "about" },
        { title: "Its buckets", unseen: true, of: (row) => html`<button type="button" class="quiet" onClick=${() => open(row)}>Buckets</button>` },
      ]} />` : null}</section>`;
}

function Level({ of }) {
  return html`<meter min="0" max=${of.burst} value=${Math.max(0, of.level)} aria-label=${`Level of ${of.limit}`}></meter> ${decimal(of.level)} of ${number(of.burst)}`;
}

function Buckets({ limits, may, subject, setSubject }) {
  const [said, setSaid] = useState("");
  const found = useLoaded(async () => (subject ? get("limits", subject) : null), [subject]);
  useEvery(2, () => subject && found.again(), [subject]);
  const search = (event) => {
    event.preventDefault();
    setSaid("");
    setSubject(Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value !== "")));
  };
  const done = (words) => { setSaid(words); found.again(); };
  return html`<section id="buckets"><h2>Buckets of a subject</h2>
    <form class="filter" role="search" onSubmit=${search}>
      <${Field} label="Session" name="session" /><${Field} label="Address" name="ip" placeholder="203.0.113.7" />
      <${Field} label="Workspace" name="workspace" /><${Field} label="Event type" name="event" />
      <${Choice} label="Limit" name="limit" options=${[["", "all"], ...limits.map((id) => [id, id])]} value="" />
      <button>Show</button>
    </form>
    <${Trouble} of=${found.trouble} />
    ${found.value ? html`
      <${Table} label="Buckets" rows=${found.value.buckets} keyOf=${(row) => row.limit} empty="None." columns=${[
        { title: "Limit", text: true, of: (row) => html`<b>${row.limit}</b>`, small: (row) => `${row.subject}${row.override ? ` · ${row.override}` : ""}` },
        { title: "Level", of: (row) => html`<${Level} of=${row} />` },
        { title: "Rate", of: (row) => `${number(row.amount)} in ${age(row.period)}` },
        { title: "Beyond it", text: true, of: (row) => (row.enforced ? row.over : `${row.over}, only counted`) },
        { title: "Next in", of: (row) => (row.wait ? `${decimal(row.wait)} s` : "now"), kind: (row) => (row.wait ? "look" : "") },
      ]} />
      ${found.value.others.length ? html`<details><summary>${number(found.value.others.length)} have no bucket for it</summary><ul>${found.value.others.map((one) => html`<li>${one.limit} ${one.why}</li>`)}</ul></details>` : null}
      ${may ? html`<div class="actions">
        <${Verb} title="Make its buckets full" verb="Make them full" after=${done}
          look=${async () => { const would = await post("limits/reset", { ...subject, dry_run: true }); return html`<p>${number(would.reset)} of them are not full, and will be.</p>`; }}
          act=${async () => `${number((await post("limits/reset", subject)).reset)} are full again.`}>Reset…</${Verb}>
        ${subject.session ? html`<${Verb} title=${`Let go what is delayed of ${subject.session}`} verb="Let it go" after=${done}
          look=${async () => html`<p>What limits delay of this session goes now, and its own buckets are out of debt.</p>`}
          act=${async () => `${number((await post("limits/release", { session: subject.session, limit: subject.limit })).events)} events go now.`}>Release…</${Verb}>` : null}
      </div>` : null}` : null}
    <${Done} of=${said} />
  </section>`;
}
