// The logins that are kept: of each session the newest generation, how old and large it is, and whether it is stale.

import { get, part, post } from "../api.js";
import { ago, clock, number, size, some } from "../text.js";
import { Done, Table, Trouble, Verb, html, useLoaded, useState } from "../ui.js";

export function Vault({ may }) {
  const [pages, setPages] = useState([""]);
  const [said, setSaid] = useState("");
  const page = useLoaded(() => get("vault/sessions", { limit: 100, after: pages.at(-1) }), [pages]);
  const done = (words) => { setSaid(words); page.again(); };
  return html`<section aria-labelledby="vault"><p><a href="#/sessions">All sessions</a></p><h2 id="vault">Logins in the vault</h2>
    <${Trouble} of=${page.trouble} />
    ${may && page.value ? html`<div class="actions"><${Verb} title="Prune the vault" verb="Erase it" dangerous=${true} after=${done} look=${wouldGo} act=${prune}>Prune…</${Verb}></div>` : null}
    <${Done} of=${said} />
    <${Table} label="Logins in the vault" rows=${page.value?.profiles ?? []} keyOf=${(row) => row.session} empty=${page.busy ? "Looking…" : "None is kept."} columns=${[
      { title: "Session", text: true, of: (row) => html`<a href=${`#/session/${part(row.session)}`}>${row.session}</a>` },
      { title: "Generation", text: true, of: (row) => (row.newest === null ? "–" : `${number(row.newest)} of ${number(row.generations)}`), small: (row) => row.browser ?? "" },
      { title: "Saved", text: true, of: (row) => ago(row.made), small: (row) => (row.made ? clock(row.made) : "") },
      { title: "Size", of: (row) => size(row.size), small: (row) => `${size(row.stored)} written` },
      { title: "State", text: true, of: (row) => state(row, page.value.key), kind: (row) => (row.late ? "look" : row.deleted ? "none" : "") },
    ]} />
    <div class="pages">
      ${pages.length > 1 ? html`<button type="button" class="quiet" onClick=${() => setPages(pages.slice(0, -1))}>Previous page</button>` : null}
      ${page.value?.next ? html`<button type="button" class="quiet" onClick=${() => setPages([...pages, page.value.next])}>Next page</button>` : null}
      <button type="button" class="quiet" onClick=${page.again}>Look again</button>
    </div></section>`;
}

function state(row, key) {
  if (row.deleted) return `deleted ${ago(row.deleted)}`;
  if (row.late) return "stale: connected, and not saved";
  return key !== null && row.key !== null && row.key !== key ? "sealed with an older key" : row.newest === null ? "nothing saved" : "well";
}

async function wouldGo() {
  const would = await pruned({ dry_run: true });
  return html`<p>Logins that were deleted over a week ago, generations beyond those that are to be kept, and what crashes left are erased for good: ${some(would.generations, "generation", "generations")} of ${some(would.profiles.length, "session", "sessions")}, ${size(would.size)}.</p>
    <ul>${would.profiles.map((one) => html`<li><b>${one.session}</b>: ${one.problem ?? (one.ended ? "all of it" : some(one.generations, "generation", "generations"))}</li>`)}</ul>`;
}

async function prune() {
  const did = await pruned({ confirm: true });
  return `${some(did.generations, "generation", "generations")} erased, ${size(did.size)} freed.`;
}

/** In as many calls as it takes. */
async function pruned(body) {
  const total = { generations: 0, size: 0, profiles: [] };
  let after;
  for (let call = 0; call < 1000; call += 1) {
    const did = await post("vault/prune", { ...body, after });
    total.generations += did.generations;
    total.size += did.size;
    total.profiles.push(...did.profiles.slice(0, Math.max(0, 200 - total.profiles.length)));
    after = did.next;
    if (!after) break;
  }
  return total;
}
