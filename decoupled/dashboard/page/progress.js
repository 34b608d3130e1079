// How far a change of many letters is, as a bar and in words; and what it came to in the end.

import { h, setText } from "./dom.js";
import { count, plural } from "./format.js";

const MAX_FAILURES = 200; // that are named

/** How far it is, as a bar and in words. */
export class Progress {
  counts = {};
  #words;
  #failures = [];
  #total;
  #fill = h("div", {});
  #line = h("p", { class: "muted", role: "status" });

  constructor(words, total) {
    this.#words = words;
    this.#total = total;
    this.bar = h(
      "div",
      { role: "progressbar", "aria-valuemin": "0", "aria-valuemax": String(total), "aria-label": words.running },
      this.#fill,
    );
    this.node = h("div", {}, this.bar, this.#line);
    this.#draw();
  }

  add({ counts, failures = [] }) {
    this.counts = summed([this.counts, counts]);
    this.#failures.push(...failures.slice(0, MAX_FAILURES - this.#failures.length));
    this.#draw();
  }

  say(words) {
    setText(this.#line, words);
  }

  /** Of how many it is known what they came to. */
  get #seen() {
    return Object.values(this.counts).reduce((sum, each) => sum + each, 0);
  }

  #draw() {
    const seen = Math.min(this.#total, this.#seen);
    this.bar.setAttribute("aria-valuenow", String(seen));
    this.bar.setAttribute("aria-valuetext", `${count(seen)} of ${count(this.#total)}`);
    this.#fill.style.width = `${this.#total ? (100 * seen) / this.#total : 100}%`;
    this.say(`${count(seen)} of ${count(this.#total)}`);
  }

  /** What it came to, and of which letters nothing came. `whole`: all that there were by then have been gone through. */
  outcomes(whole) {
    const others = Object.entries(this.counts).filter(([outcome, many]) => outcome !== this.#words.done && many);
    const gone = this.#total - this.#seen; // by somebody else; or in a batch whose answer was lost
    if (whole && gone > 0) others.push(["were no dead letters any more when it was their turn", gone]);
    return h(
      "div",
      { class: "stack" },
      others.length > 0 &&
        h(
          "ul",
          {},
          others.map(([outcome, many]) => h("li", {}, `${count(many)} ${outcome}`)),
        ),
      this.#failures.length > 0 &&
        h(
          "details",
          { open: this.#failures.length <= 5 },
          h("summary", {}, `${plural(this.#failures.length, "letter")} left as they were`),
          h(
            "ul",
            { class: "failures" },
            this.#failures.map(([id, why]) => h("li", {}, h("code", {}, id), " ", h("bdi", {}, why))),
          ),
        ),
    );
  }
}

/** Of each outcome, how many, of all these counts. */
export function summed(all) {
  const sums = {};
  for (const counts of all)
    for (const [outcome, many] of Object.entries(counts)) sums[outcome] = (sums[outcome] ?? 0) + many;
  return sums;
}
