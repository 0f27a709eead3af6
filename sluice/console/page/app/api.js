// The API, asked with the cookie of the login. What is refused is an Error with the gateway's own words.

const TIMEOUT = 20000;
/** Where it takes longer. */
export const LONG = 75000; // a worker takes a minute to restart a session

let csrf = "";
let ended = () => {};

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** `then` is called when the gateway does not know this login any more. */
export function whenEnded(then) {
  ended = then;
}

/** {role, ends_at}; null: nobody is logged in. */
export async function whoAmI() {
  const answer = await fetch("login", { signal: AbortSignal.timeout(TIMEOUT) });
  return answer.ok ? remembered(await answer.json()) : null;
}

export async function logIn(token) {
  return remembered(await call("login", { method: "POST", body: JSON.stringify({ token }) }));
}

export async function logOut() {
  await fetch("logout", { method: "POST" });
  csrf = "";
}

export function get(path, query = {}, within = TIMEOUT) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined && value !== false);
  const text = new URLSearchParams(given).toString();
  return known(call(`api/${path}${text ? `?${text}` : ""}`, {}, within));
}

/** A change. */
export function post(path, body = {}, within = LONG) {
  const given = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== "" && value !== undefined));
  return known(call(`api/${path}`, { method: "POST", body: JSON.stringify(given), headers: { "X-CSRF-Token": csrf } }, within));
}

export const part = encodeURIComponent;

function remembered(login) {
  csrf = login.csrf;
  return login;
}

async function known(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error.status === 401) ended(error.message);
    throw error;
  }
}

async function call(path, options, within = TIMEOUT) {
  let answer;
  try {
    answer = await fetch(path, { ...options, signal: AbortSignal.timeout(within) });
  } catch {
    throw new Refused(0, "The gateway does not answer.");
  }
  const told = await answer.json().catch(() => ({ detail: `The gateway answers ${answer.status}.` }));
  if (!answer.ok) throw new Refused(answer.status, sentence(told.detail));
  return told;
}

function sentence(detail) {
  const text = String(detail);
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
