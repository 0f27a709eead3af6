// Everything at a glance: what is wrong now and where it is cured, what comes in and goes out, and who does the work.

import { part } from "../api.js";
import { Chart } from "../chart.js";
import { cure } from "../cures.js";
import { History } from "../history.js";
import { rate, seen } from "../live.js";
import { age, decimal, number, some } from "../text.js";
import { State, Table, html, useEffect } from "../ui.js";

const LINES = [{ name: "in", colour: "--in" }, { name: "delivered", colour: "--out" }];
const sum = (rows, key) => (rows.some((row) => row[key] === null) ? null : rows.reduce((total, row) => total + row[key], 0));

export function Overview({ status, parts }) {
  useEffect(() => { if (parts[0]) document.getElementById(parts[0])?.scrollIntoView(); }, [parts[0]]);
  return html`
    <${WrongFile} ...${status} />
    <${Health} status=${status} />
    <${Figures} status=${status} />
    <${Flow} />
    <${History} />
    <section id="upstreams"><h2>Upstreams</h2><p class="note">Requests of the last minute.</p><${Upstreams} upstreams=${status.upstreams} /></section>
    <section><h2>Endpoints</h2><${Endpoints} endpoints=${status.endpoints} /></section>
    <section><h2>Workers</h2><p><a href="#/workers">${some(status.workers.length, "worker", "workers")}</a>${lost(status.workers)}</p></section>
    <div class="pair">
      <section><h2>Sessions by state</h2><${States} sessions=${status.sessions} /></section>
      <section><h2>Events accepted by type</h2><${Types} events=${status.traffic.events} /></section>
    </div>`;
}

/** A wrong policies file, with every mistake in it, for as long as it is wrong. */
function WrongFile({ policies, revision }) {
  const problems = policies.problems;
  if (!problems.length) return null;
  return html`<section id="file" role="alert">
    <h2>${policies.source} has ${problems.length === 1 ? "a mistake" : `${problems.length} mistakes`}; revision ${revision} stays in force</h2>
    <ul>${problems.map(({ line, column, key, message, hint }) => html`<li>${line ? `line ${line}, column ${column}: ` : ""}${key ? `${key}: ` : ""}${message}; ${hint}</li>`)}</ul>
  </section>`;
}

function Health({ status }) {
  const circuits = [...Object.values(status.endpoints).map((one) => one.circuit?.state), ...Object.values(status.upstreams).map((one) => one.circuit)];
  const bad = !status.store.ok || status.relays === 0 || circuits.includes("open");
  const count = status.messages.length;
  return html`<section id="health" class=${bad ? "bad" : count ? "look" : "good"}>
    <h2 id="verdict" role="status">${count ? `${count === 1 ? "One thing" : `${count} things`} to look at` : "All is well"}</h2>
    <ul id="messages">${status.messages.map((sentence, i) => {
      const to = cure(status.message_topics[i], sentence);
      return html`<li>${sentence}${to ? html` <a class="cure" href=${to[0]}>${to[1]}</a>` : null}</li>`;
    })}</ul>
  </section>`;
}

function Figures({ status }) {
  const endpoints = Object.values(status.endpoints);
  const last = seen.samples.length - 1, dead = sum(endpoints, "dead");
  const oldest = Math.max(0, ...endpoints.map((one) => one.oldest_due_s ?? 0));
  const figures = [
    ["Events in", decimal(rate(last, "accepted")), "per second"],
    ["Delivered", decimal(rate(last, "delivered")), "per second"],
    ["Waiting", number(sum(endpoints, "waiting")), oldest ? `the oldest for ${age(oldest)}` : `and ${number(sum(endpoints, "leased"))} on the way`, "#/deliveries?tab=waiting"],
    ["Dead letters", number(dead), dead ? "wait for a person" : "none wait", "#/deliveries?tab=dead"],
    ["Sessions connected", number(status.sessions.connected), `of ${number(status.sessions.total)}`, "#/sessions"],
  ];
  return html`<section aria-labelledby="now"><h2 id="now" class="unseen">Now</h2><dl id="figures">${figures.map(([name, value, more, to]) => html`
    <div><dt>${to ? html`<a href=${to}>${name}</a>` : name}</dt><dd><b>${value}</b> <span>${more}</span></dd></div>`)}</dl></section>`;
}

function Flow() {
  const { samples } = seen;
  const data = [samples.map((one) => one.at), samples.map((_, i) => rate(i, "accepted")), samples.map((_, i) => rate(i, "delivered"))];
  const last = samples.length - 1;
  const words = last < 0 ? "Not known yet" : `Now ${decimal(rate(last, "accepted"))} in and ${decimal(rate(last, "delivered"))} delivered a second`;
  return html`<${Chart} label="Events per second, the last two minutes" lines=${LINES} data=${data} words=${words} span=${120} time=${(at) => new Date(at * 1000).toLocaleTimeString("en-GB")} />`;
}

function Upstreams({ upstreams }) {
  const rows = Object.entries(upstreams).map(([name, one]) => {
    const failed = Object.entries(one.outcomes).filter(([outcome]) => outcome !== "answered").sort((a, b) => b[1] - a[1]);
    const out = one.members.filter((member) => member.out).map((member) => member.url);
    const members = `${one.members.length - out.length} of ${one.members.length} members are well${out.length ? `; left out: ${out.join(", ")}` : ""}`;
    return { name, ...one, failed, about: one.members.length ? members : one.url || "all of them together" };
  });
  return html`<${Table} label="Upstreams" empty="No upstream is configured." rows=${rows} keyOf=${(row) => row.name} columns=${[
    { title: "Upstream", text: true, of: (row) => html`<b>${row.name}</b>`, small: (row) => row.about },
    { title: "Circuit", text: true, of: (row) => html`<${State} of=${row.circuit} />`, small: (row) => (row.failing_s ? `fails for ${age(row.failing_s)}` : "") },
    { title: "Requests", of: (row) => number(Object.values(row.outcomes).reduce((all, many) => all + many, 0)) },
    { title: "Failed", of: (row) => number(row.failed.reduce((all, [, many]) => all + many, 0)), small: (row) => row.failed.map(([outcome, many]) => `${number(many)} ${outcome.replace("_", " ")}`).join(", ") },
  ]} />`;
}

export function Endpoints({ endpoints }) {
  const rows = Object.entries(endpoints).map(([name, one]) => ({ name, ...one }));
  return html`<${Table} label="Endpoints" empty="No endpoint is configured." rows=${rows} keyOf=${(row) => row.name} columns=${[
    { title: "Endpoint", text: true, of: (row) => html`<a href=${`#/deliveries/${part(row.name)}`}><b>${row.name}</b></a>`, small: (row) => (row.rate === null ? "no rate set" : `at most ${decimal(row.rate)} per second`) },
    { title: "Circuit", text: true, of: (row) => html`<${State} of=${row.circuit?.state ?? "not known"} />`, small: (row) => (row.circuit?.held ? "held by a person" : row.circuit?.why ?? "") },
    { title: "Waiting", of: (row) => number(row.waiting) },
    { title: "Oldest", of: (row) => (row.oldest_due_s ? age(row.oldest_due_s) : "–") },
    { title: "In flight", of: (row) => number(row.leased) },
    { title: "Delivered", of: (row) => number(row.delivered) },
    { title: "Retried", of: (row) => number(row.retried) },
    { title: "Dead", of: (row) => number(row.dead), kind: (row) => (row.dead ? "look" : "") },
  ]} />`;
}

function States({ sessions }) {
  const rows = Object.entries(sessions.states);
  if (sessions.unowned) rows.push(["of them without a worker", sessions.unowned]);
  return html`<${Table} label="Sessions by state" empty=${sessions.total === null ? "Not known while the store is away." : "No session yet."} rows=${rows} columns=${[
    { title: "State", text: true, of: ([state]) => state }, { title: "Sessions", of: ([, many]) => number(many) }]} />`;
}

function Types({ events }) {
  return html`<${Table} label="Events by type" empty="Nothing accepted since Sluice was started." rows=${Object.entries(events)} columns=${[
    { title: "Event", text: true, of: ([type]) => type }, { title: "Accepted", of: ([, many]) => number(many) }]} />`;
}

function lost(workers) {
  const many = workers.filter((one) => one.lost).length;
  return many ? html`, <b class="bad">${number(many)} lost</b>` : "";
}
