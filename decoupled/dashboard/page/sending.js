// Sending an entry as any client does, and following what becomes of it, before one's eyes.

import { call } from "./api.js";
import { h, replace, setText } from "./dom.js";
import { clause, duration, plural } from "./format.js";
import { jsonText, parseJson } from "./schema.js";

const WAIT_S = 10; // that the server may take to say what it came to, each time it is asked
const MOST_LOOKS = 60; // at one entry; after that its story says more
const PAUSE_MS = 1_000; // between two looks at one that waits
const PRINTABLE = /^[ -~]*$/;
const UNPRINTABLE = "A key is of letters, digits and signs of ASCII: a header takes no others.";
const IN_WORDS = {
  queued: "Queued: it waits, or is being processed now.",
  processed: "Processed: all of its effects are stored, once.",
  rejected: "Rejected: a rule said no, and nothing was applied.",
  dead: "Dead: it failed too often, and is kept until a person decides.",
};

/** Send JSON text. Resolves to {id, status_url, took_s}, or to {status, detail, errors} if it was refused. */
export async function send(workload, text, { key, proof }, signal) {
  if (!PRINTABLE.test(key + proof)) return { status: "Not sent", detail: UNPRINTABLE, errors: [] };
  const headers = { ...(key && { "idempotency-key": quoted(key) }), ...authorization(proof) };
  const began = performance.now();
  const { status, body } = await call("POST", workload, text, headers, { signal });
  const took_s = (performance.now() - began) / 1000;
  if (status === 202 && body?.id) return { ...body, took_s };
  return { status, detail: body?.detail ?? "the answer is no problem details", errors: body?.errors ?? [] };
}

function quoted(key) {
  return /^".*"$/.test(key) ? key : `"${key.replace(/["\\]/g, "\\$&")}"`;
}

function authorization(proof) {
  return proof ? { authorization: `Bearer ${proof}` } : {};
}

/** What has become of an accepted entry, as an item of a list that goes on changing until it has ended. */
export function follow(workload, { id, status_url, took_s }, proof, signal) {
  const badge = h("span", { class: "badge is-queued" }, "queued");
  const words = h("p", { role: "status" }, IN_WORDS.queued);
  const steps = h(
    "ol",
    { class: "steps" },
    h("li", { "data-done": "" }, `202 in ${duration(took_s)}`),
    h("li", { class: "now" }, "queued"),
  );
  const more = h("div", {});
  const story = h("a", { href: `#/messages/${encodeURIComponent(id)}` }, "Its story");
  const node = h(
    "li",
    { class: "outcome" },
    h("p", { class: "outcome-head" }, badge, h("code", {}, id), story),
    steps,
    words,
    more,
  );
  watch(status_url, proof, signal, (record, seconds) => {
    setText(badge, record.status);
    badge.className = `badge is-${record.status}`;
    setText(words, IN_WORDS[record.status] ?? record.status);
    if (record.status === "queued") {
      if (record.attempts) setText(words, `It failed ${plural(Number(record.attempts.text), "time")} so far, and will be tried again.`);
      return;
    }
    replace(
      steps,
      ...["accepted", "queued", record.status].map((each) => h("li", { "data-done": "" }, each)),
      h("li", {}, `after ${duration(seconds)}`),
    );
    const said = record.result ?? record.reason;
    replace(
      more,
      said !== undefined &&
        h(
          "pre",
          { class: "json", tabindex: "0", "aria-label": "Result" },
          typeof said === "string" ? said : jsonText(said),
        ),
    );
  }).catch((error) => {
    if (!signal.aborted)
      setText(words, `It is accepted; what became of it cannot be seen from here: ${clause(error.message)}.`);
  });
  return node;
}

/** Looks at a record until it has ended, so many times at most, and tells each time. That nobody answers may pass. */
async function watch(path, proof, signal, tell) {
  const began = performance.now();
  for (let look = 0; look < MOST_LOOKS; look += 1) {
    const { status, body, text } = await record(path, proof, signal);
    if (status === 200) {
      tell(parseJson(text), (performance.now() - began) / 1000);
      if (body.status !== "queued") return;
    } else if (status && status < 500) throw new Error(body?.detail ?? `the server answered with ${status}`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

async function record(path, proof, signal) {
  const headers = { prefer: `wait=${WAIT_S}`, ...authorization(proof) };
  try {
    return await call("GET", path.replace(/^\//, ""), undefined, headers, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    return { status: error.status };
  }
}
