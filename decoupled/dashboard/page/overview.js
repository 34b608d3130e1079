// How the whole is doing: in words, as a picture, as charts of the last hour, and by workload.

import { charts } from "./charts.js";
import { h, replace, setAttribute, setText } from "./dom.js";
import { headline } from "./headline.js";
import { picture } from "./picture.js";
import { sign } from "./signs.js";
import { workloads } from "./workloads.js";

const MAX_TROUBLES = 5; // told in words; what is beyond shows in picture and workloads

/** `context`: see contextOf in app.js. "#/workload/NAME" shows that one. */
export function mount(root, context) {
  const parts = [words(context.link), picture(), charts(), workloads(context.link)];
  const waiting = h("p", { class: "empty" }, "Asking the server …");
  let drawn = false;
  replace(root, h("h1", { class: "visually-hidden" }, "Overview"), waiting);
  const unsubscribe = context.live.subscribe(({ now }) => {
    if (!now) return;
    if (!drawn) waiting.replaceWith(...parts.map(({ node }) => node));
    for (const part of parts) part.update(now);
    if (!drawn) reveal(context.path);
    drawn = true;
  });
  return () => {
    unsubscribe();
    for (const part of parts) part.close?.();
  };
}

function reveal([part, name]) {
  const node = part === "workload" && document.getElementById(`workload-${name}`);
  if (!node) return;
  node.scrollIntoView({ block: "center" });
  node.querySelector("a").focus({ preventScroll: true });
}

/** What is wrong. Read out when it is another trouble, and not when a number in it is. */
function words(link) {
  const list = h("ol", { class: "headline" });
  const heard = h("p", { class: "visually-hidden", role: "status" });
  const node = h("section", { class: "headline-frame fades", "aria-label": "How it is doing" }, list, heard);
  const lines = new Map(); // by their keys: a link that has the focus is not to be taken away each second
  let said = "";
  return { node, update };

  function update(live) {
    const troubles = headline(live, link);
    const shown = troubles.slice(0, MAX_TROUBLES);
    for (const key of [...lines.keys()].filter((key) => !shown.some((it) => it.key === key))) {
      lines.get(key).node.remove();
      lines.delete(key);
    }
    shown.forEach((trouble, place) => {
      if (!lines.has(trouble.key)) lines.set(trouble.key, line(trouble));
      const { node, text } = lines.get(trouble.key);
      setText(text, trouble.text);
      setAttribute(node, "class", `trouble is-${trouble.colour}`);
      if (list.children[place] !== node) list.insertBefore(node, list.children[place] ?? null);
    });
    const keys = shown.map(({ key }) => key).join();
    if (keys !== said) setText(heard, shown.map(({ text }) => text).join(" "));
    said = keys;
  }
}

function line({ colour, links }) {
  const text = h("span", { class: "trouble-text" });
  const to = links.map((it) => h("a", { href: it.href, on: { click: (event) => stay(event, it.path) } }, it.text));
  const node = h(
    "li",
    {},
    h("span", { class: "trouble-sign" }, sign(colour)),
    text,
    to.length > 0 && h("span", { class: "trouble-links" }, to),
  );
  return { node, text };
}

/** A link to a place further down goes there, and does not draw everything anew. */
function stay(event, path) {
  if (!path || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  reveal(path);
}
