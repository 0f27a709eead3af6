// What was counted and seen over the last hour, day or 14 days, as lines and as rows. Nothing here draws.

import { age, decimal } from "./text.js";

export const RANGES = [["hour", "Last hour"], ["day", "Last day"], ["14d", "Last 14 days"]];
const ROWS = { hour: 12, day: 12, "14d": 14 };
const BAD = new Set(["5xx", "failed", "rejected", "dead", "lost", "p99", "open", "refused", "unowned"]);
const FIRST = new Set(["2xx", "answered", "delivered", "allowed", "accepted", "connected", "live", "p50", "waiting"]);
const LATER = ["--c2", "--c3", "--c4", "--c5", "--c6"];
const REFUSALS = new Set(["rejected", "dropped", "held", "delayed", "would_reject"]);
const OF = {
  endpoint: ["events", "deliveries", "waiting", "dead", "oldest_seconds", "circuits"],
  upstream: ["upstreams", "upstream_circuits"],
};
let compact; // made when the first axis is drawn: it takes a browser some time

/** Every chart that has something to show: {title, unit, times, lines: [{name, colour, values}]}. */
export function charts(history) {
  const made = [
    counted(history, "Requests answered", history.requests),
    counted(history, "Beyond a limit", history.limits.filter((line) => REFUSALS.has(line.what))),
    counted(history, "Requests to upstreams", history.upstreams),
    counted(history, "Events", history.events),
    counted(history, "Attempts to deliver", history.deliveries),
    stood(history, "Waiting, and dead letters", [...history.waiting, ...history.dead], sum),
    timed(history, "Oldest event that is due", history.oldest_seconds),
    timed(history, "From request to answer", history.request_seconds),
    timed(history, "From accept to delivery", history.delivery_seconds),
    stood(history, "Circuits that are not closed", [...history.circuits, ...history.upstream_circuits].map(notClosed), sum),
    stood(history, "Sessions", history.sessions, sum),
    stood(history, "Workers", history.workers, sum),
  ];
  return made.filter((one) => one.lines.length);
}

/** Of what the charts add up: [kind, name] of each endpoint and upstream in it. */
export function parts(history) {
  return Object.entries(OF).flatMap(([kind, from]) => {
    const names = new Set(from.flatMap((name) => history[name].map((line) => line.of)).filter((of) => of !== null));
    return [...names].sort().map((name) => [kind, name]);
  });
}

/** The same history with nothing in it but what is of this endpoint or upstream. */
export function only(history, [kind, name]) {
  return Object.fromEntries(Object.entries(history).map(([key, value]) => [key,
    Array.isArray(value) ? (OF[kind].includes(key) ? value.filter((line) => line.of === name) : []) : value]));
}

/** Of one limit: what it let pass, and what not. */
export function ofLimit(history, id) {
  return counted(history, id, history.limits.filter((line) => line.of === id));
}

function counted(history, title, lines) {
  const sums = joined(lines, sum);
  const seconds = sums[0]?.values.map((_, i) => secondsOf(history, i, sums[0].values.length));
  const rates = sums.map((line) => ({ ...line, values: line.values.map((value, i) => (value === null || seconds[i] === null ? null : value / seconds[i])) }));
  const most = Math.max(0, ...rates.flatMap((line) => line.values.map((value) => value ?? 0)));
  const [times, unit] = most >= 1 ? [1, "a second"] : most >= 1 / 60 ? [60, "a minute"] : [3600, "an hour"];
  return chart(history, title, unit, rates.map((line) => ({ ...line, values: line.values.map((value) => (value === null ? null : value * times)) })));
}

/** Of a step that has hardly begun nothing can be said. */
function secondsOf(history, i, many) {
  if (i < many - 1) return history.step_s;
  return history.last_s < history.step_s / 10 ? null : history.last_s;
}

const stood = (history, title, lines, join) => chart(history, title, "", joined(lines, join));
const timed = (history, title, lines) => chart(history, title, "seconds", joined(lines, (a, b) => Math.max(a, b)));
const notClosed = (line) => ({ ...line, what: "open", values: line.values.map((value) => (value === null ? null : Math.ceil(value))) });
const sum = (a, b) => a + b;

/** One line for each side of it; one that was 0 all the time is left out, unless all were. */
function joined(lines, join) {
  const by = new Map();
  for (const { what, values } of lines) {
    const before = by.get(what);
    by.set(what, before ? before.map((value, i) => (value === null ? values[i] : values[i] === null ? value : join(value, values[i]))) : values);
  }
  const all = [...by].map(([what, values]) => ({ what, values }));
  const some = all.filter((line) => line.values.some(Boolean));
  return some.length ? some : all.slice(0, 1);
}

function chart(history, title, unit, lines) {
  const began = Date.parse(history.began) / 1000;
  const rest = [...LATER];
  const coloured = lines.map(({ what, values }) => ({
    name: what.replace("_", " "), values, colour: BAD.has(what) ? "--bad" : FIRST.has(what) ? "--in" : rest.shift() ?? "--soft",
  }));
  return { title, unit, lines: coloured, range: history.range, times: (lines[0]?.values ?? []).map((_, i) => began + i * history.step_s) };
}

/** "3.2 a second" */
export function amount(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "seconds") return seconds(value);
  return `${decimal(value)}${unit ? ` ${unit}` : ""}`;
}

export function seconds(value) {
  if (value >= 60) return age(value);
  return value < 1 ? `${decimal(value * 1000)} ms` : `${decimal(value)} s`;
}

/** For an axis. */
export function brief(value, unit) {
  if (unit === "seconds") return seconds(value);
  compact ??= new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  return compact.format(value);
}

export function timeOf(at, range) {
  const given = range === "14d" ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", hour12: false };
  return new Date(at * 1000).toLocaleString("en-GB", given);
}

/** What it says, in a sentence. */
export function words({ lines, unit, times, range }) {
  return lines.map(({ name, values }) => {
    const known = values.filter((value) => value !== null);
    if (!known.length) return `${name}: not known`;
    const most = Math.max(...known), at = values.indexOf(most);
    const when = values.slice(-3).some((value) => value !== null) ? "now" : "when it was last known";
    return `${name}: ${amount(known.at(-1), unit)} ${when}, at most ${amount(most, unit)}${most ? ` (${timeOf(times[at], range)})` : ""}`;
  }).join("; ");
}

/** A few rows: {from, values: the highest of each line}. */
export function rows({ lines, times, range }) {
  const each = Math.ceil(times.length / ROWS[range]);
  const found = [];
  for (let i = 0; i < times.length; i += each) {
    const values = lines.map((line) => line.values.slice(i, i + each).filter((value) => value !== null));
    if (values.some((known) => known.length)) found.push({ from: times[i], values: values.map((known) => (known.length ? Math.max(...known) : null)) });
  }
  return found.reverse();
}
