// Pieces that every view of ours is made of: nodes, icons, numbers as text, bytes.

export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
export const ease = (x) => (x < 0.5 ? 4 * x * x * x : 1 - (-2 * x + 2) ** 3 / 2);
export const percent = (x) => (x == null || !Number.isFinite(x) ? "–" : `${(100 * x).toFixed(1)} %`);
// Three significant digits, as the pages write them.
export const number = (x) => {
  if (x == null || !Number.isFinite(x)) return "–";
  const text = x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5) ? x.toExponential(1) : String(Number(x.toPrecision(3)));
  return text.replace("-", "−");
};

// Megabytes at the start of a large run: the browser's own decoder where there is one, else a plain loop (a mapping
// function is called once a byte and takes ten times as long).
export function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < out.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

const ICONS = {
  first: "M6 5v14M19 5l-9 7 9 7z",
  back: "M16 5l-9 7 9 7z",
  play: "M7 4.5v15l12.5-7.5z",
  pause: "M8 5v14M16 5v14",
  next: "M8 5l9 7-9 7z",
  last: "M18 5v14M5 5l9 7-9 7z",
  look: "M5 3l14 8-6 2-3 6z",
  lasso: "M12 4c5 0 8.5 2.2 8.5 5.5S17 15 12 15 3.5 12.8 3.5 9.5 7 4 12 4zM8 14.5c-1.5 1-1.5 3 0 3.5s2 2 0.5 3",
  box: "M4 6h16v12H4z",
  loop: "M4 12a7 7 0 0 1 12-5l3 3m0-5v5h-5M20 12a7 7 0 0 1-12 5l-3-3m0 5v-5h5",
};

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children); // strings become text nodes: names are never parsed as HTML
  return node;
}

// Any opaque CSS colour as #rrggbb; what is none of them counts as white.
export function sixDigits(colour) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillStyle = colour;
  return /^#[0-9a-f]{6}$/i.test(context.fillStyle) ? context.fillStyle : "#ffffff";
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  if (["play", "back", "next"].includes(name)) path.setAttribute("class", "solid");
  svg.append(path);
  return svg;
}
