// Asking the server. Every answer that is not what was asked for is a Trouble, with the words of its problem details;
// `dashboard/shapes.py` has the routes. Nothing is drawn here.

import { heard } from "./clock.js";

const WAIT_MS = 15_000; // for an answer; a look at the server's side is cut short sooner

/** What went wrong. `status` 0: there was no answer at all. `problem`: RFC 9457's members, where there are any. */
export class Trouble extends Error {
  constructor(status, message, problem = {}, retryAfterS = null) {
    super(message);
    this.name = "Trouble";
    this.status = status;
    this.problem = problem;
    this.retryAfterS = retryAfterS;
  }
}

/** GET of one of the page's own routes: "live", "messages/ID". `parameters` that are null or "" are left out. `read`: what
 *  makes a value of the JSON, where its numbers have to keep all of their digits. */
export function get(route, parameters = {}, { signal, read } = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value != null && value !== "");
  const query = given.length ? `?${new URLSearchParams(given)}` : "";
  return ask(`-/${route}${query}`, { method: "GET" }, signal, read);
}

/** POST of JSON to one of the page's own routes: "dead/redrive". */
export function post(route, value = {}, { signal } = {}) {
  return ask(`-/${route}`, json("POST", value), signal);
}

/** Any request to this server's API: `call("POST", "orders", text, {"idempotency-key": "…"})`. `json` is sent as it is, and
 *  the answer's is there as text, too: JavaScript's numbers would not keep all digits. Resolves whatever the status is. */
export async function call(method, path, json, headers = {}, { signal } = {}) {
  const typed = json === undefined ? {} : { "content-type": "application/json" };
  const response = await reach(path, { method, body: json, headers: { ...typed, ...headers } }, signal);
  const text = await response.text().catch(() => "");
  return { status: response.status, headers: response.headers, body: parsed(text), text };
}

function json(method, value) {
  return { method, body: JSON.stringify(value), headers: { "content-type": "application/json" } };
}

async function ask(path, options, signal, read) {
  // The header says that this page asks: no form and no page of another origin can send it.
  const headers = { accept: "application/json", ...options.headers, "x-decoupled": "page" };
  const response = await reach(path, { ...options, headers, credentials: "same-origin" }, signal);
  heard(response.headers.get("date"));
  const body = parsed(await response.text().catch(() => ""), response.ok ? read : undefined);
  if (response.ok && body !== undefined) return body;
  const problem = body && typeof body === "object" ? body : {};
  const words = problem.detail || problem.title || `the server answered with ${response.status}`;
  throw new Trouble(response.status, words, problem, Number(response.headers.get("retry-after")) || null);
}

async function reach(path, options, signal) {
  const late = AbortSignal.timeout(WAIT_MS);
  try {
    return await fetch(path, { cache: "no-store", ...options, signal: signal ? AbortSignal.any([signal, late]) : late });
  } catch (error) {
    if (signal?.aborted) throw error; // whoever asked does not want it any more
    throw new Trouble(0, late.aborted ? "the server takes too long to answer" : "the server does not answer");
  }
}

function parsed(text, read = JSON.parse) {
  try {
    return read(text);
  } catch {
    return undefined;
  }
}
