// Charts of the last hour, drawn by uPlot (a global of its own file). The same numbers stand in a table below each, for
// who cannot see a picture; and each line has a dash of its own, for who cannot tell the colours.

import { get } from "./api.js";
import { h, replace, setAttribute, setText } from "./dom.js";
import { UNKNOWN, clause, count, duration, hourAndMinute, rate, sentence } from "./format.js";
import { Past, SPAN_S } from "./past.js";
import { HEIGHT, options } from "./plot.js";

const REFRESH_MS = 60_000; // between two looks at what the server has kept; in between, what is seen live is appended
const TABLE_ROWS = 12;

// Of each chart: its lines by their columns, each with its name, a text of its values, and the axis that it is read on.
const CHARTS = [
  {
    title: "In and out",
    lines: [
      { name: "accepted", column: "accepted_per_s", text: rate, colour: 1 },
      { name: "processed", column: "processed_per_s", text: rate, colour: 2 },
    ],
  },
  {
    title: "Waiting",
    lines: [
      { name: "queued", column: "queued", text: count, colour: 1 },
      { name: "oldest", column: "oldest_age_s", text: duration, colour: 4, axis: "right" },
    ],
  },
  {
    title: "Latency, p99",
    logarithmic: true,
    lines: [
      { name: "202", column: "accept_p99_s", text: duration, colour: 1 },
      { name: "waiting", column: "waiting_p99_s", text: duration, colour: 4 },
      { name: "processing", column: "processing_p99_s", text: duration, colour: 2 },
    ],
  },
  {
    title: "Failures",
    lines: [
      { name: "retried", column: "retried_per_s", text: rate, colour: 4 },
      { name: "dead", column: "dead_per_s", text: rate, colour: 3 },
      { name: "rejected", column: "rejected_per_s", text: rate, colour: 1 },
    ],
  },
];

/** The charts: `{ node, update(live), close() }`. */
export function charts() {
  const past = new Past();
  const drawn = CHARTS.map((chart) => new Chart(chart, past));
  const note = h("p", { class: "muted small" });
  const node = h(
    "section",
    { class: "charts fades", "aria-labelledby": "charts-title" },
    h("h2", { id: "charts-title", class: "visually-hidden" }, "The last hour"),
    drawn.map(({ node }) => node),
    note,
  );
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const recolour = () => drawn.forEach((chart) => chart.make());
  let asked = 0;
  let empty = false; // the server had kept nothing
  scheme.addEventListener("change", recolour);

  return {
    node,
    update(live) {
      const last = past.times.at(-1) ?? 0;
      // A tab that was hidden, a server that was gone.
      const missed = live.taken_at / 1000 - last > 4 * past.stepS;
      if (Date.now() - asked > (missed ? past.stepS * 1000 : REFRESH_MS)) ask();
      else if (past.append(live)) {
        if (empty) setText(note, ""); // there is something by now
        drawn.forEach((chart) => chart.draw());
      }
    },
    close() {
      scheme.removeEventListener("change", recolour);
      drawn.forEach((chart) => chart.close());
    },
  };

  async function ask() {
    asked = Date.now();
    try {
      const history = await get("history", { seconds: SPAN_S });
      past.replace(history);
      empty = !history.times.length;
      setText(note, sentence(history.note ?? ""));
    } catch (error) {
      setText(
        note,
        `The last hour is not known: ${clause(error.message)}. What is seen from now on is drawn.`,
      );
    }
    drawn.forEach((chart) => chart.draw());
  }
}

class Chart {
  #plot = null;
  #resized = new ResizeObserver(() => this.#fit());

  constructor(chart, past) {
    this.chart = chart;
    this.past = past;
    this.values = chart.lines.map(() => h("span", { class: "legend-value" }, UNKNOWN));
    const legend = chart.lines.map((line, place) =>
      h(
        "li",
        { class: `series-${line.colour} dash-${place}` },
        h("span", { class: "legend-line", "aria-hidden": "true" }),
        line.name,
        " ",
        this.values[place],
      ),
    );
    this.canvas = h("div", { class: "chart-canvas", role: "img" });
    this.table = h("table", { class: "small" });
    this.details = h(
      "details",
      { class: "small", on: { toggle: () => this.#tabulate() } },
      h("summary", {}, "As a table"),
      h(
        "div",
        { class: "scrolls", tabindex: "0", role: "region", "aria-label": `${chart.title}, as a table` },
        this.table,
      ),
    );
    this.node = h(
      "figure",
      { class: "chart panel" },
      h("figcaption", {}, h("h3", {}, chart.title), h("ul", { class: "legend" }, legend)),
      this.canvas,
      this.details,
    );
    this.#resized.observe(this.canvas);
  }

  /** Anew: at first, and when the colours have changed. */
  make() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#fit();
  }

  draw() {
    this.#plot?.setData(this.#data());
    this.#say(null);
    const words = this.chart.lines.map((line) => `${line.name} ${this.#range(line)}`);
    setAttribute(
      this.canvas,
      "aria-label",
      `${this.chart.title}, the last hour: ${words.join("; ")}. A table follows.`,
    );
    this.#tabulate();
  }

  close() {
    this.#resized.disconnect();
    this.#plot?.destroy();
  }

  #fit() {
    const width = Math.floor(this.canvas.clientWidth);
    if (!width) return;
    if (this.#plot) this.#plot.setSize({ width, height: HEIGHT });
    else
      this.#plot = new window.uPlot(
        options(this.chart, width, (place) => this.#say(place)),
        this.#data(),
        this.canvas,
      );
  }

  /** Columns as uPlot takes them. On a logarithmic axis, nothing is not zero but no value. */
  #data() {
    const value = (it) => (this.chart.logarithmic && it === 0 ? null : it);
    return [this.past.times, ...this.chart.lines.map(({ column }) => this.past.series[column].map(value))];
  }

  /** The values under the pointer, or else the last ones. */
  #say(place) {
    const at = place ?? this.past.times.length - 1;
    this.chart.lines.forEach((line, index) =>
      setText(this.values[index], line.text(this.past.series[line.column][at])),
    );
  }

  #range({ column, text }) {
    const values = this.past.series[column].filter((it) => it != null);
    if (!values.length) return "not known";
    return `now ${text(values.at(-1))}, between ${text(Math.min(...values))} and ${text(Math.max(...values))}`;
  }

  #tabulate() {
    if (!this.details.open) return;
    const { lines } = this.chart;
    const rows = [];
    const step = Math.max(60, (this.past.times.at(-1) - this.past.times[0]) / TABLE_ROWS);
    let next = -Infinity;
    this.past.times.forEach((time, place) => {
      if (time < next) return;
      next = time + step;
      const cells = lines.map((line) => h("td", { class: "number" }, line.text(this.past.series[line.column][place])));
      rows.push(h("tr", {}, h("th", { scope: "row" }, hourAndMinute(time * 1000)), cells));
    });
    replace(
      this.table,
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Time"),
          lines.map(({ name }) => h("th", { scope: "col", class: "number" }, name)),
        ),
      ),
      h("tbody", {}, rows.reverse()),
    );
  }
}
