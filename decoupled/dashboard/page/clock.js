// What time it is by the server's clock. All times that the page is told are by that one, and a reader's own may be
// minutes off: what happened a moment ago is to be a moment ago on both.

const LEAST_MS = 3_000; // of a difference that counts: the header has whole seconds, and took a while to come

let aheadMs = 0;

/** What the server's answers say in their header `date`. */
export function heard(date) {
  const time = Date.parse(date ?? "");
  if (Number.isNaN(time)) return;
  const ahead = time + 500 - Date.now();
  aheadMs = Math.abs(ahead) < LEAST_MS ? 0 : ahead;
}

/** Milliseconds since the epoch. */
export function serverNow() {
  return Date.now() + aheadMs;
}
