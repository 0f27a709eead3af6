// How numbers, times and the text of strangers are written.

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** What others have written, with what reorders or hides text escaped, as sluice/observe/printable.py does it. */
export function printable(text) {
  return String(text).replace(CONTROL, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function number(value) {
  return value === null || value === undefined ? "–" : grouped(value, 3);
}

export function decimal(value) {
  return value === null || value === undefined ? "–" : grouped(value, 1);
}

/** What `Intl.NumberFormat("en")` writes. A browser takes 15 ms of CPU to get that one ready, and nothing is to be seen before. */
function grouped(value, most) {
  const [whole, rest] = String(Number(Number(value).toFixed(most))).split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${grouped(bytes / 1024 ** step, 1)} ${units[step]}`;
}

export function age(seconds) {
  const all = Math.max(0, Math.round(seconds));
  for (const [unit, length, rest, part] of [["d", 86400, "h", 3600], ["h", 3600, "m", 60], ["m", 60, "s", 1]]) {
    if (all < length) continue;
    const small = Math.floor((all % length) / part);
    return small ? `${Math.floor(all / length)}${unit} ${small}${rest}` : `${Math.floor(all / length)}${unit}`;
  }
  return `${all}s`;
}

/** How long ago, by the gateway's clock where `now` is given. */
export function ago(moment, now = Date.now()) {
  return moment ? `${age((now - Date.parse(moment)) / 1000)} ago` : "–";
}

export function clock(moment) {
  return moment ? new Date(moment).toLocaleString([], { hour12: false }) : "–";
}

export function some(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** JSON over several lines, and whatever else it is as it came. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
