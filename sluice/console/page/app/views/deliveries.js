// Endpoints and their circuits, what waits for them, and what was given up.

import { get, part, post } from "../api.js";
import { ago, clock, number, size, some } from "../text.js";
import { Choice, Done, Facts, Field, State, Table, Trouble, Verb, html, useEffect, useLoaded, useState } from "../ui.js";
import { Endpoints } from "./overview.js";

const TABS = { waiting: "Waiting", dead: "Dead letters", find: "Find an event" };

export function Deliveries({ status, may, parts, query }) {
  const [name] = parts;
  const [tab, setTab] = useState(TABS[query.tab] ? query.tab : "waiting");
  useEffect(() => { if (TABS[query.tab]) setTab(query.tab); }, [query.tab]);
  const names = [...Object.keys(status.endpoints), ...status.removed.map((one) => one.endpoint)];
  return html`
    ${name === undefined ? html`<section><h2>Endpoints</h2><${Endpoints} endpoints=${status.endpoints} /></section>`
      : html`<${Endpoint} name=${name} seen=${status.endpoints[name]} may=${may} at=${status.at} />`}
    <section>
      <div role="tablist" aria-label="Events" class="tabs">${Object.entries(TABS).map(([id, words]) => html`
        <button role="tab" type="button" id=${`tab-${id}`} aria-selected=${id === tab} aria-controls="tab-panel" onClick=${() => setTab(id)}>${words}</button>`)}</div>
      <div role="tabpanel" id="tab-panel" aria-labelledby=${`tab-${tab}`}>
        ${tab === "find" ? html`<${Find} names=${names} endpoint=${name ?? ""} />` : html`<${Events} key=${tab} kind=${tab} names=${names} endpoint=${name ?? ""} may=${may} />`}
      </div>
    </section>`;
}

function Endpoint({ name, seen, may, at }) {
  const [said, setSaid] = useState("");
  if (!seen) return html`<section><h2>${name}</h2><p>The policies name no such endpoint any more. What lies there can be given to another one: <code>sluice queue move ${name} NEW</code>.</p></section>`;
  const circuit = seen.circuit, now = Date.parse(at);
  const hold = (state, title, words) => html`<${Verb} title=${title} verb="Hold it" after=${setSaid} dangerous=${state === "closed"}
      look=${async () => html`<p>${words}</p><${Field} label="Why, for whoever looks at it" name="why" />`}
      act=${async (form) => { await post(`circuits/${part(name)}`, { hold: state, why: form.get("why") }); return `${name} is held ${state}.`; }}>Hold ${state}…</${Verb}>`;
  return html`<section aria-labelledby="endpoint">
    <p><a href="#/deliveries">All endpoints</a></p>
    <h2 id="endpoint">${name}</h2>
    <${Facts} facts=${[
      ["Circuit", html`<${State} of=${circuit?.state ?? "not known"} words=${circuit?.held ? `held ${circuit.state} by a person` : undefined} />`],
      ["Why", circuit?.why],
      ["Goes on", circuit?.retry_after ? `in ${Math.ceil(circuit.retry_after)} s` : null],
      ["Nobody has got through", circuit?.failing_since ? `since ${clock(circuit.failing_since)} (${ago(circuit.failing_since, now)})` : null],
      ["Waiting", `${number(seen.waiting)} of ${number(seen.backlog.events)}, ${size(seen.bytes)} of ${size(seen.backlog.bytes)}`],
      ["In flight", number(seen.leased)],
      ["Pace", seen.rate === null ? "no rate set" : `at most ${seen.rate.toFixed(2)} attempts a second`],
      ["Delivered", number(seen.delivered)],
      ["Dead letters", number(seen.dead)],
      ["It has opened", circuit?.opened ? `${some(circuit.opened, "time", "times")}, the last ${ago(circuit.opened_last_at, now)}` : "never"],
    ]} />
    ${circuit?.answers.length ? html`<h3>Answers that were no 2xx</h3><${Table} label="Answers" rows=${circuit.answers} columns=${[
      { title: "Status", text: true, of: (row) => row.status ?? "no answer" },
      { title: "Times", of: (row) => number(row.times) },
      { title: "From", of: (row) => clock(row.first_at) },
      { title: "To", of: (row) => clock(row.last_at) },
    ]} />` : null}
    ${may ? html`<div class="actions">
      <${Verb} title=${`Try ${name} now`} verb="Send one event" after=${setSaid}
        look=${async () => html`<p>One of the events that wait is sent, whatever the circuit says. A 2xx lets the others follow.</p>`}
        act=${async () => probed(await post(`probes/${part(name)}`))}>Probe…</${Verb}>
      ${circuit?.held ? html`<${Verb} title=${`Release ${name}`} verb="Release it" after=${setSaid}
        look=${async () => html`<p>From then on its answers decide again whether it is open or closed.</p>`}
        act=${async () => { await post(`circuits/${part(name)}`, { hold: null }); return `${name} is released.`; }}>Release…</${Verb}>`
        : html`${hold("open", `Send nothing to ${name}`, "Nothing is sent until somebody releases it. Events wait, and none is lost.")}
          ${hold("closed", `Send everything to ${name}`, "Everything is sent until somebody releases it, whatever comes of it.")}`}
    </div>` : null}
    <${Done} of=${said} />
  </section>`;
}

function probed({ outcome, why, event }) {
  const words = { delivered: "It was answered 2xx; what waits follows.", nothing_waits: "Nothing waits that could be sent.",
    all_is_sent: "The circuit is closed, so all that is due is sent.", not_begun: "No relay has sent it within a few seconds; one may do so within a minute." };
  return words[outcome] ?? `It failed: ${why ?? "no answer"}${event ? ` (${event})` : ""}.`;
}

// --- lists

const KINDS = {
  waiting: {
    path: "queue", rows: "events", when: "accepted_at",
    columns: (now) => [
      { title: "State", text: true, of: (row) => html`<${State} of=${row.state} words=${row.state === "leased" ? "on its way" : row.due_in_s ? `due in ${Math.ceil(row.due_in_s)} s` : "due"} />`, small: (row) => row.reason ?? "" },
      { title: "Failed", of: (row) => number(row.failed) },
      { title: "Accepted", of: (row) => ago(row.accepted_at, now) },
    ],
    verbs: [["skip", "Skip", "Make dead letters of them, so that their sessions go on", false], ["drop", "Drop", "Erase them for good", true]],
  },
  dead: {
    path: "dead", rows: "letters", when: "died_at",
    columns: (now) => [
      { title: "Reason", text: true, of: (row) => row.reason },
      { title: "Died", of: (row) => ago(row.died_at, now) },
    ],
    verbs: [["replay", "Replay", "Send them again, in the order in which they were accepted", false], ["drop", "Drop", "Erase them for good", true]],
  },
};

function Events({ kind, names, endpoint, may }) {
  const it = KINDS[kind];
  const [criteria, setCriteria] = useState(endpoint ? { endpoint } : {});
  const [chosen, setChosen] = useState(new Set());
  const [said, setSaid] = useState("");
  const [pages, setPages] = useState([""]);
  const page = useLoaded(() => get(it.path, { ...criteria, limit: 50, after: pages.at(-1) }), [criteria, pages]);
  const rows = page.value?.[it.rows] ?? [];
  const search = (event) => {
    event.preventDefault();
    const given = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value !== ""));
    for (const name of ["since", "until"]) if (given[name]) given[name] = new Date(given[name]).toISOString();
    setChosen(new Set());
    setPages([""]);
    setCriteria(given);
  };
  const toggle = (id) => setChosen((before) => { const after = new Set(before); if (!after.delete(id)) after.add(id); return after; });
  const filtered = Object.keys(criteria).length > 0;
  const meant = chosen.size ? { ids: [...chosen], ...(criteria.endpoint ? { endpoint: criteria.endpoint } : {}) } : filtered ? criteria : { all: true };
  const whom = chosen.size ? `the ${some(chosen.size, "event", "events")} that you have chosen` : filtered ? "all that this filter finds" : "all of them";
  const done = (words) => { setSaid(words); setChosen(new Set()); page.again(); };
  return html`
    <form class="filter" role="search" onSubmit=${search}>
      <${Choice} label="Endpoint" name="endpoint" value=${criteria.endpoint ?? ""} options=${[["", "any"], ...names.map((name) => [name, name])]} />
      <${Field} label="Session" name="session" />
      <${Field} label="Event type" name="event" placeholder="message_*" />
      ${kind === "dead" ? html`<${Field} label="Reason has" name="reason" /><${Field} label="Body, path or headers have" name="text" />` : null}
      <${Field} label=${kind === "dead" ? "Died since" : "Accepted since"} name="since" type="datetime-local" />
      <${Field} label="Before" name="until" type="datetime-local" />
      <button>Filter</button>
    </form>
    <${Trouble} of=${page.trouble} />
    ${may ? html`<div class="actions" aria-label=${`What to do with ${whom}`}>${it.verbs.map(([verb, words, means, dangerous]) => html`
      <${Verb} title=${`${words} ${whom}`} verb=${words} dangerous=${dangerous} disabled=${!rows.length} after=${done}
        look=${() => planned(it.path, verb, meant, means)} act=${() => carried(it.path, verb, meant, dangerous)}>
        ${words} ${chosen.size ? number(chosen.size) : filtered ? "what is found" : "all"}…</${Verb}>`)}</div>` : null}
    <${Done} of=${said} />
    <${Table} label=${TABS[kind]} rows=${rows} keyOf=${(row) => `${row.endpoint}/${row.id}`} empty=${page.busy ? "Looking…" : page.value?.next ? "None on this page; there may be some on the next." : kind === "dead" ? "No dead letter." : "Nothing waits."} columns=${[
      ...(may ? [{ title: "Choose", unseen: true, text: true, of: (row) => html`<input type="checkbox" aria-label=${`Choose ${row.id}`} checked=${chosen.has(row.id)} onChange=${() => toggle(row.id)} />` }] : []),
      { title: "Event", text: true, of: (row) => html`<a href=${`#/event/${part(row.id)}`}>${row.id}</a>`, small: (row) => row.event },
      { title: "Session", text: true, of: (row) => (row.session === null ? "–" : html`<a href=${`#/session/${part(row.session)}`}>${row.session}</a>`) },
      { title: "Endpoint", text: true, of: (row) => row.endpoint },
      ...it.columns(Date.now()),
      { title: "Size", of: (row) => size(row.bytes) },
    ]} />
    <div class="pages">
      ${pages.length > 1 ? html`<button type="button" class="quiet" onClick=${() => setPages(pages.slice(0, -1))}>Previous page</button>` : null}
      ${page.value?.next ? html`<button type="button" class="quiet" onClick=${() => setPages([...pages, page.value.next])}>Next page</button>` : null}
      <button type="button" class="quiet" onClick=${page.again}>Look again</button>
    </div>`;
}

/** What would be done, by the gateway's own dry run. */
async function planned(path, verb, meant, means) {
  const would = await post(`${path}/${verb}`, { ...meant, dry_run: true });
  const count = would.meant ?? would.left;
  const more = would.next ? " or more" : "";
  return html`<p>${means}: ${some(count, "event", "events")}${more}${would.leased ? `; ${number(would.leased)} of them are on their way and are left alone` : ""}${would.superseded ? `; ${number(would.superseded)} are outdated by newer ones and are sent to nobody` : ""}.</p>
    <ul>${would.kinds.map((kind) => html`<li>${number(kind.count)} ${kind.event} for ${kind.endpoint}${kind.reason ? `: ${kind.reason}` : ""}</li>`)}</ul>`;
}

/** In as many calls as it takes; what comes meanwhile is left alone. */
export async function carried(path, verb, meant, confirm) {
  let body = { ...meant, ...(confirm ? { confirm: true } : {}) };
  let total = 0;
  for (let call = 0; call < 1000; call += 1) {
    const did = await post(`${path}/${verb}`, body);
    const many = did.skipped ?? did.dropped ?? did.replayed ?? 0;
    total += many;
    if (!(did.next || (did.left && many))) break;
    body = { ...body, until: did.until, ...(did.next ? { after: did.next } : {}) };
  }
  return `${some(total, "event", "events")}: ${{ skip: "skipped", drop: "dropped", replay: "replayed" }[verb]}.`;
}

function Find({ names, endpoint }) {
  const [criteria, setCriteria] = useState(null);
  const found = useLoaded(async () => (criteria ? get("events", criteria) : null), [criteria]);
  const search = (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    if (given.id) location.hash = `#/event/${part(given.id.trim())}`;
    else setCriteria(given);
  };
  return html`
    <form class="filter" role="search" onSubmit=${search}>
      <${Field} label="Id" name="id" /><span class="or">or</span>
      <${Field} label="Session" name="session" /><${Field} label="Event type" name="event" placeholder="message_*" />
      <${Choice} label="Endpoint" name="endpoint" value=${endpoint} options=${[["", "any"], ...names.map((name) => [name, name])]} />
      <button>Find</button>
    </form>
    <${Trouble} of=${found.trouble} />
    ${criteria ? html`<${Table} label="Events found" rows=${found.value?.events ?? []} empty=${found.busy ? "Looking…" : "None is known."} columns=${[
      { title: "Event", text: true, of: (row) => html`<a href=${`#/event/${part(row.id)}`}>${row.id}</a>`, small: (row) => row.event ?? "its type has left with its body" },
      { title: "Session", text: true, of: (row) => row.session ?? "–" },
      { title: "Endpoint", text: true, of: (row) => row.endpoint },
      { title: "State", text: true, of: (row) => html`<${State} of=${row.state} />` },
      { title: "Accepted", of: (row) => ago(row.accepted_at) },
    ]} />${found.value && !found.value.complete ? html`<p class="note">There are more, or more than could be looked at: narrow it down.</p>` : null}` : null}`;
}
