// Elements, made without markup: a text is always a text, whatever a client or an error wrote into it. No state.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `attributes`: by their names; true stands alone, false, null and undefined leave it out; `on` has
 *  listeners by their events. Children are nodes, texts, numbers, or arrays of them; null and false are left out. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element, likewise. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** These children instead of those that were there. */
export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return parent;
}

/** Another text, where it is another one: what has not changed is not touched, and keeps its selection. */
export function setText(node, text) {
  const wanted = text == null ? "" : String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Another value of an attribute, where it is another one; null takes it away. */
export function setAttribute(node, name, value) {
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : String(value));
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "href" && !/^(#|https?:|[-a-z0-9/?=&%._]*$)/i.test(value)) {
      throw new Error(`no link: ${value}`); // javascript: and its like
    } else {
      setAttribute(node, name, value);
    }
  }
  replace(node, ...children);
  return node;
}
