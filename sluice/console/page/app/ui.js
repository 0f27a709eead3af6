// What the views are made of. Whatever text they show goes through `element`, so that none of it is markup, and what
// reorders or hides text is seen.

import { h, render } from "../fetched/preact.js";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../fetched/hooks.js";
import htm from "../fetched/htm.js";
import { printable } from "./text.js";

export { render, useEffect, useLayoutEffect, useMemo, useRef, useState };

const SPOKEN = ["title", "aria-label", "placeholder"];

function element(type, props, ...children) {
  if (typeof type === "string" && props) {
    for (const name of SPOKEN) if (typeof props[name] === "string") props[name] = printable(props[name]);
  }
  return h(type, props, ...children.map(cleaned));
}

function cleaned(child) {
  if (Array.isArray(child)) return child.map(cleaned);
  return typeof child === "string" ? printable(child) : child;
}

export const html = htm.bind(element);

/** `columns`: {title, text, of(row), kind?(row), small?(row)}; on a phone each row becomes a card. */
export function Table({ label, columns, rows, empty, keyOf = (row, i) => i }) {
  if (!rows.length) return html`<p class="note empty">${empty}</p>`;
  return html`<table role="table" aria-label=${label} class=${columns.length > 2 ? "wide" : ""}>
    <thead role="rowgroup"><tr role="row">
      ${columns.map((one) => html`<th role="columnheader" scope="col" class=${one.text ? "text" : ""}>
        ${one.unseen ? html`<span class="unseen">${one.title}</span>` : one.title}</th>`)}
    </tr></thead>
    <tbody role="rowgroup">${rows.map((row, i) => html`<tr role="row" key=${keyOf(row, i)}>
      ${columns.map((one) => html`<td role="cell" data-title=${one.unseen ? "" : one.title} class=${one.text ? "text" : ""}>
        <div class=${one.kind?.(row) ?? ""}>${one.of(row)}${one.small?.(row) ? html`<small>${one.small(row)}</small>` : null}</div>
      </td>`)}
    </tr>`)}</tbody>
  </table>`;
}

export function Facts({ facts }) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${known.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function State({ of, words }) {
  const kinds = { closed: "good", delivered: "good", connected: "good", "half-open": "look", waiting: "look", open: "bad",
    dead: "bad", failed: "bad", lost: "bad", qr_scanning: "look", disconnected: "look" };
  return html`<span class=${`state ${kinds[of] ?? "none"}`}>${words ?? of}</span>`;
}

/** Foreign text over several lines, each of them as text. */
export function Text({ of, label }) {
  const lines = of.split("\n");
  return html`<pre tabindex="0" role="region" aria-label=${label}>${lines.map((line) => [line, h("br")])}</pre>`;
}

export function Trouble({ of }) {
  return of ? html`<p class="trouble" role="alert">${of}</p>` : null;
}

/** Says what has been done, for a reader as well. */
export function Done({ of }) {
  return html`<p class="done" role="status">${of}</p>`;
}

/** Asks before something is done. `look` gives what would be done, as text or elements; `act` does it and gives words. */
export function Ask({ title, verb, look, act, close, dangerous }) {
  const box = useRef();
  const [shown, setShown] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [busy, setBusy] = useState(true);
  useEffect(() => {
    box.current.showModal();
    look().then(setShown, (error) => setTrouble(error.message)).finally(() => setBusy(false));
  }, []);
  const go = async (event) => {
    event.preventDefault();
    setBusy(true);
    setTrouble("");
    try {
      close(await act(new FormData(event.target)));
    } catch (error) {
      setTrouble(error.message);
      setBusy(false);
    }
  };
  return html`<dialog ref=${box} aria-label=${title} onClose=${() => close(null)}>
    <form onSubmit=${go}>
      <h2>${title}</h2>
      <div class="would">${shown ?? (trouble ? null : "Looking…")}</div>
      <${Trouble} of=${trouble} />
      <div class="actions">
        <button type="button" class="quiet" onClick=${() => close(null)}>Leave it</button>
        <button class=${dangerous ? "danger" : ""} disabled=${busy || shown === null}>${verb}</button>
      </div>
    </form>
  </dialog>`;
}

/** A button that asks first. */
export function Verb({ children, title, verb, look, act, after, dangerous, disabled }) {
  const [asking, setAsking] = useState(false);
  const button = useRef();
  const close = (said) => {
    setAsking(false);
    button.current?.focus(); // whoever has no mouse goes on from there
    if (said !== null) after(said);
  };
  return html`<button type="button" ref=${button} class=${dangerous ? "quiet danger" : "quiet"} disabled=${disabled}
      onClick=${() => setAsking(true)}>${children}</button>
    ${asking ? html`<${Ask} ...${{ title, verb, look, act, dangerous, close }} />` : null}`;
}

export function Field({ label, name, value, onInput, type = "text", list, required, placeholder }) {
  return html`<label class="named"><span>${label}</span><input ...${{ name, type, value, onInput, list, required, placeholder }}
    autocomplete="off" spellcheck=${false} /></label>`;
}

export function Choice({ label, name, options, value, onChange }) {
  return html`<label class="named"><span>${label}</span><select ...${{ name, onChange }}>
    ${options.map(([id, words]) => html`<option value=${id} selected=${id === value}>${words}</option>`)}
  </select></label>`;
}

/** What `load` answers, and a way to load it anew. `keys`: when one of them changes, it is loaded again. */
export function useLoaded(load, keys) {
  const [found, setFound] = useState({ value: null, trouble: "", busy: true });
  const newest = useRef(0);
  const again = async () => {
    const mine = ++newest.current;
    setFound((before) => ({ ...before, busy: true }));
    try {
      const value = await load();
      if (mine === newest.current) setFound({ value, trouble: "", busy: false });
    } catch (error) {
      if (mine === newest.current) setFound({ value: null, trouble: error.message, busy: false });
    }
  };
  useEffect(() => {
    again();
    return () => { newest.current += 1; };
  }, keys);
  return { ...found, again };
}

/** Repeats `work` while the view is open and the tab is seen. */
export function useEvery(seconds, work, keys = []) {
  useEffect(() => {
    const timer = setInterval(() => document.hidden || work(), seconds * 1000);
    return () => clearInterval(timer);
  }, keys);
}
