// Finding messages, and the story of one.

import { h, replace } from "./dom.js";

/** `context`: see contextOf in app.js. */
export function mount(root, context) {
  replace(root, h("h1", {}, "Messages"));
  return () => {};
}
