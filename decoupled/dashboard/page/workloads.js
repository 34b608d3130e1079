// Each workload as it is doing: its state, why, since when and when it probes next, with its sick groups; callers who
// are refused; and what else there is to know. What can have the focus stays while numbers change around it.

import { h, replace, setAttribute, setText } from "./dom.js";
import { count, duration, plural, rate } from "./format.js";
import { colourOf, sign, wordOf } from "./signs.js";

/** The panels: `{ node, update(live) }`. */
export function workloads(link) {
  const list = h("ul", { class: "workloads" });
  const refused = h("ul");
  const notes = h("ul");
  const panels = [panel("Workloads", list), panel("Callers refused", refused), panel("Notes", notes)];
  const cards = new Map();
  return { node: h("div", { class: "lower" }, panels), update };

  function update({ workloads, overview, notes: said = [] }) {
    for (const it of workloads) {
      if (!cards.has(it.name)) cards.set(it.name, card(it.name, link));
      cards.get(it.name).update(it);
    }
    const nodes = workloads.map(({ name }) => cards.get(name).node);
    if (nodes.length !== list.children.length || nodes.some((node, place) => list.children[place] !== node)) {
      replace(list, nodes);
    }
    panels[1].hidden = !overview.limited?.callers;
    if (overview.limited) replace(refused, callers(overview.limited));
    const all = new Set([...said, ...(overview.notes ?? [])]);
    panels[2].hidden = !all.size;
    replace(
      notes,
      [...all].map((it) => h("li", {}, it)),
    );
  }
}

function panel(title, list) {
  return h("section", { class: "panel fades", "aria-label": title }, h("h2", {}, title), list);
}

const FACTS = [
  ["unfinished", (it) => count(it.unfinished ?? 0)],
  ["accepted", (it) => rate(it.accepted_per_s)],
  ["processed", (it) => rate(it.processed_per_s)],
];

function card(name, link) {
  const badge = h("span", { class: "badge" });
  const values = FACTS.map(() => h("dd"));
  const why = h("p", { class: "workload-why" });
  const summary = h("summary");
  const list = h("ul");
  const groups = h("details", { class: "groups" }, summary, list);
  const facts = FACTS.map(([what], place) => h("div", {}, h("dt", {}, what), values[place]));
  const node = h(
    "li",
    { class: "workload", id: `workload-${name}` },
    h("h3", {}, h("a", { href: link("messages", [], { workload: name }) }, name)),
    h("p", { class: "workload-state" }, badge),
    h("dl", { class: "facts" }, facts),
    why,
    groups,
  );
  return { node, update };

  function update(it) {
    if (node.dataset.state !== it.state) show(badge, it.state);
    setAttribute(node, "data-state", it.state);
    FACTS.forEach(([, text], place) => setText(values[place], text(it)));
    why.hidden = it.state === "closed";
    replace(why, reason(it));
    const sick = it.sick_groups ?? 0;
    groups.hidden = !sick;
    setText(summary, `${plural(sick, "group")} of it ${sick === 1 ? "is" : "are"} not well`);
    replace(list, sickGroups(it));
  }
}

function show(badge, state) {
  setAttribute(badge, "class", `badge is-${colourOf(state)}`);
  return replace(badge, sign(colourOf(state), ""), wordOf(state));
}

/** "payments.example does not answer. For 4 min; probes again in 12 s." */
function reason({ why, since_s: since = 0, probe_in_s: probe = 0, state }) {
  const next = probe > 0 ? `probes again in ${duration(Math.ceil(probe))}` : "is probing now";
  const unsaid = state === "held" ? "Its messages fail all alike." : "Its backend does not answer.";
  return [
    h("span", { class: "why" }, why || unsaid),
    h("span", { class: "muted" }, ` For ${duration(Math.floor(since))}; ${next}.`),
  ];
}

function sickGroups({ sick_groups: sick = 0, groups = [] }) {
  const more = sick - groups.length;
  return [
    groups.map((it) => h("li", {}, show(h("span"), it.state), " ", h("strong", {}, it.group), " ", reason(it))),
    more > 0 && h("li", { class: "muted" }, `and ${plural(more, "more group")}`),
  ];
}

function callers({ callers, worst }) {
  const more = callers - worst.length;
  return [
    worst.map((who) => {
      const refused = `${plural(who.messages, "message")} refused, the last ${duration(who.last_s)} ago`;
      return h("li", {}, h("strong", {}, who.caller), ` ${who.why}; ${refused}.`);
    }),
    more > 0 && h("li", { class: "muted" }, `and ${plural(more, "more caller")}`),
  ];
}
