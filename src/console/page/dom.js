// The page's few tools for the document: making elements, changing only what has changed, keyed lists, long lists.

// Makes an element. Properties that begin with "on" are listeners; `class`, `data-…`, `aria-…` and `role` are attributes;
// everything else is a property. Children are elements, texts, or nothing.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key.includes("-") || key === "role" || key === "for" || key === "scope" || key === "list") {
      node.setAttribute(key, value === true ? "" : value);
    } else node[key] = value;
  }
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) node.append(child);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Sets a text only if it is another one: what does not change costs no layout, and a selection in it stays.
export function write(node, text) {
  const value = String(text ?? "");
  if (node.textContent !== value) node.textContent = value;
}

export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// A list of elements kept in step with a list of items: the element of a key stays the same element.
export class Keyed {
  // `make(item)` gives {node, update(item)}.
  constructor(parent, key, make) {
    Object.assign(this, { parent, key, make, kept: new Map() });
  }

  update(items) {
    const seen = new Set();
    let at = this.parent.firstChild;
    for (const item of items) {
      const key = this.key(item);
      seen.add(key);
      let row = this.kept.get(key);
      if (!row) this.kept.set(key, (row = this.make(item)));
      row.update(item);
      if (row.node === at) at = at.nextSibling;
      else this.parent.insertBefore(row.node, at);
    }
    for (const [key, row] of this.kept) {
      if (!seen.has(key)) {
        row.node.remove();
        row.gone?.();
        this.kept.delete(key);
      }
    }
  }
}

// A list of rows of one height, of which only those in sight are in the document: thousands stay fluid.
export class LongList {
  constructor(key, make, height, label) {
    this.height = height;
    this.items = [];
    this.rows = el("div", { class: "long-rows", role: "rowgroup" });
    this.space = el("div", { class: "long-space", role: "presentation" }, this.rows);
    this.node = el("div", { class: "long", role: "table", "aria-label": label, tabIndex: 0 }, this.space);
    this.keyed = new Keyed(this.rows, key, make);
    this.node.addEventListener("scroll", () => this.paint(), { passive: true });
    this.watch = new ResizeObserver(() => this.paint());
    this.watch.observe(this.node);
  }

  update(items) {
    this.items = items;
    this.node.setAttribute("aria-rowcount", items.length);
    const height = `${items.length * this.height}px`;
    if (this.space.style.height !== height) this.space.style.height = height;
    this.paint();
  }

  paint() {
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.height) - 4);
    const count = Math.ceil((this.node.clientHeight || 400) / this.height) + 8;
    this.rows.style.transform = `translateY(${first * this.height}px)`;
    this.keyed.update(this.items.slice(first, first + count));
  }

  gone() {
    this.watch.disconnect();
  }
}

// At most once a frame, and not at all while nobody looks.
export function everyFrame(paint) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      paint();
    });
  };
}
