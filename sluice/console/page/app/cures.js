// Where on this page what is wrong can be followed: by what it is about, which the status and the alerts say beside the sentence, and
// within that by the command that the sentence names.

import { part } from "./api.js";

const DEAD = [/sluice dead/, "Dead letters"], WAITING = [/sluice queue/, "What waits"];
const SESSIONS = [
  [/sluice sessions list --worker (\S+?)[):;,.]*(?:\s|$)/, (name) => [`#/sessions?worker=${part(name)}`, "Its sessions"]],
  [/--orphaned| no worker/, () => ["#/sessions?orphaned=true", "Sessions that nobody runs"]],
  [/^session (\S+) (?:at|runs)/, (name) => [`#/session/${part(name)}`, `Open ${name}`]],
  [/^worker |sessions\.workers/, () => ["#/workers", "Workers"]],
];
const BY_TOPIC = {
  policies: ["#/policies", "Policies"], alerts: ["#/alerts", "Alerts"], scaling: ["#/workers", "Workers"], advertise: ["#/workers", "Workers"],
  sessions: ["#/sessions", "Sessions"], faults: ["#/sessions", "Sessions"], vault: ["#/vault", "Vault"],
  phones: ["#/sessions", "Sessions"], cleanup: ["#/sessions", "Sessions"], outbox: ["#/deliveries/outbox", "Open outbox"],
};
const OF_ENDPOINT = new Set(["circuit_open", "backlog_age", "backlog_full"]), OF_DEAD = new Set(["dead_letters", "dead_letters_growing"]);
const TOPICS = { upstream_failing: "upstream", worker_lost: "scaling", worker_never_seen: "scaling", policies_rejected: "policies",
  session_stuck: "faults", session_flapping: "faults", session_silent: "faults", vault_stale: "vault" };

/** Of a sentence of the status: [address, text], or null. */
export function cure(topic, sentence) {
  const [kind, name] = split(topic);
  if (kind === "endpoint") return ofEndpoint(name, sentence);
  if (kind === "upstream") return ["#/overview/upstreams", "Upstreams"];
  if (kind === "traffic") return /sluice limits|^limit /.test(sentence) ? ["#/limits", "Limits"] : null;
  for (const [pattern, made] of SESSIONS) {
    const found = BY_TOPIC[kind] && pattern.exec(sentence);
    if (found) return made(found[1] ?? "");
  }
  return BY_TOPIC[kind] ?? null;
}

/** The same of an alert. */
export function cureOf(kind, subject, text) {
  if (kind === "anything_wrong") return cure(subject, text);
  if (OF_ENDPOINT.has(kind)) return [`#/deliveries/${part(subject)}`, `Open ${subject}`];
  if (OF_DEAD.has(kind)) return [`#/deliveries/${part(subject)}?tab=dead`, "Dead letters"];
  if (kind === "limit_refusing") return ["#/limits", "Limits"];
  if (kind === "session_disputed") return [`#/session/${part(subject)}`, `Open ${subject}`];
  return TOPICS[kind] ? cure(TOPICS[kind], text) : null;
}

function split(topic) {
  const at = topic.indexOf(" ");
  return at < 0 ? [topic, ""] : [topic.slice(0, at), topic.slice(at + 1)];
}

function ofEndpoint(name, sentence) {
  if (/is not an endpoint of the policies/.test(sentence)) return ["#/deliveries", "Deliveries"];
  for (const [pattern, text] of [DEAD, WAITING]) {
    if (pattern.test(sentence)) return [`#/deliveries/${part(name)}?tab=${text === DEAD[1] ? "dead" : "waiting"}`, text];
  }
  return [`#/deliveries/${part(name)}`, `Open ${name}`];
}
