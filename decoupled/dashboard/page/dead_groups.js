// One kind of error among the dead letters: how many, since when, and what can be done with all of them; and several
// kinds as a table.

import { h } from "./dom.js";
import { age, count, exactTime } from "./format.js";

/** A Group of core/dead_letters.py. `largest`: what the bar is as long as the whole of. `choose` shows its letters
 *  only, or all again; `change` redrives or purges it. */
export function groupNode(group, largest, { chosen, may, href, choose, change }) {
  const bar = h("div", { class: "share", "aria-hidden": "true" }, h("div", {}));
  bar.firstChild.style.width = `${(100 * group.count) / largest}%`;
  const many = count(group.count);
  const act = (kind, name, look) => {
    const given = { type: "button", class: look, disabled: !may, "aria-label": `${name} these ${many} …` };
    return h("button", { ...given, on: { click: () => change(kind) } }, `${name} …`);
  };
  const shown = {
    type: "button",
    "aria-pressed": String(chosen),
    "aria-label": `${chosen ? "Show all, not only" : "Show"} these ${many}`,
    on: { click: choose },
  };
  const error = [h("strong", {}, group.error_type || "No error"), group.error && `: ${group.error}`];
  const times = [" · first ", when(group.oldest_at), " · last ", when(group.newest_at), " · "];
  return h(
    "li",
    { class: `dead-group${chosen ? " is-chosen" : ""}`, "data-key": `${group.workload} ${group.alike}` },
    h("div", { class: "dead-count" }, h("strong", {}, many), bar),
    h(
      "div",
      { class: "dead-what" },
      h("p", { class: "dead-error", dir: "auto" }, error),
      h("p", { class: "muted small" }, h("bdi", {}, group.workload), times, h("a", { href }, "one of them")),
    ),
    h(
      "div",
      { class: "row dead-acts" },
      h("button", shown, chosen ? "Show all" : "Show"),
      act("redrive", "Redrive", "acts"),
      act("purge", "Purge", "acts danger"),
    ),
  );
}

function when(at) {
  return h("time", { datetime: exactTime(at), title: exactTime(at) }, `${age(at)} ago`);
}

/** What a change would be done to, by kind. */
export function kindsTable(kinds) {
  if (!kinds.length) return null;
  return h(
    "div",
    { class: "scrolls kinds", tabindex: "0", role: "region", "aria-label": "What it would be done to" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { class: "number", scope: "col" }, "Letters"),
          h("th", { scope: "col" }, "Workload"),
          h("th", { scope: "col" }, "Error"),
        ),
      ),
      h(
        "tbody",
        {},
        kinds.map((each) =>
          h(
            "tr",
            {},
            h("td", { class: "number" }, count(each.count)),
            h("td", {}, h("bdi", {}, each.workload)),
            h(
              "td",
              {},
              h("span", { class: "clip", dir: "auto" }, [each.error_type, each.error].filter(Boolean).join(": ")),
            ),
          ),
        ),
      ),
    ),
  );
}

/** Of the answers for the parts of a selection: each kind once, the largest first. */
export function merged(kinds) {
  const found = new Map();
  for (const each of kinds) {
    const key = JSON.stringify([each.workload, each.alike]);
    found.set(key, { ...each, count: each.count + (found.get(key)?.count ?? 0) });
  }
  return [...found.values()].sort((one, other) => other.count - one.count);
}
