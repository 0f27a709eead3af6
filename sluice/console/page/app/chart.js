// Lines over time, drawn by uPlot in the colours of the page.

import { loaded } from "../fetched/uplot.js";
import { html, useEffect, useRef } from "./ui.js";

const HEIGHT = 140;

/**
 * `lines`: [{name, colour}]; `data`: seconds, then the numbers of each line, null where they are not known; `span`: the seconds that
 * are shown, up to the newest; `time` and `value` write what stands at the axes; `at` is told the place under the pointer, null: none.
 */
export function Chart({ label, lines, data, words, span, time, value, at, children }) {
  const place = useRef(), drawn = useRef();
  useEffect(() => {
    const box = place.current;
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { stroke: () => colour("--soft"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    // Of one moment alone uPlot would show the time after it.
    const shown = (newest, first) => [span ? newest - span : first, newest];
    const written = (write) => (write ? { values: (self, splits) => splits.map((one) => (one === null ? "" : write(one))) } : {});
    const chart = new (loaded())({
      width: box.clientWidth, height: HEIGHT, legend: { show: false },
      cursor: at ? { y: false, points: { show: false }, drag: { x: false } } : { show: false },
      hooks: at ? { setCursor: [(self) => at(self.cursor.left < 0 ? null : self.cursor.idx)] } : {},
      padding: [8, 8, 0, 0],
      axes: [{ ...axis, space: 60, size: 26, ...written(time) }, { ...axis, size: 56, ...written(value) }],
      scales: { x: { range: (self, first, last) => shown(self.data[0].at(-1) ?? last, first) }, y: { range: (self, low, high) => [0, (high || 1) * 1.1] } },
      series: [{}, ...lines.map((one) => ({ label: one.name, stroke: () => colour(one.colour), width: 1.75, points: { show: false } }))],
    }, data, box);
    drawn.current = chart;
    const watch = new ResizeObserver(() => chart.setSize({ width: box.clientWidth, height: HEIGHT }));
    watch.observe(box);
    const themes = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => chart.redraw();
    themes.addEventListener("change", redraw);
    return () => { watch.disconnect(); themes.removeEventListener("change", redraw); chart.destroy(); };
  }, [lines.map((one) => one.name).join()]);
  useEffect(() => { drawn.current?.setData(data); }, [data]);
  return html`<figure>
    <div class="chart" ref=${place} role="img" aria-label=${`${label}. ${words}`}></div>
    <figcaption>${lines.map((one) => html`<span><i class=${`key ${one.colour.slice(2)}`}></i>${one.name}</span>`)}${children ?? html`<span>${words}</span>`}</figcaption>
  </figure>`;
}
