// How the whole is doing: in words, as a picture, as charts, and by workload.

import { h, replace } from "./dom.js";

/** `context`: see contextOf in app.js. */
export function mount(root, context) {
  const line = h("p", {});
  replace(root, h("h1", { class: "visually-hidden" }, "Overview"), line);
  return context.live.subscribe(({ now }) => replace(line, now ? now.status : "…"));
}
