// What a JSON Schema of the server's document asks for, as far as a form needs to know it; and values to begin with.
// Pure: no page, no network.

const MAX_DEPTH = 8; // objects and arrays within each other that a form is made of; what is deeper is JSON text

/** A number as it was written: 1.10 is not 1.1 to who counts money, and neither is a float. */
export class Digits {
  constructor(text) {
    this.text = text;
  }
}

/** Parses JSON and keeps the digits of its numbers, in browsers that tell them. */
export function parseJson(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" ? new Digits(context?.source ?? String(value)) : value,
  );
}

/** JSON text of a value that may hold Digits; `indent`: spaces before it, where it is for people. */
export function jsonText(value, indent = "") {
  if (value instanceof Digits) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const deeper = `${indent}  `;
  const parts = Array.isArray(value)
    ? value.map((each) => jsonText(each, deeper))
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${jsonText(each, deeper)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return parts.length ? `${open}\n${deeper}${parts.join(`,\n${deeper}`)}\n${indent}${close}` : open + close;
}

/** Text that is JSON, laid out for people, digit by digit; any other text as it is. */
export function prettyJson(text) {
  try {
    return jsonText(parseJson(text));
  } catch {
    return text;
  }
}

/** What can be sent, of a document: by workload, the schema of one entry, and an example of one. */
export function entriesOf(document) {
  const found = new Map();
  for (const [path, operations] of Object.entries(document.paths ?? {})) {
    const content = operations.post?.requestBody?.content?.["application/json"];
    const [one] = content?.schema?.anyOf ?? [];
    if (one) found.set(path.slice(1), { schema: one, example: content.examples?.one?.value });
  }
  return found;
}

/** What one value is: {kind, ...}. The kinds: object (fields), list (item, least, most), variants (each a shape with a
 *  title), choice (values), fixed (value), boolean, number, text, json. `nullable`: it may be null. */
export function shapeOf(schema, document, depth = 0) {
  const whole = resolved(schema, document);
  const options = (whole.anyOf ?? whole.oneOf)?.map((each) => resolved(each, document));
  if (options) {
    const others = options.filter((each) => each.type !== "null");
    const nullable = others.length < options.length;
    if (others.length === 1) return { ...shapeOf({ ...others[0], ...besides(whole) }, document, depth), nullable };
    if (others.every(isTagged))
      return {
        kind: "variants",
        variants: others.map((each) => shapeOf(each, document, depth)),
        nullable,
        ...told(whole),
      };
    return { kind: "json", nullable, ...told(whole) };
  }
  const types = [whole.type ?? []].flat();
  const plain = types.filter((each) => each !== "null");
  return { ...kindOf(whole, plain, document, depth), nullable: plain.length < types.length, ...told(whole) };
}

function kindOf(schema, types, document, depth) {
  if ("const" in schema) return { kind: "fixed", value: schema.const };
  if (schema.enum?.length === 1) return { kind: "fixed", value: schema.enum[0] };
  if (schema.enum) return { kind: "choice", values: schema.enum };
  const only = types.length === 1 ? types[0] : "";
  if (only === "object" && schema.properties && depth < MAX_DEPTH) {
    const required = new Set(schema.required);
    const fields = Object.entries(schema.properties).map(([name, each]) =>
      lazily({ name, required: required.has(name) }, "shape", () => shapeOf(each, document, depth + 1)),
    );
    return { kind: "object", fields };
  }
  if (only === "array" && schema.items && depth < MAX_DEPTH) {
    const list = { kind: "list", least: schema.minItems ?? 0, most: schema.maxItems ?? Infinity };
    return lazily(list, "item", () => shapeOf(schema.items, document, depth + 1));
  }
  if (only === "boolean") return { kind: "boolean" };
  if (types.length && types.every((each) => ["number", "integer"].includes(each)))
    return { kind: "number", exact: only === "integer" };
  if (types.includes("number") && types.every((each) => ["number", "integer", "string"].includes(each)))
    return { kind: "number" };
  return { kind: only === "string" ? "text" : "json" };
}

/** With a member that is made when it is first asked for: a schema may hold itself, and so be endless. */
function lazily(object, name, make) {
  let made;
  return Object.defineProperty(object, name, { enumerable: true, get: () => (made ??= make()) });
}

/** What a person is told of it. */
function told(schema) {
  const { title, description, format, minLength, maxLength, minimum, maximum, pattern } = schema;
  return { title, description, format, minLength, maxLength, minimum, maximum, pattern, initial: schema.default };
}

function besides({ anyOf, oneOf, ...others }) {
  return others;
}

/** One of several objects that a member tells apart, by a fixed value. */
function isTagged(schema) {
  return (
    schema.type === "object" &&
    Object.values(schema.properties ?? {}).some((each) => each.enum?.length === 1 || "const" in each)
  );
}

function resolved(schema, document) {
  let found = schema;
  for (let step = 0; step < MAX_DEPTH && found?.$ref?.startsWith("#/"); step += 1) {
    const { $ref, ...others } = found;
    const target = $ref
      .slice(2)
      .split("/")
      .reduce((part, name) => part?.[name.replace(/~1/g, "/").replace(/~0/g, "~")], document);
    found = { ...target, ...others };
  }
  return found?.allOf?.length === 1
    ? { ...resolved(found.allOf[0], document), ...found, allOf: undefined }
    : (found ?? {});
}

/** Which of the variants a value is, by its fixed members; the first one if it is none. */
export function variantOf(shape, value) {
  const fits = (variant) =>
    (variant.fields ?? []).every(({ name, shape: each }) => each.kind !== "fixed" || value?.[name] === each.value);
  return Math.max(0, shape.variants.findIndex(fits));
}

/** A value to begin with, where there is no example: only what has to be there. */
export function sample(shape) {
  if (shape.initial !== undefined) return shape.initial;
  switch (shape.kind) {
    case "object":
      return Object.fromEntries(
        shape.fields.filter((each) => each.required).map((each) => [each.name, sample(each.shape)]),
      );
    case "list":
      return Array.from({ length: Math.min(Math.max(1, shape.least), 3) }, () => sample(shape.item));
    case "variants":
      return sample(shape.variants[0]);
    case "fixed":
      return shape.value;
    case "choice":
      return shape.values[0];
    case "boolean":
      return false;
    case "number":
      return Math.max(1, shape.minimum ?? 1);
    case "text":
      return sampleText(shape);
    default:
      return shape.nullable ? null : {};
  }
}

const FORMATS = {
  "date-time": () => new Date().toISOString(),
  date: () => new Date().toISOString().slice(0, 10),
  email: () => "ana@example.com",
  uri: () => "https://example.com/",
  uuid: () => "3f1c1f0e-8f0b-4a52-9c1e-5d6f7a8b9c0d",
  decimal: () => "1.00",
};
const WORDS = ["text", "1", "1.00", "AB", "ana@example.com", "a-1", "2026-01-01", "https://example.com/"];
const RUNS = ["1", "A", "a"].flatMap((each) => Array.from({ length: 40 }, (_, index) => each.repeat(index + 1)));
const TRIED = [...WORDS, ...RUNS]; // against a pattern: one may match

function sampleText({ format, pattern, minLength = 0 }) {
  if (FORMATS[format]) return FORMATS[format]();
  const fits = (text) => text.length >= minLength && (!pattern || matches(pattern, text));
  return TRIED.find(fits) ?? "x".repeat(Math.min(minLength, 200));
}

function matches(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return false;
  }
}
