// Signing in: the account's corner in the header, and the view that stands in for every other one while nobody may see
// anything before it.

import { h, replace } from "./dom.js";

/** The view, while signing in is asked for: `context.live.state.trouble` says why. */
export function mount(root, context) {
  replace(root, h("h1", {}, "Sign in"), h("p", {}, context.live.state.why));
  return () => {};
}

/** The corner of the header. Returns `{ open }`, which opens its dialog. */
export function mountAccount(root, { live }) {
  live.subscribe(({ now }) => replace(root, now?.access.name && h("span", {}, now.access.name)));
  return { open() {} };
}
