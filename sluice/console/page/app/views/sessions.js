// Sessions: found by state, worker, workspace or what is in their name or phone, a page at a time; and those that are stale.

import { get, part, post } from "../api.js";
import { ago, number, size, some } from "../text.js";
import { Cleaning, Rivals } from "./cleaning.js";
import { Choice, Done, Field, State, Table, Trouble, Verb, html, useLoaded, useState } from "../ui.js";

const STATES = ["created", "qr_scanning", "authenticated", "connected", "disconnected", "logged_out", "failed"];
const PAGE = 100;

export function Sessions({ status, may, query }) {
  const [criteria, setCriteria] = useState({ ...query });
  const [said, setSaid] = useState("");
  const [pages, setPages] = useState([""]);
  const list = useLoaded(() => some_sessions(criteria, pages.at(-1)), [criteria, pages]);
  const search = (event) => {
    event.preventDefault();
    setPages([""]);
    setCriteria(Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value !== "")));
  };
  const { total, connected, unowned, ended } = status.sessions;
  const rivals = status.rivals, vault = status.vault;
  return html`
    <section><h2>Sessions</h2>
      <p>${number(total)} in all, ${number(connected)} connected${unowned ? html`, <b class="look">${number(unowned)} that nobody runs</b>` : null}${ended ? `, besides ${number(ended)} that were ended` : ""}.</p>
      ${vault ? html`<p>Logins of ${some(vault.sessions, "session", "sessions")} are kept in the vault (${size(vault.stored)})${vault.away ? html`; <b class="bad">it cannot be reached: ${vault.away}</b>` : ""}${vault.late_total ? html`; <b class="look">${number(vault.late_total)} were not saved for too long</b>` : ""}. <a href="#/vault">Open the vault</a></p>` : null}
      ${rivals.length ? html`<${Rivals} rivals=${rivals} />` : null}
      ${may ? html`<div class="actions"><${Create} /><${Cleaning} after=${(words) => { setSaid(words); list.again(); }} /></div>` : null}
      <${Done} of=${said} />
    </section>
    <section>
      <form class="filter" role="search" onSubmit=${search}>
        <${Field} label="Name or phone has" name="search" />
        <${Choice} label="State" name="state" value=${criteria.state ?? ""} options=${[["", "any"], ...STATES.map((state) => [state, state])]} />
        <${Choice} label="Worker" name="worker" value=${criteria.worker ?? ""} options=${[["", "any"], ...status.workers.map(({ worker }) => [worker, worker])]} />
        <${Field} label="Workspace" name="workspace" />
        <${Choice} label="Run by" name="orphaned" value=${criteria.orphaned ?? ""} options=${[["", "anybody"], ["true", "nobody"]]} />
        <button>Search</button>
      </form>
      <${Trouble} of=${list.trouble} />
      <${Table} label="Sessions" rows=${list.value?.sessions ?? []} keyOf=${(row) => row.session} empty=${list.busy ? "Looking…" : list.value?.after ? "None so far; there may be some on the next page." : "No such session."} columns=${[
        { title: "Session", text: true, of: (row) => html`<a href=${`#/session/${part(row.session)}`}>${row.session}</a>`, small: (row) => (row.workspace === null ? "" : `workspace ${row.workspace}`) },
        { title: "State", text: true, of: (row) => html`<${State} of=${row.state} />`, small: (row) => row.ended ?? row.orphaned ?? row.reason ?? "" },
        { title: "Phone", text: true, of: (row) => row.phone ?? "–", small: (row) => (row.rival ? `also that of ${row.rival}` : "") },
        { title: "Worker", text: true, of: (row) => row.worker ?? "nobody", small: (row) => (row.worker === null && row.last_owner ? `was ${row.last_owner}` : "") },
        { title: "Fence", of: (row) => row.fence ?? "–" },
        { title: "Since", of: (row) => ago(row.since, Date.parse(status.at)) },
        { title: "Last event", of: (row) => ago(row.last_event, Date.parse(status.at)) },
      ]} />
      <div class="pages">
        ${pages.length > 1 ? html`<button type="button" class="quiet" onClick=${() => setPages(pages.slice(0, -1))}>Previous page</button>` : null}
        ${list.value?.after ? html`<button type="button" class="quiet" onClick=${() => setPages([...pages, list.value.after])}>Next page</button>` : null}
        <button type="button" class="quiet" onClick=${list.again}>Look again</button>
      </div>
    </section>`;
}

function Create() {
  const [said, setSaid] = useState("");
  return html`<${Verb} title="Create a session" verb="Create it" after=${setSaid}
      look=${async () => html`<p>The worker with the most room creates it, as when Laravel asks for it. Where nobody knows it yet it then shows a QR code.</p>
        <${Field} label="Name" name="session" required=${true} /><${Field} label="Workspace" name="workspace" required=${true} />
        <${Field} label="Laravel's account, if there is one" name="account" />`}
      act=${async (form) => { const name = form.get("session"); await post(`created/${part(name)}`, { workspace: form.get("workspace"), account: form.get("account") }); location.hash = `#/session/${part(name)}`; return "It is created."; }}>Create…</${Verb}><${Done} of=${said} />`;
}

/** The gateway looks at so many for one answer; where a filter leaves few, it is asked a few times more. */
async function some_sessions(criteria, after) {
  const filtered = Object.keys(criteria).length > 0;
  let found = [], next = after;
  for (let call = 0; call < 5; call += 1) {
    const page = await get("sessions", { ...criteria, limit: filtered ? 2000 : PAGE, after: next });
    found = found.concat(page.sessions);
    next = page.after;
    if (!next || found.length >= PAGE) break;
  }
  return { sessions: found, after: next };
}
