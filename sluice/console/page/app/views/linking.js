// How a session gets its phone: its QR code, live until it is scanned, or a code that is typed into the phone.

import { get, part, post } from "../api.js";
import { Done, Field, Trouble, Verb, html, useEffect, useEvery, useLoaded, useState } from "../ui.js";

export function Linking({ name, changed }) {
  const [said, setSaid] = useState("");
  const shown = useLoaded(() => get(`qr/${part(name)}`), [name]);
  useEvery(2, () => shown.busy || shown.again(), [name, shown.busy]);
  const state = shown.value?.state;
  useEffect(() => { if (state === "connected") changed(); }, [state]);
  return html`<section aria-labelledby="linking"><h2 id="linking">Link a phone</h2>
    <${Trouble} of=${shown.trouble} />
    <${Code} name=${name} of=${shown.value} />
    <div class="actions"><${Verb} title=${`Link ${name} with a phone number`} verb="Ask for a code" after=${setSaid}
      look=${async () => html`<p>Its worker asks WhatsApp for a code. The phone shows a notice, and the code is typed into it.</p><${Field} label="Phone number, with the code of its country" name="phone" type="tel" required=${true} />`}
      act=${async (form) => { const paired = await post(`pairing/${part(name)}`, { phone: form.get("phone").replace(/[\s()-]/g, "") }); return `Type ${paired.code} into the phone: Linked devices, Link with phone number.`; }}>Pairing code…</${Verb}></div>
    <${Done} of=${said} /></section>`;
}

/** The picture is of the gateway's making: nothing but a data URL of a small image. */
function Code({ name, of }) {
  if (!of) return html`<p class="note">Looking…</p>`;
  if (!of.code) return html`<p class="note" role="status">${of.state === "connected" ? "It is connected." : `No code: ${of.why}`}</p>`;
  return html`<p>On the phone: Linked devices, Link a device. The picture changes by itself, and goes when it was scanned.</p>
    <p><img class="code" src=${of.code} alt=${`QR code of ${name}`} /></p>`;
}
