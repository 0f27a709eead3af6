// The live page. Data reaches it only as text (textContent), never as markup.

import { amount, charts, rows as rowsOf, timeOf } from "./app/over_time.js";

const EVERY = 1000, SLOWEST = 15000, TIMEOUT = 5000, SPAN = 120, WINDOW = 5, GAP = 10, KEPT_FRESH = 60000;
const KEPT = "sluice.token";
const STATES = { closed: "good", "half-open": "look", open: "bad" };
const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

let token = takeToken();
let history = []; // [{at, accepted, delivered}] of the last two minutes, by the gateway's clock
let keptAt = 0; // when what is kept over time was asked for
let silentSince = null;
let failures = 0;
let timer = 0;
let asking = false;

// --- asking

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEPT, given);
    window.history.replaceState(null, "", location.pathname + location.search);
  }
  return given || sessionStorage.getItem(KEPT);
}

async function refresh() {
  if (asking || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  const again = await ask();
  asking = false;
  if (again) timer = setTimeout(refresh, again);
}

/** Milliseconds until it makes sense to ask again; 0: not before a person has done something. */
async function ask() {
  if (!token) return wantToken("This page is for the people who run this gateway.");
  let status, answer;
  try {
    const response = await fetch("api/status", { headers: authorization(), signal: AbortSignal.timeout(TIMEOUT) });
    status = response.status;
    answer = await response.json();
  } catch {
    return away("The gateway does not answer.");
  }
  if (status === 401) return refused();
  if (status === 403) return away(`${answer.detail}.`);
  return status === 200 ? show(answer) : away(`The gateway answers ${status}.`);
}

function authorization() {
  const bytes = new TextEncoder().encode(token); // a header takes bytes, not characters
  return { Authorization: `Bearer ${String.fromCharCode(...bytes)}` };
}

function wantToken(why) {
  $("ask-why").textContent = why;
  $("ask").hidden = false;
  $("away").hidden = $("seen").hidden = true;
  $("token").focus();
  return 0;
}

function refused() {
  sessionStorage.removeItem(KEPT);
  token = null;
  return wantToken("The gateway does not know this token.");
}

function away(why) {
  silentSince ??= new Date();
  failures += 1;
  const since = silentSince.toLocaleTimeString([], { hour12: false });
  const last = $("seen").hidden ? "" : " The numbers below are the last that were seen.";
  setText($("away"), `${why} Since ${since}; asking again.${last}`);
  $("away").hidden = false;
  $("seen").classList.add("stale");
  return Math.min(SLOWEST, EVERY * 2 ** Math.min(failures - 1, 5));
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem(KEPT, token);
  $("token").value = "";
  $("ask").hidden = true;
  refresh();
});
document.addEventListener("visibilitychange", refresh);

// --- showing

function show(snapshot) {
  silentSince = null;
  failures = 0;
  $("away").hidden = $("ask").hidden = true;
  $("seen").hidden = false;
  $("seen").classList.remove("stale");
  setText($("about"), `policies ${snapshot.revision} · promise: ${snapshot.promise}`);
  remember(snapshot);
  showFile(snapshot);
  showHealth(snapshot);
  showFigures(snapshot);
  showFlow();
  showTables(snapshot);
  if (Date.now() - keptAt > KEPT_FRESH) showHistory();
  return EVERY;
}

function remember(snapshot) {
  const endpoints = Object.values(snapshot.endpoints);
  if (endpoints.some((endpoint) => endpoint.accepted === null)) return;
  const last = history.at(-1);
  const seen = { at: Date.parse(snapshot.at) / 1000, accepted: sum(endpoints, "accepted"), delivered: sum(endpoints, "delivered") };
  // A store that was emptied, or a clock set back: what was before says nothing any more.
  if (last && (seen.accepted < last.accepted || seen.at <= last.at)) history = [];
  history = [...history.filter((one) => one.at > seen.at - SPAN - WINDOW), seen];
}

/** A wrong policies file, with every mistake in it, for as long as it is wrong. */
function showFile({ policies, revision }) {
  const problems = policies.problems;
  $("file").hidden = !problems.length;
  const many = problems.length === 1 ? "a mistake" : `${problems.length} mistakes`;
  setText($("file-wrong"), problems.length ? `${policies.source} has ${many}; revision ${revision} stays in force` : "");
  const lines = problems.map(({ line, column, key, message, hint }) => {
    const place = line ? `line ${line}, column ${column}: ` : "";
    return `${place}${key ? `${key}: ` : ""}${message}; ${hint}`;
  });
  if ($("problems").dataset.shown === lines.join("\n")) return; // readers say an alert aloud when it is set anew
  $("problems").dataset.shown = lines.join("\n");
  $("problems").replaceChildren(...lines.map((line) => element("li", line)));
}

function showHealth(snapshot) {
  const upstreams = Object.values(snapshot.upstreams).map((upstream) => upstream.circuit);
  const circuits = Object.values(snapshot.endpoints).map((endpoint) => endpoint.circuit?.state).concat(upstreams);
  const bad = !snapshot.store.ok || snapshot.relays === 0 || circuits.includes("open");
  const count = snapshot.messages.length;
  $("health").className = bad ? "bad" : count ? "look" : "good";
  const things = count === 1 ? "One thing" : `${count} things`;
  setText($("verdict"), count ? `${things} to look at` : "All is well");
  $("messages").replaceChildren(...snapshot.messages.map((sentence) => element("li", sentence)));
}

function showFigures(snapshot) {
  const endpoints = Object.values(snapshot.endpoints);
  const { total, connected } = snapshot.sessions;
  const newest = history.length - 1;
  setText($("in"), perSecond(newest, "accepted"));
  setText($("out"), perSecond(newest, "delivered"));
  setText($("waiting"), number(sum(endpoints, "waiting")));
  setText($("waiting-more"), `and ${number(sum(endpoints, "leased"))} on the way`);
  setText($("dead"), number(sum(endpoints, "dead")));
  setText($("dead-more"), sum(endpoints, "dead") ? "wait for a person" : "none wait");
  setText($("connected"), number(connected));
  setText($("connected-more"), `of ${number(total)}`);
}

/** Events per second over the few seconds before the sample `i`; null while that is not known. */
function rate(i, key) {
  const one = history[i];
  const from = history.find((other) => other.at >= one?.at - WINDOW - 0.5);
  return !from || from === one || one.at - from.at < 0.5 ? null : (one[key] - from[key]) / (one.at - from.at);
}

function perSecond(i, key) {
  const known = rate(i, key);
  return known === null ? "–" : tenths.format(known);
}

function showFlow() {
  const points = history.map((one, i) => ({ at: one.at, in: rate(i, "accepted"), out: rate(i, "delivered") }));
  const top = Math.max(1, ...points.flatMap((point) => [point.in ?? 0, point.out ?? 0]));
  const now = history.at(-1)?.at;
  $("flow").replaceChildren(...lines(points, "in", now, top), ...lines(points, "out", now, top));
  const last = `${perSecond(history.length - 1, "accepted")} in, ${perSecond(history.length - 1, "delivered")} delivered`;
  $("flow").setAttribute("aria-label", `Events per second over the last two minutes; now ${last}`);
  setText($("top"), `highest: ${tenths.format(top)} per second`);
}

/** A line for each stretch without a gap: a hidden page asks nothing, and nothing is made up for that time. */
function lines(points, key, now, top) {
  const stretches = [];
  let before = -Infinity;
  for (const point of points) {
    if (point[key] === null) continue;
    if (point.at - before > GAP) stretches.push([]);
    before = point.at;
    const x = 600 - ((now - point.at) / SPAN) * 600, y = 78 - (point[key] / top) * 74;
    stretches.at(-1).push(`${x.toFixed(1)},${y.toFixed(1)}`);
  }
  return stretches.flatMap((stretch) => {
    const [left, right] = [stretch[0], stretch.at(-1)].map((point) => point.split(",")[0]);
    const area = shape("polygon", key, [`${left},80`, ...stretch, `${right},80`]);
    return [area, shape("polyline", key, stretch)];
  });
}

function shape(name, kind, points) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  made.setAttribute("class", kind);
  made.setAttribute("points", points.join(" "));
  return made;
}

// --- what is kept over time

async function showHistory() {
  const range = $("range").value;
  keptAt = Date.now();
  try {
    const response = await fetch(`api/history?range=${range}`, { headers: authorization(), signal: AbortSignal.timeout(TIMEOUT) });
    if (response.ok && range === $("range").value) $("history").replaceChildren(...historyTables(await response.json()));
  } catch {
    keptAt = 0; // asked again with the next status
  }
}

function historyTables(kept) {
  const made = charts(kept);
  if (!made.length) return [element("p", "Nothing was counted in this time.", "note")];
  return made.flatMap((chart) => {
    const place = element("div"), title = element("h3", chart.unit && chart.unit !== "seconds" ? `${chart.title}, ${chart.unit}` : chart.title);
    const titles = ["From", ...chart.lines.map((line) => line.name)];
    const body = newTable(place, titles, title.textContent);
    for (const { from, values } of rowsOf(chart)) {
      const times = chart.unit === "seconds" ? "seconds" : "";
      fillRow(newRow(body, titles), [{ text: timeOf(from, chart.range) }, ...values.map((value) => ({ text: amount(value, times) }))]);
    }
    return [title, place];
  });
}

$("range").addEventListener("change", showHistory);

// --- tables

function showTables(snapshot) {
  const { upstreams, endpoints, workers, sessions, traffic } = snapshot;
  table("upstreams", "No upstream is configured.",
    ["Upstream", "Circuit", "Requests", "Failed"],
    Object.entries(upstreams).map(([name, seen]) => upstreamRow(name, seen)));
  table("endpoints", "No endpoint is configured.",
    ["Endpoint", "Circuit", "Waiting", "Oldest", "Delivered", "Retried", "Dead", "Dropped by policy"],
    Object.entries(endpoints).map(([name, seen]) => endpointRow(name, seen)));
  table("limits", "No limit is configured.",
    ["Limit", "Allowed", "Delayed", "Held", "Dropped", "Rejected", "Would reject"],
    Object.entries(traffic.limits).map(([id, did]) =>
      [{ text: id },
        ...["allowed", "delayed", "held", "dropped", "rejected", "would_reject"].map((key) => count(did[key]))]));
  table("workers", snapshot.store.ok ? "No worker has registered." : "Not known while the store is away.",
    ["Worker", "Sessions", "Last beat"], workers.map(workerRow));
  table("states", sessions.total === null ? "Not known while the store is away." : "No session yet.",
    ["State", "Sessions"], stateRows(sessions));
  table("events", "Nothing accepted since Sluice was started.",
    ["Event", "Accepted"], Object.entries(traffic.events).map(([type, many]) => [{ text: type }, count(many)]));
}

function upstreamRow(name, { url, circuit, outcomes, failing_s, members }) {
  const failed = Object.entries(outcomes).filter(([outcome]) => outcome !== "answered").sort((one, other) => other[1] - one[1]);
  const total = Object.values(outcomes).reduce((all, many) => all + many, 0);
  const why = failed.map(([outcome, many]) => `${number(many)} ${outcome.replace("_", " ")}`).join(", ");
  return [
    { text: name, small: members.length ? membersInWords(members) : url || "all of them together" },
    { text: circuit, kind: STATES[circuit], left: true, small: failing_s ? `fails for ${age(failing_s)}` : "" },
    count(total),
    { ...count(failed.reduce((all, [, many]) => all + many, 0), failing_s ? "bad" : "look"), small: why },
  ];
}

function membersInWords(members) {
  const out = members.filter((member) => member.out).map((member) => member.url);
  return `${members.length - out.length} of ${members.length} members are well${out.length ? `; left out: ${out.join(", ")}` : ""}`;
}

function endpointRow(name, seen) {
  const state = seen.circuit?.state ?? "not known";
  const pace = seen.rate === null ? "no rate set" : `at most ${tenths.format(seen.rate)} per second`;
  const room = `${number(seen.backlog.events)} events or ${size(seen.backlog.bytes)}`;
  const dropped = seen.replaced === null ? null : seen.replaced + seen.expired;
  return [
    { text: name, small: `${pace} · room for ${room}` },
    { text: state, kind: STATES[state], left: true, small: seen.circuit?.held ? "held by a person" : "" },
    { ...count(seen.waiting), small: seen.bytes === null ? "" : size(seen.bytes) },
    { text: seen.oldest_due_s ? age(seen.oldest_due_s) : "–" },
    count(seen.delivered), count(seen.retried), count(seen.dead, "look"), count(dropped),
  ];
}

function workerRow(worker) {
  return [
    { text: worker.worker, small: worker.existing ? `${worker.url} · an existing service` : worker.url },
    { text: `${number(worker.sessions)} of ${number(worker.capacity)}`, small: worker.notes.join(", ") },
    worker.lost ? { text: "lost", kind: "bad" } : { text: `${age(worker.last_beat_s)} ago` },
  ];
}

function stateRows(sessions) {
  const rows = Object.entries(sessions.states).map(([state, many]) => [{ text: state }, count(many)]);
  if (sessions.unowned) rows.push([{ text: "of them without a worker" }, count(sessions.unowned, "look")]);
  return rows;
}

/** `kind`: the colour of a number that is not 0. */
function count(value, kind) {
  return value ? { text: number(value), kind } : { text: number(value), kind: "none" };
}

/** The table is made once and its cells are kept, so that a selection or a reader's place in it survives a refresh. */
function table(id, empty, titles, rows) {
  const place = $(id);
  if (!rows.length) return place.replaceChildren(element("p", empty, "note"));
  const body = place.querySelector("tbody") ?? newTable(place, titles);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, i) => fillRow(body.rows[i] ?? newRow(body, titles), cells));
}

function newTable(place, titles, label = place.parentElement.querySelector("h2").textContent) {
  const made = element("table", "", titles.length > 2 ? "wide" : "");
  const head = made.createTHead().insertRow();
  made.setAttribute("role", "table"); // said again, because `display: grid` on a phone takes it away
  made.setAttribute("aria-label", label);
  titles.forEach((title, i) => {
    const cell = element("th", title, i === 0 || title === "Circuit" ? "text" : "");
    cell.scope = "col";
    head.append(cell);
  });
  place.replaceChildren(made);
  return made.createTBody();
}

function newRow(body, titles) {
  const row = body.insertRow();
  row.setAttribute("role", "row");
  titles.forEach((title, i) => {
    const cell = document.createElement(i ? "td" : "th");
    cell.setAttribute("role", i ? "cell" : "rowheader");
    if (!i) cell.scope = "row";
    cell.dataset.title = title;
    const text = document.createElement("div");
    text.append(element("span"), element("small"));
    cell.append(text);
    row.append(cell);
  });
  return row;
}

function fillRow(row, cells) {
  cells.forEach(({ text, small = "", kind = "", left = false }, i) => {
    const [main, below] = row.cells[i].firstElementChild.children;
    row.cells[i].className = i === 0 || left ? "text" : "";
    main.className = kind ?? "";
    setText(main, text);
    setText(below, small);
    below.hidden = !small;
  });
}

// --- text

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = printable(text);
  if (kind) made.className = kind;
  return made;
}

/** What others have written, with what reorders or hides text escaped, as sluice/observe/printable.py does it. */
function printable(text) {
  const control = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
  return String(text).replace(control, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Only when it changed: readers say aloud what is set anew. */
function setText(node, text) {
  const shown = printable(text);
  if (node.textContent !== shown) node.textContent = shown;
}

function sum(rows, key) {
  return rows.some((row) => row[key] === null) ? null : rows.reduce((total, row) => total + row[key], 0);
}

function number(value) {
  return value === null ? "–" : whole.format(value);
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${tenths.format(bytes / 1024 ** step)} ${units[step]}`;
}

function age(seconds) {
  const all = Math.max(0, Math.round(seconds));
  for (const [unit, length, rest, part] of [["d", 86400, "h", 3600], ["h", 3600, "m", 60], ["m", 60, "s", 1]]) {
    if (all < length) continue;
    const small = Math.floor((all % length) / part);
    return small ? `${Math.floor(all / length)}${unit} ${small}${rest}` : `${Math.floor(all / length)}${unit}`;
  }
  return `${all}s`;
}

refresh();
