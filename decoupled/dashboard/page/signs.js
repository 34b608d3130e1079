// Signs of how something is: a shape and a word for each colour, since a colour alone says nothing to many. Pure.

import { h, s } from "./dom.js";

export const WORDS = { ok: "well", warn: "look at it", bad: "trouble", unknown: "not known" };

const SHAPES = {
  ok: () => [s("circle", { cx: 8, cy: 8, r: 7 }), s("path", { class: "cut", d: "M4.8 8.3l2.2 2.2 4.2-4.6" })],
  warn: () => [s("path", { d: "M8 1.2 15.2 14H.8z" }), s("path", { class: "cut", d: "M8 5.6v4M8 11.4v.8" })],
  bad: () => [
    s("path", { d: "M5 1h6l4 4v6l-4 4H5l-4-4V5z" }),
    s("path", { class: "cut", d: "M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2" }),
  ],
  unknown: () => [s("circle", { cx: 8, cy: 8, r: 7 }), s("path", { class: "cut", d: "M5 8h6" })],
};

/** The sign of a colour, with its word for who cannot see it. `words`: others than the usual ones; "" says nothing. */
export function sign(colour, words = WORDS[colour]) {
  const shape = s("svg", { class: `sign is-${colour}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, SHAPES[colour]());
  return words ? [shape, h("span", { class: "visually-hidden" }, words)] : [shape];
}

/** The colour of a workload's, or of a group's, state. */
export function colourOf(state) {
  return { closed: "ok", open: "bad", held: "bad" }[state] ?? "unknown";
}

/** What a workload's, or a group's, state means, in a word. */
export function wordOf(state) {
  return { closed: "well", open: "backend is sick", held: "held" }[state] ?? state;
}
