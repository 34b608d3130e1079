// A client of orders and readings, typed by what openapi-typescript makes of the document: one that does not fit it does
// not compile. Prints what it saw.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

const [url, key] = process.argv.slice(2);
const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
const client = createClient<paths>({ baseUrl: url, headers });

type Order = components["schemas"]["Order"];
const order: Order = {
  customer: { email: "ana@example.com", name: "Ana Ruiz" },
  currency: "EUR",
  lines: [{ sku: "KB-104", quantity: 2, unit_price: "39.90" }],
  shipping_address: { line1: "1 Main Street", city: "Dublin", postal_code: "D01 F5P2", country: "IE" },
};

async function send(body: Order | Order[]) {
  const { data, error } = await client.POST("/orders", {
    params: { header: { "Idempotency-Key": '"cart-8417"' } },
    body,
  });
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

async function ended(id: string) {
  for (let tries = 0; tries < 500; tries++) {
    const { data } = await client.GET("/orders/{id}", { params: { path: { id } } });
    if (data !== undefined && data.status !== "queued") return data;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("it is queued for too long");
}

const first = await send(order);
const again = await send(order);
if (!("id" in first && "id" in again)) throw new Error("a single entry has an id");
const record = await ended(first.id);
if (record.status !== "processed") throw new Error(record.status); // from here on it has a result

const batch = await send([order, { ...order, currency: "XXX" as "EUR" }]);
if (!("rejected" in batch)) throw new Error("a batch tells of each entry");

const refused = await client.POST("/orders", { body: { ...order, lines: [] } });
const problem = refused.error !== undefined && "errors" in refused.error ? refused.error : undefined;

const hourly = await client.GET("/readings/hourly/{key}", { params: { path: { key: "none.2026-11-23T10" } } });

console.log(
  JSON.stringify({
    same: first.id === again.id,
    total: record.result["total"],
    rejected: batch.rejected.map((entry) => [entry.index, entry.status]),
    refused: [refused.response.status, problem?.errors?.map((fault) => fault.pointer)],
    missing: hourly.response.status,
  }),
);
