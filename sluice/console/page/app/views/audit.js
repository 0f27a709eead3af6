// Who has changed what, on the machine of the gateway that is asked.

import { get } from "../api.js";
import { clock } from "../text.js";
import { Table, Trouble, html, useLoaded, useState } from "../ui.js";

export function Audit() {
  const [pages, setPages] = useState([""]);
  const page = useLoaded(() => get("audit", { limit: 50, after: pages.at(-1) }), [pages]);
  return html`<section><h2>Audit log</h2>
    <p class="note">Each change, the newest first, by the page, the API and commands on the machine of this gateway.</p>
    <${Trouble} of=${page.trouble} />
    <${Table} label="Audit log" rows=${page.value?.lines ?? []} empty=${page.busy ? "Looking…" : "Nobody has changed anything."} columns=${[
      { title: "At", text: true, of: (row) => clock(row.at) },
      { title: "Who", text: true, of: (row) => row.who, small: (row) => `${row.place}, by ${row.through}` },
      { title: "Action", text: true, of: (row) => row.action },
      { title: "What", text: true, of: (row) => told(row.request) },
      { title: "Came of it", text: true, of: (row) => (row.error === null ? told(row.result) : html`<b class="bad">failed: ${row.error}</b>`) },
    ]} />
    <div class="pages">
      ${pages.length > 1 ? html`<button type="button" class="quiet" onClick=${() => setPages(pages.slice(0, -1))}>Newer</button>` : null}
      ${page.value?.next ? html`<button type="button" class="quiet" onClick=${() => setPages([...pages, page.value.next])}>Older</button>` : null}
      <button type="button" class="quiet" onClick=${page.again}>Look again</button>
    </div></section>`;
}

function told(members) {
  return Object.entries(members).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ") || "–";
}
