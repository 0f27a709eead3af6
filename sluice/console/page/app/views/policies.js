// The policies in force, what is wrong with their file, what another text would do, and what would become of a request.

import { get, post } from "../api.js";
import { ago, clock, number } from "../text.js";
import { Choice, Facts, Field, Table, Trouble, html, useLoaded, useState } from "../ui.js";

const TIMES = [["600", "10 minutes"], ["3600", "hour"], ["21600", "6 hours"], ["86400", "day"]];
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"].map((one) => [one, one]);
const COUNTS = [["refused", "refused"], ["dropped", "dropped"], ["delayed", "delayed"], ["held", "held"], ["would_reject", "would be refused if it were enforced"]];

export function Policies({ status, may }) {
  const { policies, revision } = status;
  return html`<section><h2>In force</h2>
      <${Facts} facts=${[["Revision", revision], ["File", policies.source], ["Since", `${clock(policies.loaded_at)} (${ago(policies.loaded_at, Date.parse(status.at))})`],
        ["Counts from the next start on", policies.needs_restart.join(", ")]]} />
      ${policies.problems.length ? html`<p class="trouble">The file is wrong, so this revision stays in force.</p><${Problems} label="Mistakes of the file" problems=${policies.problems} />`
        : html`<p class="note">The file says what is in force.</p>`}</section>
    ${may ? html`<${Trial} revision=${revision} />` : html`<section><h2>Try an edit</h2><p class="note">It takes the token of an operator.</p></section>`}
    <${Explain} />`;
}

function Problems({ label, problems }) {
  return html`<${Table} label=${label} rows=${problems} columns=${[
    { title: "Line", of: (row) => (row.line ? `${row.line}:${row.column}` : "–") },
    { title: "Key", text: true, of: (row) => html`<b>${row.key || "–"}</b>` },
    { title: "What is wrong", text: true, of: (row) => row.message },
    { title: "Cure", text: true, of: (row) => row.hint },
  ]} />`;
}

/** What somebody has written stays, also when another revision comes into force meanwhile. */
function Trial({ revision }) {
  const { value, trouble } = useLoaded(() => get("policies"), [revision]);
  const [text, setText] = useState(null);
  const [seconds, setSeconds] = useState("3600");
  const [found, setFound] = useState({ busy: false, trouble: "", value: null });
  if (!value) return html`<${Trouble} of=${trouble} />`;
  const given = text ?? value.text ?? "";
  const go = async (event) => {
    event.preventDefault();
    setFound({ busy: true, trouble: "", value: null });
    try {
      setFound({ busy: false, trouble: "", value: await post("policies/try", { text: given, seconds: Number(seconds) }) });
    } catch (error) {
      setFound({ busy: false, trouble: error.message, value: null });
    }
  };
  return html`<section><h2>Try an edit</h2>
    <p class="note">Nothing is written: when it does what it should, write it into ${value.source}, which counts at once.${value.text?.includes("***@") ? " *** is a password, which is not shown: leave what stands there in the file." : ""}</p>
    <form onSubmit=${go}>
      <label class="named"><span>policies.yaml, as it would be</span>
        <textarea name="text" rows="16" spellcheck=${false} autocapitalize="off" value=${given} onInput=${(event) => setText(event.target.value)}></textarea></label>
      <div class="actions">
        <${Choice} label="Requests of the last" name="seconds" options=${TIMES} value=${seconds} onChange=${(event) => setSeconds(event.target.value)} />
        <button disabled=${found.busy || !given}>${found.busy ? "Trying…" : "Try it"}</button>
        ${text === null || text === value.text ? null : html`<button type="button" class="quiet" onClick=${() => setText(value.text ?? "")}>As in force</button>`}
      </div>
    </form>
    <${Trouble} of=${found.trouble} />
    <div role="status">${found.value ? html`<${Tried} of=${found.value} />` : null}</div>
  </section>`;
}

function Tried({ of }) {
  if (!of.valid) return html`<h3 class="bad">${of.problems.length === 1 ? "A mistake" : `${of.problems.length} mistakes`}</h3><${Problems} label="Mistakes of the edit" problems=${of.problems} />`;
  return html`<h3 class="good">It is valid</h3>
    ${of.warnings.length ? html`<ul>${of.warnings.map((one) => html`<li class="look">${one}</li>`)}</ul>` : null}
    <h3>What it changes</h3>
    ${of.changes === null ? html`<p class="note">The text of revision ${of.in_force} is not there any more.</p>`
      : html`<${Table} label="What it changes" rows=${of.changes} empty="It says the same as what is in force." columns=${[
        { title: "Key", text: true, of: (row) => html`<b>${row.key}</b>`, small: (row) => (row.needs_restart ? "counts from the next start on" : "") },
        { title: "In force", text: true, of: (row) => row.old ?? "–" }, { title: "Edit", text: true, of: (row) => row.new ?? "–" },
      ]} />`}
    <h3>Whom it would have refused</h3>
    ${of.log ? html`<${Requests} log=${of.log} />` : html`<p class="note">The access log of this machine has no requests of that time: it takes <code>log: {to: files, requests: json}</code>.</p>`}`;
}

function Requests({ log }) {
  const counts = (one) => (one ? `${number(one.passed)} passed${COUNTS.filter(([key]) => one[key]).map(([key, said]) => `, ${number(one[key])} ${said}`).join("")}` : "–");
  const subjects = log.limits.flatMap((limit) => limit.worst.map((one) => ({ limit: limit.limit, ...one })));
  return html`<p>Of ${number(log.requests)} requests since ${clock(log.began)}${log.complete ? "" : ", which is all that the log has or that is looked at"}: <b>${number(log.refused)}</b> refused
      by the edit${log.refused_in_force === null ? "" : `, ${number(log.refused_in_force)} by what is in force`}.</p>
    <p class="note">An estimate, of the access log of this machine: buckets begin full, and costs in bodies and workspaces are not in it. ${number(log.refused_then)} were answered 429 then.</p>
    <${Table} label="By limit" rows=${log.limits} empty="It has no limit." columns=${[
      { title: "Limit", text: true, of: (row) => html`<b>${row.limit}</b>` },
      { title: "Edit", text: true, of: (row) => (row.tried ? counts(row.tried) : "is gone") }, { title: "In force", text: true, of: (row) => counts(row.in_force) },
    ]} />
    ${subjects.length ? html`<h3>Subjects</h3><${Table} label="Subjects" rows=${subjects} columns=${[
      { title: "Subject", text: true, of: (row) => html`<b>${row.subject}</b>`, small: (row) => row.limit },
      { title: "Beyond it, by the edit", of: (row) => number(row.times) }, { title: "In force", of: (row) => number(row.in_force) },
    ]} />` : null}`;
}

/** Which route, limits and buckets a request would meet. */
export function Explain() {
  const [method, setMethod] = useState("POST");
  const [found, setFound] = useState({ trouble: "", value: null });
  const go = async (event) => {
    event.preventDefault();
    const asked = Object.fromEntries(new FormData(event.target));
    const headers = asked.headers.split("\n").map((line) => line.trim()).filter(Boolean);
    try {
      setFound({ trouble: "", value: await post("explain", { ...asked, headers }) });
    } catch (error) {
      setFound({ trouble: error.message, value: null });
    }
  };
  return html`<section id="explain"><h2>Explain a request</h2><p class="note">Nothing is sent, and it takes from no bucket.</p>
    <form onSubmit=${go}>
      <div class="filter">
        <${Choice} label="Method" name="method" options=${METHODS} value=${method} onChange=${(event) => setMethod(event.target.value)} /><${Field} label="Path, with its query" name="path" placeholder="/api/send" required=${true} />
        <${Field} label="From address" name="ip" placeholder="127.0.0.1" />
        <label class="named"><span>Headers, one a line</span><textarea name="headers" rows="2" spellcheck=${false}></textarea></label>
        <label class="named"><span>Body</span><textarea name="body" rows="2" spellcheck=${false}></textarea></label>
        <button>Explain</button>
      </div>
    </form>
    <${Trouble} of=${found.trouble} />
    <div role="status">${found.value ? html`<${Explained} of=${found.value} />` : null}</div></section>`;
}

function Explained({ of }) {
  return html`<p id="outcome"><b>${of.outcome}</b></p>
    <${Facts} facts=${[["Client", of.client], ["Listener", of.on], ["Route", of.route && `${of.route} (line ${of.line})`], ["Event type", of.event], ["Session", of.session],
      ["Workspace", of.workspace], ["Signature", of.signature && `${of.signature.name}, which is not checked here; without a valid one it is 401`]]} />
    ${of.notes.length ? html`<ul>${of.notes.map((one) => html`<li>${one}</li>`)}</ul>` : null}
    <${Table} label="Limits that it meets" rows=${of.limits} keyOf=${(row) => row.id} empty="It meets no limit." columns=${[
      { title: "Limit", text: true, of: (row) => html`<b>${row.id}</b>`, small: (row) => row.how },
      { title: "Left", of: (row) => (row.level === null ? "not known" : `${number(Math.max(0, Math.floor(row.level)))} of ${number(row.burst)}`) },
      { title: "One more each", of: (row) => `${number(row.seconds_for_one)} s` }, { title: "Costs", of: (row) => number(row.cost) },
    ]} />
    ${Object.keys(of.not_met).length ? html`<details><summary>Limits that do not apply</summary><ul>${Object.entries(of.not_met).map(([id, why]) => html`<li><b>${id}</b> ${why}</li>`)}</ul></details>` : null}`;
}
