// The status, every two seconds, for all views: one stream for the whole page, and none while nobody sees the tab.

import { whoAmI } from "./api.js";
import { useLayoutEffect, useState } from "./ui.js";

const SPAN = 120, WINDOW = 5;
const QUIET = 6000, SLOWEST = 15000;

const listeners = new Set();
let stream = null, failures = 0, timer = 0, heard = 0;
let ended = () => {};

/** The newest of what was seen: the status, how it was in the last two minutes, and since when nothing comes. */
export const seen = { status: null, samples: [], silent: null };

export function follow(whenEnded) {
  ended = whenEnded;
  document.addEventListener("visibilitychange", wake);
  setInterval(notice, 1000);
  wake();
}

export function leave() {
  document.removeEventListener("visibilitychange", wake);
  close();
}

/** Draws its component anew with each status. */
export function useLive() {
  const [, draw] = useState(0);
  useLayoutEffect(() => { // before the next status can come
    const listener = () => draw((count) => count + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return seen;
}

/** Opens the stream, or closes it where nobody sees the tab. */
export function wake() {
  if (document.hidden) return close();
  if (!stream) open();
}

function open() {
  clearTimeout(timer);
  heard = Date.now();
  stream = new EventSource("live");
  stream.addEventListener("status", (event) => {
    heard = Date.now();
    failures = 0;
    remember(JSON.parse(event.data));
  });
  stream.addEventListener("error", () => stream?.readyState === EventSource.CLOSED && lost());
}

function close() {
  stream?.close();
  stream = null;
  clearTimeout(timer);
}

/** It was refused, or the gateway is gone: find out which, and try again. */
async function lost() {
  close();
  failures += 1;
  timer = setTimeout(open, Math.min(SLOWEST, 1000 * 2 ** Math.min(failures, 4)));
  try {
    if (await whoAmI()) return;
    close();
    ended();
  } catch {
    // It does not answer, and is asked again.
  }
}

/** A stream that is silent is no status, whatever its state. */
function notice() {
  const silent = stream || timer ? Date.now() - heard > QUIET : false;
  if (silent === (seen.silent !== null)) return;
  seen.silent = silent ? new Date(heard) : null;
  tell();
}

function remember(status) {
  seen.status = status;
  seen.silent = null;
  const endpoints = Object.values(status.endpoints);
  if (endpoints.every((endpoint) => endpoint.accepted !== null)) {
    const sample = { at: Date.parse(status.at) / 1000, accepted: sum(endpoints, "accepted"), delivered: sum(endpoints, "delivered") };
    const last = seen.samples.at(-1);
    // A store that was emptied, or a clock set back: what was before says nothing any more.
    if (last && (sample.accepted < last.accepted || sample.at < last.at)) seen.samples = [];
    seen.samples = [...seen.samples.filter((one) => one.at > sample.at - SPAN - WINDOW && one.at !== sample.at), sample];
  }
  tell();
}

function tell() {
  for (const listener of listeners) listener();
}

function sum(rows, key) {
  return rows.reduce((total, row) => total + row[key], 0);
}

/** Events per second over the few seconds before the sample `i`; null while that is not known. */
export function rate(i, key) {
  const one = seen.samples[i];
  const from = seen.samples.find((other) => other.at >= one?.at - WINDOW - 0.5);
  return !from || from === one || one.at - from.at < 0.5 ? null : (one[key] - from[key]) / (one.at - from.at);
}
