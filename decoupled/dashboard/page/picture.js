// The architecture, as it is doing now: a box for each part, an arrow for each way that a message takes. Built once;
// each look changes texts and colours only, in places that are wide enough for any number, so that nothing jumps.

import { h, replace, s, setAttribute, setText } from "./dom.js";
import { UNKNOWN, bytes, count, duration, rate } from "./format.js";
import { WORDS, sign } from "./signs.js";

const given = (value, text) => (value == null ? null : text(value));
const sum = (...parts) => (parts.some((part) => part == null) ? null : parts.reduce((a, b) => a + b, 0));

// Of each box: its title on each engine, its figure, and its facts; each a name and what makes its text of a Live.
const BOXES = [
  {
    name: "clients",
    titles: { sqlite: "Clients", aws: "Clients" },
    figure: [
      "accepted",
      ({ overview: o }) => count(sum(o.queued, o.in_flight, o.delayed, o.dead, o.processed, o.rejected)),
    ],
    facts: [["callers refused", (live) => live.overview.limited && count(live.overview.limited.callers)]],
  },
  {
    name: "front",
    titles: { sqlite: "Front", aws: "API Gateway" },
    figure: ["202, p99", (live) => duration(live.accept.p99_s)],
    facts: [
      ["fronts", (live) => given(live.fronts, count)],
      ["in a commit", (live) => given(live.commit_messages, (it) => count(Math.round(it)))],
      ["commit p99", (live) => given(live.commit.p99_s, duration)],
    ],
  },
  {
    name: "queue",
    titles: { sqlite: "Queue", aws: "SQS" },
    figure: ["queued", (live) => count(live.overview.queued)],
    facts: [
      ["oldest", (live) => duration(live.overview.oldest_age_s ?? 0)],
      ["in flight", (live) => count(live.overview.in_flight)],
      ["delayed", (live) => count(live.overview.delayed)],
    ],
  },
  {
    name: "processor",
    titles: { sqlite: "Processor", aws: "Processor" },
    figure: ["a message, p99", (live) => duration(live.processing.p99_s)],
    facts: [
      ["workers", (live) => given(live.workers, count)],
      ["median", (live) => duration(live.processing.p50_s)],
      ["retried", (live) => rate(live.retried_per_s)],
    ],
  },
  {
    name: "table",
    titles: { sqlite: "Table", aws: "DynamoDB" },
    figure: ["processed", (live) => count(live.overview.processed)],
    facts: [
      ["rejected", (live) => count(live.overview.rejected)],
      ["log (WAL)", (live) => given(live.wal_bytes, bytes)],
    ],
  },
  {
    name: "dead",
    titles: { sqlite: "Dead letters", aws: "Dead letters" },
    figure: ["dead", (live) => count(live.overview.dead)],
    facts: [],
    link: ["#/dead", "Look at them"],
  },
];

// Of each arrow: from where to where, for who reads it, and what is on it: a figure and what it is.
const ARROWS = [
  {
    name: "in",
    says: "Clients to the front",
    texts: [["accepted", (live) => rate(live.overview.accepted_per_s)]],
    flow: (live) => live.overview.accepted_per_s,
  },
  {
    name: "commit",
    says: "The front to the queue",
    texts: [["202, median", (live) => duration(live.accept.p50_s)]],
    flow: (live) => live.overview.accepted_per_s,
  },
  {
    name: "waiting",
    says: "The queue to the processor",
    texts: [["wait, p99", (live) => duration(live.waiting.p99_s)]],
    flow: (live) => live.overview.processed_per_s,
  },
  {
    name: "out",
    says: "The processor to the table",
    texts: [["processed", (live) => rate(live.overview.processed_per_s)]],
    flow: (live) => live.overview.processed_per_s,
  },
  {
    name: "die",
    says: "The processor to the dead letters",
    texts: [["die", (live) => rate(live.dead_per_s)]],
    flow: (live) => live.dead_per_s,
  },
];

/** The picture, and what it does at a look: `{ node, update(live) }`. */
export function picture() {
  const boxes = BOXES.map(box);
  const arrows = ARROWS.map(arrow);
  const node = h(
    "section",
    { class: "picture panel fades", "aria-labelledby": "picture-title" },
    h("h2", { id: "picture-title", class: "visually-hidden" }, "The architecture, live"),
    boxes.map(({ node }, place) => [node, arrows[place]?.node]), // read in the order of a message's way
  );
  return {
    node,
    update(live) {
      for (const part of [...boxes, ...arrows]) part.update(live);
    },
  };
}

function box({ name, titles, figure, facts, link }) {
  const mark = h("span", { class: "box-sign" });
  const title = h("h3", {});
  const value = h("span", { class: "figure" });
  const why = h("p", { class: "box-why" });
  const rows = facts.map(([what, text]) => ({ what, text, value: h("dd", {}) }));
  for (const row of rows) row.node = h("div", {}, h("dt", {}, row.what), row.value);
  const node = h(
    "article",
    { class: "box", "data-box": name },
    h("header", {}, mark, title),
    h("p", { class: "box-figure" }, value, h("span", { class: "muted small" }, figure[0])),
    h(
      "dl",
      { class: "facts" },
      rows.map(({ node }) => node),
    ),
    why,
    link && h("a", { class: "box-link small", href: link[0] }, link[1]),
  );
  return { node, update };

  function update(live) {
    const { colour, why: reason = "" } = live.boxes[name] ?? { colour: "unknown" };
    setText(title, titles[live.engine] ?? titles.sqlite);
    setText(value, figure[1](live));
    for (const row of rows) {
      const text = row.text(live);
      row.node.hidden = text == null && live.engine === "aws"; // which has no such thing: no number is to come
      setText(row.value, text ?? UNKNOWN);
    }
    setText(why, reason);
    setAttribute(why, "title", reason || null);
    if (node.dataset.colour === colour) return;
    node.dataset.colour = colour;
    replace(mark, ...sign(colour, WORDS[colour]));
  }
}

function arrow({ name, says, texts, flow }) {
  const values = texts.map(([what, text]) => ({ text, node: h("span", { class: "arrow-value" }), what }));
  const node = h(
    "div",
    { class: "arrow", "data-arrow": name },
    h("span", { class: "visually-hidden" }, `${says}: `),
    values.map(({ node, what }) => h("p", { class: "arrow-text" }, node, " ", h("span", { class: "muted" }, what))),
    h("div", { class: "arrow-track", "aria-hidden": "true" }, line(), head()),
  );
  return {
    node,
    update(live) {
      for (const value of values) setText(value.node, value.text(live));
      setAttribute(node, "data-flow", flow(live) > 0);
      // An arrow is as sick as the box that it leads to.
      const target = { in: "front", commit: "queue", waiting: "processor", out: "table", die: "dead" }[name];
      setAttribute(node, "data-colour", live.boxes[target]?.colour ?? "unknown");
    },
  };
}

function line() {
  const across = s("line", { class: "across", x1: "0", x2: "100%", y1: "6", y2: "6" });
  const down = s("line", { class: "down", x1: "6", x2: "6", y1: "0", y2: "100%" });
  return s("svg", { class: "arrow-line" }, across, down);
}

function head() {
  return s("svg", { class: "arrow-head", viewBox: "0 0 10 12" }, s("path", { d: "M0 0 10 6 0 12z" }));
}
