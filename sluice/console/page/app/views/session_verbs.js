// What can be done with one session; the gateway is asked first what would be done.

import { part, post } from "../api.js";
import { Choice, Verb, html, useState } from "../ui.js";

export function Verbs({ it, status, done }) {
  const name = it.session;
  const [to, setTo] = useState("");
  const others = status.workers.filter(({ worker, lost }) => worker !== it.worker && !lost).map(({ worker }) => worker);
  const target = others.includes(to) ? to : others[0] ?? "";
  const forced = { force: true };
  const look = async (path, body, words) => {
    try {
      const would = await post(`${path}/${part(name)}`, { ...body, dry_run: true });
      return words(would);
    } catch (error) {
      if (error.status !== 409 || !error.message.includes("force")) throw error;
      const would = await post(`${path}/${part(name)}`, { ...body, ...forced, dry_run: true });
      return html`<p><b>${error.message}</b></p>${words(would)}`;
    }
  };
  const leaves = (would) => html`<p>${would.left ? `${would.left} has it.` : "Nobody has it."}
    ${would.stops_first ? " That worker stops it first, with its next beat." : ""}
    ${would.login_stays ? " Its login stays there, so it needs a new QR code where it goes." : ""}
    ${would.starts_by_create ? " It starts there when somebody creates it again." : ""}</p>`;
  const dry = (path) => post(`${path}/${part(name)}`, { dry_run: true });
  return html`<div class="actions">
    ${it.worker ? html`<${Verb} title=${`Restart ${name}`} verb="Restart it" after=${done}
      look=${async () => { const would = await dry("restarts"); return html`<p>${would.worker} closes its browser and opens it anew with its login${would.existing ? "" : ", with its next beat"}. Requests wait meanwhile.</p>`; }}
      act=${async () => { const did = await post(`restarts/${part(name)}`); return `${did.worker} ${did.existing ? "has restarted it" : "restarts it with its next beat"}.`; }}>Restart…</${Verb}>` : null}
    ${others.length ? html`<${Choice} label="Move to" name="to" value=${target} options=${others.map((one) => [one, one])} onChange=${(event) => setTo(event.target.value)} />
      <${Verb} title=${`Move ${name} to ${target}`} verb="Move it" after=${done} look=${() => look("moves", { to: target }, leaves)}
        act=${async () => { const moved = await post(`moves/${part(name)}`, { to: target, ...forced }); return moved.moved ? `It goes to ${target}.` : "It is there already."; }}>Move…</${Verb}>` : null}
    <${Verb} title=${`Release ${name}`} verb="Release it" after=${done} look=${() => look("releases", {}, leaves)}
      act=${async () => { await post(`releases/${part(name)}`, forced); return "Any worker of yours may run it now."; }}>Release…</${Verb}>
    ${it.ended ? html`<${Verb} title=${`Restore ${name}`} verb="Restore it" after=${done}
      look=${async () => { const would = await post(`restored/${part(name)}`, { dry_run: true }); return html`<p>It was ended: ${would.ended}.${would.starts_by_create ? " It starts when somebody creates it again." : " Workers may run it again."}</p>`; }}
      act=${async () => { await post(`restored/${part(name)}`); return "It may be run again."; }}>Restore…</${Verb}>` : null}
    ${it.worker ? html`<${Verb} title=${`Log ${name} out`} verb="Log it out" dangerous=${true} after=${done}
      look=${async () => { const would = await dry("logouts"); return html`<p>${would.worker} has WhatsApp unlink it${would.phone ? ` from phone ${would.phone}` : ""}. It needs a new QR code then.</p>`; }}
      act=${async () => { const did = await post(`logouts/${part(name)}`, { confirm: true }); return `${did.worker} has logged it out.`; }}>Log out…</${Verb}>` : null}
    <${Verb} title=${`Delete ${name}`} verb="Delete it" dangerous=${true} after=${done}
      look=${async () => { const would = await dry("deleted"); return html`<p>${would.worker ? `${would.worker} closes it, as when Laravel deletes it.` : "Nobody runs it."} Its record and its history are gone for good.${would.login_stays ? " Its login stays on the disk of its worker." : ""}</p>`; }}
      act=${async () => { await post(`deleted/${part(name)}`, { confirm: true }); return "It is deleted."; }}>Delete…</${Verb}>
    <${Verb} title=${`Forget ${name}`} verb="Forget it" dangerous=${true} after=${done}
      look=${async () => { const would = await post(`forgotten/${part(name)}`, { dry_run: true }); return html`<p>Its record and its history are gone for good.${would.stops_first ? ` ${would.worker} stops it first.` : ""}</p>`; }}
      act=${async () => { await post(`forgotten/${part(name)}`, { confirm: true }); return "It is forgotten."; }}>Forget…</${Verb}>
  </div>`;
}
