// What the rules find wrong, who is told, a test of each receiver, and silences.

import { get, post } from "../api.js";
import { cureOf } from "../cures.js";
import { age, ago, clock, decimal } from "../text.js";
import { Choice, Done, Field, Table, Trouble, Verb, html, useEvery, useLoaded, useState } from "../ui.js";

const TIMES = [[1800, "30 minutes"], [3600, "an hour"], [7200, "2 hours"], [28800, "8 hours"], [86400, "a day"], [604800, "a week"]];
const STATES = { firing: ["bad", "wrong"], pending: ["look", "wrong, not for long enough"], settling: ["look", "well, not for long enough"], over: ["none", "over"] };
const EVENTS = { firing: "wrong", still_firing: "still wrong", resolved: "over" };
const all = (name, everything) => (name === "*" ? everything : name);

export function Alerts({ status, may }) {
  const [said, setSaid] = useState("");
  const { value, trouble, again } = useLoaded(() => get("alerts"), []);
  useEvery(5, again);
  const after = (words) => { setSaid(words); again(); };
  if (!value) return html`<${Trouble} of=${trouble} />`;
  return html`<${Trouble} of=${trouble} /><${Done} of=${said} />
    <${Wrong} ...${{ alerts: value.alerts, rules: value.rules, now: Date.parse(status.at), may, after }} />
    <${Silences} ...${{ silences: value.silences, kinds: [...new Set(value.rules.map((rule) => rule.kind))], may, after }} />
    <${Receivers} ...${{ receivers: value.receivers, may, after }} />
    <${Rules} rules=${value.rules} />
    <section><h2>What was told last</h2><${Table} label="What was told last" rows=${value.history} empty="Nobody was told anything yet." columns=${[
      { title: "At", text: true, of: (row) => clock(row.at) },
      { title: "To", text: true, of: (row) => row.receiver },
      { title: "What", text: true, of: (row) => html`<b>${EVENTS[row.event]}</b>: ${row.text}`, small: (row) => named(row) },
    ]} /></section>`;
}

const named = ({ kind, subject }) => (subject ? `${kind} of ${subject}` : kind);

function Wrong({ alerts, rules, now, may, after }) {
  const empty = rules.length ? "Nothing is wrong by the rules." : "There are no rules: write some below alerts.rules in the policies.";
  return html`<section><h2>Wrong by the rules</h2><${Table} label="Wrong by the rules" rows=${alerts} empty=${empty} keyOf=${(row) => JSON.stringify([row.rule, row.subject, row.machine])} columns=${[
    { title: "What", text: true, of: (row) => row.text, small: (row) => named(row) },
    { title: "State", text: true, of: (row) => html`<span class=${`state ${STATES[row.state][0]}`}>${STATES[row.state][1]}</span>`, small: (row) => (row.silenced ? "silenced" : "") },
    { title: "For", of: (row) => age((now - Date.parse(row.since)) / 1000) },
    { title: "Told", text: true, of: (row) => Object.entries(row.notified).map(([name, at]) => `${name}, ${ago(at, now)}`).join("; ") || "nobody" },
    { title: "Cure", text: true, of: (row) => { const to = cureOf(row.kind, row.subject, row.text); return html`<div class="actions">
      ${to ? html`<a class="cure" href=${to[0]}>${to[1]}</a>` : null}
      ${may && !row.silenced ? html`<${Silence} kind=${row.kind} subject=${row.subject || "*"} after=${after}>Silence…<//>` : null}</div>`; } },
  ]} /></section>`;
}

/** `kinds`: to choose from, where it is not given which. */
function Silence({ kind, subject, kinds, after, children }) {
  const which = kind === undefined ? "Silence alerts" : `Silence ${all(kind, "everything")}${subject === "*" ? "" : ` of ${subject}`}`;
  const look = async () => html`<p>Nobody is told of it meanwhile. What is due when the silence ends is told then.</p>
    <div class="filter">
      ${kind === undefined ? html`<${Choice} label="What" name="kind" value="*" options=${[["*", "everything"], ...kinds.map((one) => [one, one])]} />
        <${Field} label="Of, a name or glob" name="subject" value="*" required=${true} />` : null}
      <${Choice} label="For" name="seconds" value="3600" options=${TIMES.map(([seconds, text]) => [String(seconds), text])} />
      <${Field} label="Why, for whoever looks at it" name="why" />
    </div>`;
  const act = async (form) => {
    const asked = { kind: kind ?? form.get("kind"), subject: subject ?? form.get("subject"), seconds: Number(form.get("seconds")), why: form.get("why") };
    const made = await post("alerts/silence", asked);
    return `Silenced until ${clock(made.until)}.`;
  };
  return html`<${Verb} title=${which} verb="Silence it" look=${look} act=${act} after=${after}>${children}<//>`;
}

function Silences({ silences, kinds, may, after }) {
  return html`<section><h2>Silences</h2><${Table} label="Silences" rows=${silences} empty="Nothing is silenced." keyOf=${(row) => row.kind + row.subject} columns=${[
      { title: "What", text: true, of: (row) => html`<b>${all(row.kind, "everything")}</b>`, small: (row) => (row.subject === "*" ? "" : `of ${row.subject}`) },
      { title: "Until", text: true, of: (row) => clock(row.until) },
      { title: "Why", text: true, of: (row) => row.why || "–" },
      ...(may ? [{ title: "End it", unseen: true, of: (row) => html`<${Verb} title=${`Tell of ${all(row.kind, "everything")} again`} verb="End the silence" after=${after}
        look=${async () => html`<p>What is wrong is told at once.</p>`}
        act=${async () => { await post("alerts/unsilence", { kind: row.kind, subject: row.subject }); return "It is told again."; }}>End…<//>` }] : []),
    ]} />
    ${may ? html`<div class="actions"><${Silence} kinds=${kinds} after=${after}>Silence alerts…<//></div>` : null}</section>`;
}

function Receivers({ receivers, may, after }) {
  const test = (receiver) => ({
    title: receiver ? `Send ${receiver} a test` : "Send everybody a test", verb: "Send it", after,
    look: async () => html`<p>A message that is marked as a test goes to ${receiver ?? "each receiver, and the heartbeat is asked once"}.</p>`,
    act: async () => (await post("alerts/test", { receiver })).receivers.map((one) => `${one.receiver}: ${one.taken ? "taken" : "not taken"}${one.said ? ` (${one.said})` : ""}`).join("; "),
  });
  return html`<section><h2>Receivers</h2><${Table} label="Receivers" rows=${receivers} empty="There is no receiver: write one below alerts.receivers in the policies." keyOf=${(row) => row.receiver} columns=${[
      { title: "Receiver", text: true, of: (row) => html`<b>${row.receiver}</b>`, small: (row) => `${row.way} ${row.to}` },
      { title: "State", text: true, of: (row) => (row.failing_since ? html`<b class="bad">has taken nothing for ${ago(row.failing_since).replace(" ago", "")}</b>` : row.taken_at ? `took a message ${ago(row.taken_at)}` : "had none yet"), small: (row) => row.why },
      ...(may ? [{ title: "Test it", unseen: true, of: (row) => html`<${Verb} ...${test(row.receiver)}>Test…<//>` }] : []),
    ]} />
    ${may && receivers.length ? html`<div class="actions"><${Verb} ...${test()}>Test all…<//></div>` : null}</section>`;
}

function Rules({ rules }) {
  return html`<section><h2>Rules</h2><${Table} label="Rules" rows=${rules} empty="There are none." keyOf=${(row) => row.id} columns=${[
    { title: "Rule", text: true, of: (row) => html`<b>${row.id}</b>`, small: (row) => [row.only.length ? `only ${row.only.join(", ")}` : "", row.never ?? ""].filter(Boolean).join(" · ") },
    { title: "Over", of: (row) => (row.over === null ? "–" : decimal(row.over)) },
    { title: "For", of: (row) => (row.for_s ? age(row.for_s) : "at once") },
    { title: "Again", of: (row) => (row.repeat_s ? `each ${age(row.repeat_s)}` : "never") },
    { title: "To", text: true, of: (row) => row.to.join(", ") },
  ]} /></section>`;
}
