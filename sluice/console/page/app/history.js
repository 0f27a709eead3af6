// Charts of the last hour, day and 14 days. They are kept in the store, so a reload loses nothing.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { RANGES, amount, brief, charts, only, parts, rows, timeOf, words } from "./over_time.js";
import { Choice, Table, Trouble, html, useEvery, useLoaded, useMemo, useState } from "./ui.js";

const EVERY = { hour: 10, day: 60, "14d": 300 };

/** `made`: from what was kept to the charts. Their parts are what they add up. */
export function useHistory(range, made = charts, keys = []) {
  const { value, trouble, again } = useLoaded(() => get("history", { range }), [range]);
  useEvery(EVERY[range], again, [range]);
  const drawn = useMemo(() => value && made(value).map(drawable), [value, ...keys]);
  return { value: drawn, parts: useMemo(() => (value ? parts(value) : []), [value]), trouble };
}

export function History() {
  const [range, setRange] = useState("hour");
  const [of, setOf] = useState("");
  const { value, parts, trouble } = useHistory(range, (history) => charts(of ? only(history, JSON.parse(of)) : history), [of]);
  const options = parts.map((one) => [JSON.stringify(one), one.join(" ")]);
  if (of && !options.some(([id]) => id === of)) options.push([of, JSON.parse(of).join(" ")]);
  return html`<section id="history"><h2>Over time</h2>
    <${Ranges} range=${range} choose=${setRange} />
    ${options.length ? html`<${Choice} label="Of" name="of" value=${of} options=${[["", "everything: endpoints, upstreams and limits are added up"], ...options]} onChange=${(event) => setOf(event.target.value)} />` : null}
    <${Trouble} of=${trouble} />
    ${value ? (value.length ? html`<div class="charts">${value.map((one) => html`<${Drawn} key=${one.title + one.unit} of=${one} />`)}</div>`
      : html`<p class="note empty">Nothing was counted in this time.</p>`) : null}
  </section>`;
}

export function Ranges({ range, choose }) {
  return html`<div class="tabs" role="group" aria-label="Range of time">${RANGES.map(([name, text]) => html`
    <button type="button" aria-pressed=${name === range} onClick=${() => choose(name)}>${text}</button>`)}</div>`;
}

/** Its data are the same object for as long as nothing new has come, so it is drawn once. */
function drawable(chart) {
  return { ...chart, words: words(chart), data: [chart.times, ...chart.lines.map((line) => line.values)] };
}

/** A chart, what it says under the pointer, and the same as a table. */
export function Drawn({ of }) {
  const [at, setAt] = useState(null);
  const [open, setOpen] = useState(false);
  const { title, unit, lines, times, range, data } = of;
  const value = (line, i) => amount(line.values[i], unit);
  const newest = times.length - 1;
  const shown = at ?? newest;
  return html`<div class="over-time">
    <h3>${title}${unit ? html` <small>${unit === "seconds" ? "time" : unit}</small>` : null}</h3>
    <${Chart} label=${title} lines=${lines} data=${data} words=${of.words} time=${(one) => timeOf(one, range)} value=${(one) => brief(one, unit)} at=${setAt}>
      <span class="at" aria-hidden="true">${at === null ? "" : `${new Date(times[shown] * 1000).toLocaleString([], { hour12: false })}: ${lines.map((line) => `${line.name} ${value(line, shown)}`).join(", ")}`}</span>
    <//>
    <details onToggle=${(event) => setOpen(event.target.open)}><summary>As a table</summary>
      ${open ? html`<${Table} label=${title} rows=${rows(of)} keyOf=${(row) => row.from} empty="Nothing is known of this time." columns=${[
        { title: "From", text: true, of: (row) => timeOf(row.from, range) },
        ...lines.map((line, i) => ({ title: `${line.name}, at most`, of: (row) => amount(row.values[i], unit) })),
      ]} />` : null}
    </details>
  </div>`;
}
