// The parts of a form that have one value each: a text, a number, a choice, JSON. What a part is, form.js says.

import { h } from "./dom.js";
import { Digits, jsonText } from "./schema.js";

const LONG_CHARS = 400; // that a text may have, to be given several lines
const JSON_NUMBER = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/;

let lastId = 0;

export function inputPart(shape, name, required) {
  const long = shape.kind === "text" && (shape.maxLength ?? 0) > LONG_CHARS && shape.maxLength !== 2000;
  const input = long
    ? h("textarea", { rows: "3", spellcheck: "false" })
    : h("input", { type: "text", inputmode: inputMode(shape), autocomplete: "off", spellcheck: "false" });
  const field = labelled(input, shape, name, required);
  return {
    ...field,
    set(value) {
      input.value = value === undefined || value === null ? "" : value instanceof Digits ? value.text : String(value);
    },
    text() {
      const said = input.value;
      if (said === "" && !required) return undefined;
      if (said === "" && shape.nullable) return "null";
      return shape.kind === "number" && JSON_NUMBER.test(said.trim()) ? said.trim() : JSON.stringify(said);
    },
  };
}

function inputMode({ kind, exact, format }) {
  if (kind === "number") return exact ? "numeric" : "decimal";
  return { email: "email", uri: "url" }[format] ?? "text";
}

export function choicePart(shape, name, required) {
  const mayMiss = !required || shape.nullable;
  const select = h(
    "select",
    {},
    mayMiss && h("option", { value: "" }, required ? "null" : "(left out)"),
    shape.values.map((value, index) => h("option", { value: String(index) }, String(value))),
  );
  const same = (value) => shape.values.findIndex((each) => jsonText(each) === jsonText(value ?? null));
  return {
    ...labelled(select, shape, name, required),
    set(value) {
      const index = same(value);
      select.value = index >= 0 ? String(index) : mayMiss ? "" : "0";
    },
    text() {
      if (select.value === "") return required ? "null" : undefined;
      return jsonText(shape.values[Number(select.value)]);
    },
  };
}

export function fixedPart(shape) {
  return {
    node: null,
    set() {},
    text: () => JSON.stringify(shape.value),
    fault: () => false,
    clear() {},
  };
}

export function jsonPart(shape, name, required) {
  const input = h("textarea", { rows: "3", spellcheck: "false" });
  return {
    ...labelled(
      input,
      { ...shape, description: [shape.description, "JSON."].filter(Boolean).join(" ") },
      name,
      required,
    ),
    set(value) {
      input.value = value === undefined ? "" : jsonText(value);
    },
    text: () => (input.value.trim() === "" ? (required ? "null" : undefined) : input.value),
  };
}

/** A label, a hint and a place for a fault around an input. */
function labelled(input, shape, name, required) {
  const id = newId();
  const said = faultLine(input, `${id}-hint`);
  const hint = hintOf(shape, required);
  input.id = id;
  if (required) input.setAttribute("aria-required", "true");
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  const label = h(
    "label",
    { for: id },
    name,
    required && h("span", { class: "required", "aria-hidden": "true" }, " *"),
  );
  const node = h(
    "div",
    { class: "field" },
    label,
    input,
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
    said.node,
  );
  return { node, fault: (_, detail) => said.show(detail), clear: () => said.clear() };
}

function hintOf({ description, format, kind, minimum, maximum, maxLength, nullable }, required) {
  const range = minimum !== undefined && maximum !== undefined ? `${minimum} to ${maximum}` : "";
  const length =
    kind === "text" && maxLength !== undefined && maxLength < LONG_CHARS ? `up to ${maxLength} characters` : "";
  return [description, format, range, length, required && nullable && "may be null"].filter(Boolean).join("; ");
}

export function faultLine(input, hintId) {
  const id = newId();
  const node = h("p", { class: "wrong field-wide", id, hidden: true });
  return {
    node,
    show(detail) {
      node.textContent = node.textContent ? `${node.textContent}; ${detail}` : detail;
      node.hidden = false;
      input?.setAttribute("aria-invalid", "true");
      input?.setAttribute("aria-describedby", input.hasAttribute("aria-describedby") ? `${id} ${hintId}` : id);
      return true;
    },
    clear() {
      node.textContent = "";
      node.hidden = true;
      if (input?.getAttribute("aria-invalid") !== "true") return;
      input.removeAttribute("aria-invalid");
      const described = input
        .getAttribute("aria-describedby")
        .split(" ")
        .filter((each) => each !== id && document.getElementById(each));
      if (described.length) input.setAttribute("aria-describedby", described.join(" "));
      else input.removeAttribute("aria-describedby");
    },
  };
}

export function newId() {
  lastId += 1;
  return `field-${lastId}`;
}
