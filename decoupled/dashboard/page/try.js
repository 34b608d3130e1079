// A form made of each workload's schema, to send a first entry with.

import { h, replace } from "./dom.js";

/** `context`: see contextOf in app.js. */
export function mount(root, context) {
  replace(root, h("h1", {}, "Try it"));
  return () => {};
}
