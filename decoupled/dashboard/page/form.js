// A form made of a shape (schema.js): one part for each value. A part is {node, set(value), text(), fault(path,
// detail)}: `text` is the JSON text of what the form says, undefined where it is left out; `fault` shows what the
// server says is wrong with the value at that path within the part, and says whether it has a place for it. The
// server alone judges.

import { h } from "./dom.js";
import { choicePart, faultLine, fixedPart, inputPart, jsonPart, newId } from "./fields.js";
import { parseJson, sample, variantOf } from "./schema.js";

/** The part of a value. `name`: what it is called; `required`: it cannot be left out. */
export function part(shape, name, required = true) {
  const made = MAKERS[shape.kind](shape, name, required);
  const container = shape.kind === "object" || shape.kind === "list" || shape.kind === "variants";
  return container && (!required || shape.nullable) ? optional(shape, name, required, made) : made;
}

const MAKERS = {
  object: objectPart,
  list: listPart,
  variants: variantsPart,
  fixed: fixedPart,
  choice: choicePart,
  boolean: (shape, name, required) => choicePart({ ...shape, values: [true, false] }, name, required),
  number: inputPart,
  text: inputPart,
  json: jsonPart,
};

function objectPart(shape, name, required, bare = false) {
  const parts = new Map(shape.fields.map((each) => [each.name, part(each.shape, each.name, each.required)]));
  const said = faultLine();
  const fields = [...parts.values()].map((each) => each.node);
  return {
    node: bare ? h("div", { class: "fields" }, inside(shape, said, fields)) : group(name, inside(shape, said, fields)),
    set(value) {
      for (const [field, each] of parts) each.set(value?.[field]);
    },
    text() {
      const members = [...parts].map(([field, each]) => [field, each.text()]).filter(([, text]) => text !== undefined);
      return `{${members.map(([field, text]) => `${JSON.stringify(field)}:${text}`).join(",")}}`;
    },
    fault([field, ...rest], detail) {
      return parts.get(field)?.fault(rest, detail) || said.show(field === undefined ? detail : `${field}: ${detail}`);
    },
    clear() {
      said.clear();
      for (const each of parts.values()) each.clear();
    },
  };
}

function listPart(shape, name) {
  let parts = [];
  const rows = h("div", { class: "form-rows" });
  const said = faultLine();
  const more = h(
    "button",
    {
      type: "button",
      class: "slight",
      "aria-label": `Add one to ${name}`,
      on: { click: () => add(sample(shape.item), true) },
    },
    "Add one",
  );
  const node = group(name, inside(shape, said, [rows, more]));

  function add(value, focused = false) {
    const index = parts.length;
    const each = part(shape.item, `${name} ${index + 1}`);
    const remove = h(
      "button",
      { type: "button", class: "slight", "aria-label": `Remove ${name} ${index + 1}` },
      "Remove",
    );
    const row = h("div", { class: "form-row" }, each.node, remove);
    const one = { ...each, row };
    remove.addEventListener("click", () => {
      const values = parts.filter((other) => other !== one).map((other) => valueOf(other));
      set(values);
      (rows.querySelector("input, select, textarea") ?? more).focus();
    });
    parts.push(one);
    each.set(value);
    rows.append(row);
    if (focused) row.querySelector("input, select, textarea")?.focus();
    limit();
  }

  function limit() {
    more.disabled = parts.length >= shape.most;
  }

  function set(values) {
    parts = [];
    rows.replaceChildren();
    for (const value of Array.isArray(values) ? values : []) add(value);
    limit();
  }

  return {
    node,
    set,
    text: () => `[${parts.map((each) => each.text() ?? "null").join(",")}]`,
    fault([index, ...rest], detail) {
      return parts[index]?.fault(rest, detail) || said.show(detail);
    },
    clear() {
      said.clear();
      for (const each of parts) each.clear();
    },
  };
}

function variantsPart(shape, name) {
  let chosen = 0;
  let inner;
  const id = newId();
  const names = shape.variants.map((each, index) => fixedOf(each) ?? each.title ?? `Kind ${index + 1}`);
  const select = h(
    "select",
    { id },
    names.map((each, index) => h("option", { value: String(index) }, each)),
  );
  const place = h("div", { class: "field-wide" });
  const node = group(name, [h("div", { class: "field" }, h("label", { for: id }, "Kind"), select), place]);
  select.addEventListener("change", () => choose(Number(select.value), sample(shape.variants[select.value])));

  function choose(index, value) {
    chosen = index;
    select.value = String(index);
    inner = objectPart(shape.variants[chosen], name, true, true);
    place.replaceChildren(inner.node);
    inner.set(value);
  }

  choose(0, undefined);
  return {
    node,
    set: (value) => choose(variantOf(shape, value), value),
    text: () => inner.text(),
    fault: (path, detail) => inner.fault(path, detail),
    clear: () => inner.clear(),
  };
}

function fixedOf(shape) {
  const value = shape.fields?.find((each) => each.shape.kind === "fixed")?.shape.value;
  return value === undefined ? undefined : String(value);
}

/** What may be left out altogether: there once it is added. */
function optional(shape, name, required, inner) {
  let there = false;
  const add = h(
    "button",
    { type: "button", class: "slight", on: { click: () => show(true, sample({ ...shape, initial: undefined })) } },
    `Add ${name}`,
  );
  const remove = h(
    "button",
    { type: "button", class: "slight", on: { click: () => show(false) } },
    `Leave out ${name}`,
  );
  const node = h("div", { class: "form-optional" });

  function show(now, value) {
    const touched = node.contains(document.activeElement);
    there = now;
    node.replaceChildren(...(there ? [inner.node, remove] : [add]));
    if (there) inner.set(value);
    if (touched) (there ? (inner.node.querySelector("input, select, textarea") ?? remove) : add).focus();
  }

  show(false);
  return {
    ...inner,
    node,
    set: (value) => show(value !== undefined && value !== null, value),
    text: () => (there ? inner.text() : required ? "null" : undefined),
    fault: (path, detail) => there && inner.fault(path, detail),
  };
}

function group(name, parts) {
  return h("fieldset", {}, h("legend", {}, name), h("div", { class: "fields" }, parts));
}

function inside({ description }, said, parts) {
  return [description && h("p", { class: "hint field-wide" }, description), said.node, parts];
}

function valueOf(each) {
  try {
    return parseJson(each.text());
  } catch {
    return undefined; // text that is not JSON yet
  }
}
