// Dead letters by their errors, and what is done with them.

import { h, replace } from "./dom.js";

/** `context`: see contextOf in app.js. */
export function mount(root, context) {
  replace(root, h("h1", {}, "Dead letters"));
  return () => {};
}
