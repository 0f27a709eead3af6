// The page: who is logged in, which view is open, and what is wrong now.

import { logIn, logOut, whenEnded, whoAmI } from "./api.js";
import { follow, leave, useLive, wake } from "./live.js";
import { Trouble, html, render, useEffect, useLayoutEffect, useState } from "./ui.js";
import { Alerts } from "./views/alerts.js";
import { Audit } from "./views/audit.js";
import { Deliveries } from "./views/deliveries.js";
import { EventView } from "./views/event.js";
import { Limits } from "./views/limits.js";
import { Overview } from "./views/overview.js";
import { Policies } from "./views/policies.js";
import { Sessions } from "./views/sessions.js";
import { SessionView } from "./views/session.js";
import { Try } from "./views/try.js";
import { Vault } from "./views/vault.js";
import { Workers } from "./views/workers.js";

const VIEWS = { overview: ["Overview", Overview], deliveries: ["Deliveries", Deliveries], sessions: ["Sessions", Sessions],
  workers: ["Workers", Workers], try: ["Try it", Try], limits: ["Limits", Limits], alerts: ["Alerts", Alerts], policies: ["Policies", Policies], audit: ["Audit log", Audit] };
const UNLISTED = { event: ["Event", EventView, "deliveries"], session: ["Session", SessionView, "sessions"],
  vault: ["Vault", Vault, "sessions"] };

/** `#/view/part?query` */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...parts] = path.split("/").map(decoded);
  return { view: VIEWS[view] || UNLISTED[view] ? view : "overview", parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function Page({ known, trouble }) {
  const [login, setLogin] = useState(known);
  const [why, setWhy] = useState(trouble);
  useLayoutEffect(() => whenEnded((message) => { leave(); setWhy(message); setLogin(null); }), []);
  return login ? html`<${Console} login=${login} out=${() => setLogin(null)} />`
    : html`<${Login} why=${why} opened=${(opened) => { setWhy(""); setLogin(opened); }} />`;
}

/** A link of `sluice up` brings the token; it is not kept, in the address or elsewhere. */
async function begin() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return whoAmI();
  window.history.replaceState(null, "", location.pathname + location.search);
  return logIn(token);
}

function Login({ why, opened }) {
  const [trouble, setTrouble] = useState(why);
  const [busy, setBusy] = useState(false);
  const go = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      opened(await logIn(new FormData(event.target).get("token")));
    } catch (error) {
      setTrouble(error.status === 401 ? "The gateway does not know this token." : error.message);
      setBusy(false);
    }
  };
  return html`<main class="login"><form id="ask" onSubmit=${go}>
    <h1>Sluice</h1>
    <p id="ask-why">This page is for the people who run this gateway.</p>
    <label for="token">The value of <code>console.token</code>, or of <code>console.read</code>, in policies.yaml</label>
    <div class="field">
      <input id="token" name="token" type="password" autocomplete="current-password" spellcheck=${false} required autofocus />
      <button disabled=${busy}>Open</button>
    </div>
    <${Trouble} of=${trouble} />
  </form></main>`;
}

function Console({ login, out }) {
  const [at, setAt] = useState(place());
  const { status, silent } = useLive();
  useEffect(() => {
    follow(out);
    const moved = () => { setAt(place()); document.getElementById("content")?.focus(); };
    window.addEventListener("hashchange", moved);
    setAt(place()); // whoever moved on before this was there to hear of it
    return () => { leave(); window.removeEventListener("hashchange", moved); };
  }, []);
  const [title, View, under] = VIEWS[at.view] ?? UNLISTED[at.view];
  useEffect(() => {
    document.title = `${title} · Sluice`;
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [title]);
  const leaveIt = async () => { leave(); await logOut(); out(); };
  return html`
    <a class="skip" href="#content" onClick=${(event) => { event.preventDefault(); document.getElementById("content").focus(); }}>To the content</a>
    <header>
      <p class="name"><b>Sluice</b> <span id="about">${status ? `policies ${status.revision} · promise: ${status.promise}` : ""}</span></p>
      <p class="who">${login.role === "operator" ? "operator" : "may only look"} <button class="quiet" onClick=${leaveIt}>Log out</button></p>
    </header>
    <nav aria-label="Views">${Object.entries(VIEWS).map(([name, [words]]) => html`
      <a href=${`#/${name}`} aria-current=${name === (under ?? at.view) ? "page" : undefined}>${words}</a>`)}</nav>
    <main id="content" tabindex="-1" class=${silent ? "stale" : ""}>
      ${silent ? html`<p id="away" role="alert">The gateway has said nothing since ${silent.toLocaleTimeString([], { hour12: false })}; asking again. What is shown is the last that was seen.</p>` : null}
      <h1 class="unseen">${title}</h1>
      ${status ? html`<${View} key=${at.view + at.parts.join("/")} ...${{ status, may: login.role === "operator", parts: at.parts, query: at.query }} />` : html`<p class="note" role="status">Looking…</p>`}
    </main>`;
}

const draw = (known, trouble) => render(html`<${Page} ...${{ known, trouble }} />`, document.getElementById("app"));
// Whoever is logged in waits for the first status and not for the page: it is asked for before anything is drawn.
begin().then((known) => { if (known) wake(); draw(known, ""); }, (error) => draw(null, error.message));
