// How uPlot is to draw a chart: axes, grids and lines, in the colours of the tokens. Pure, but for reading those.

import { serverNow } from "./clock.js";
import { count, duration, hourAndMinute } from "./format.js";
import { SPAN_S } from "./past.js";

export const HEIGHT = 168;
const DASHES = [[], [7, 4], [2, 3]];
const LEAST_SPAN_S = 300;
const LEAST_MOST = 2; // of an axis
// What may stand between two lines of a count's axis: no halves.
const WHOLE = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((it) => it * 10 ** power)).flat();
// And of an age: seconds, minutes and hours that people count in.
const TIMES = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 14_400, 86_400];
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** What uPlot is to draw of a chart (see CHARTS), so wide; `onPlace` hears which sample the pointer is at, or null. */
export function options({ lines, logarithmic }, width, onPlace) {
  const style = getComputedStyle(document.documentElement);
  const token = (name) => style.getPropertyValue(name).trim();
  const font = `11px ${token("--sans")}`;
  const side = lines.some(({ axis }) => axis === "right");
  const common = { stroke: token("--muted"), font, ticks: { show: false } };
  const grid = { stroke: token("--line"), width: 1 };
  const written = (line) => (line.text === duration ? briefDuration : (it) => brief.format(it));
  const axis = (line, right) => ({
    ...common,
    scale: right ? "right" : "y",
    side: right ? 1 : 3,
    size: line.text === duration ? 52 : 40,
    gap: 4,
    grid: right ? { show: false } : grid,
    ...(logarithmic ? { splits: decades } : {}),
    ...(line.text === count ? { incrs: WHOLE } : line.text === duration ? { incrs: TIMES } : {}),
    values: (_, splits) => splits.map((it) => (it == null ? "" : written(line)(it))),
  });
  return {
    width,
    height: HEIGHT,
    padding: [8, side ? 0 : 10, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "hour" }, drag: { setScale: false, x: false, y: false }, points: { size: 6 } },
    hooks: { setCursor: [(plot) => onPlace(plot.cursor.idx)] },
    scales: {
      x: { time: true, range: (_, first) => span(first) },
      y: logarithmic ? { distr: 3, range: logRange } : { range: fromNothing },
      right: { range: fromNothing },
    },
    axes: [
      {
        ...common,
        grid,
        size: 24,
        gap: 4,
        space: 60,
        values: (_, splits) => splits.map((it) => hourAndMinute(it * 1000)),
      },
      axis(lines[0], false),
      ...(side
        ? [
            axis(
              lines.find((line) => line.axis === "right"),
              true,
            ),
          ]
        : []),
    ],
    series: [
      {},
      ...lines.map((line, place) => ({
        label: line.name,
        scale: line.axis === "right" ? "right" : "y",
        stroke: token(`--series-${line.colour}`),
        width: 1.5,
        dash: DASHES[place],
        points: { show: false },
        spanGaps: false,
      })),
    ],
  };
}

/** In one unit, as an axis has room for. */
function briefDuration(seconds) {
  if (seconds < 120) return duration(seconds);
  return seconds < 3_600 ? `${brief.format(seconds / 60)} min` : `${brief.format(seconds / 3_600)} h`;
}

/** The last hour, or what there is of it: five minutes at least. */
function span(first) {
  const now = serverNow() / 1000;
  return [Math.max(now - SPAN_S, Math.min(first ?? now, now - LEAST_SPAN_S)), now];
}

/** From zero to a little more than the most; never so near that idle noise looks like a spike. */
function fromNothing(_, __, most) {
  return [0, Math.max(LEAST_MOST, (most ?? 0) * 1.08)];
}

/** A line for each decade, or for each second one, where there are many. */
function decades(_, __, least, most) {
  const [from, to] = [Math.round(Math.log10(least)), Math.round(Math.log10(most))];
  const step = Math.ceil((to - from) / 5) || 1;
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, place) => 10 ** (from + place * step));
}

/** Whole decades. */
function logRange(_, least, most) {
  const low = least > 0 ? least : 0.001;
  return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(Math.max(most ?? 0, low * 10)))];
}
