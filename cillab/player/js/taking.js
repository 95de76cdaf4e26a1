// Taking a panel or the map along: its numbers as a table (CSV), its picture (PNG). Both are made here, so they are of what
// is on screen, also in a page without a server. Numbers of a panel are those of all steps; those of the map are of one.

import { TARGETS } from "./cams.js";
import { NONE_U16, placed } from "./data.js";
import { element } from "./dom.js";
import { counted } from "./touch.js";

const HEAD = ["run", "step", "series", "x", "y", "value"];
const AGES = ["old with old", "old with new", "new with new"];

// Names come from data that anybody can write: none may be read as a formula by a spreadsheet.
function field(value) {
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
export const csv = (rows) => `${rows.map((row) => row.map(field).join(",")).join("\n")}\n`;

// Rows of a panel: one per number that it draws, [step, series, x, y, value]; no row where nothing was measured.
const TABLES = {
  angles: ({ angles: one }) => [...one.target.keys()].flatMap((s) => [
    ...AGES.flatMap((name, age) => (one.pairs[3 * s + age] ? Array.from({ length: one.bins }, (_, b) =>
      [s, name, one.low + (b + 0.5) * ((one.high - one.low) / one.bins), "", one.shares[(3 * s + age) * one.bins + b]]) : [])),
    [s, "-1/(K-1)", "", "", one.target[s]]]),
  drift: ({ drift: one }) => [...one.values].map((value, at) => [Math.floor(at / one.tasks), `task ${(at % one.tasks) + 1}`, "", "", value]),
  matrix: ({ matrix: one }) => [...one.values].map((value, at) => [Math.floor(at / one.tasks), `on task ${(at % one.tasks) + 1}`, "", "", value]),
};

function rowsOf(player, name, run) {
  const { panels } = run;
  if (name === "matrix" && player.touch?.active) { // bars on the probe images, before and after the touch
    return run.steps.flatMap((_, s) => counted(run, s).tasks.flatMap(({ all, before, after }, task) => (all
      ? [[s, `as learned, task ${task + 1}`, "", "", before / all], [s, `${player.touch.title}, task ${task + 1}`, "", "", after / all]] : [])));
  }
  if (name.startsWith("nc")) {
    return panels.collapse[Number(name[2]) - 1].lines.flatMap((line) => [...line.values].map((value, s) => [s, `${line.label}, ${line.side}`, "", "", value]));
  }
  if (name === "own") {
    const one = panels.own.find((other) => other.title === player.panels.title());
    return (one?.steps ?? []).flatMap((step, s) => (step ? [...step.values].map((value, at) => {
      const columns = step.shape.length > 1 ? step.shape.at(-1) : step.values.length;
      return [s, one.title, at % columns, step.shape.length > 1 ? Math.floor(at / columns) : "", value];
    }) : []));
  }
  if (name === "cams") {
    const data = panels.cams, index = player.panels.looked?.index;
    if (!data?.maps || index == null) return [];
    const [rows, columns] = data.grid, size = rows * columns, images = run.cls.length;
    return run.steps.flatMap((_, s) => TARGETS.flatMap((target, t) => Array.from({ length: size }, (_, cell) => {
      const at = (s * TARGETS.length + t) * images + index;
      return [s, `${run.ids[index]}: ${target}`, cell % columns, Math.floor(cell / columns), (data.maps[at * size + cell] / 255) * data.scales[at]];
    })));
  }
  return panels[name] ? TABLES[name](panels) : [];
}

export function panelTable(player, name) {
  const rows = player.runs.flatMap((run) => rowsOf(player, name, run).filter((row) => Number.isFinite(row[4])).map(([s, ...rest]) => [run.title, run.steps[s].label, ...rest]));
  return [HEAD, ...rows];
}

// The points of the map at the step shown, in lengths of the features.
export function mapTable(player) {
  const rows = player.runs.flatMap((run) => {
    const at = player.between(run);
    if (!at) return [];
    const { xy, spot } = placed(run, { ...at, share: 0 }), n = run.cls.length;
    return run.ids.map((id, i) => {
      const [a] = spot(i), answer = run.shown?.[at.left * n + i] ?? NONE_U16, seen = run.task[i] <= run.steps[at.left].task;
      return [run.title, run.steps[at.left].label, id, run.names[run.cls[i]], run.task[i] + 1, xy[a] * run.unit, xy[a + 1] * run.unit, seen && answer !== NONE_U16 ? run.names[answer] : "", ...(player.data.select ? [player.selected.has(i) ? "yes" : ""] : [])];
    });
  });
  return [["run", "step", "image", "class", "task", "x", "y", "answer", ...(player.data.select ? ["selected"] : [])], ...rows];
}

// Canvases side by side under a line of words, on the ground of the page.
function composed(player, canvases, line) {
  const ratio = window.devicePixelRatio || 1, { theme } = player, pad = 12 * ratio, head = 30 * ratio;
  const out = element("canvas", { width: canvases.reduce((sum, one) => sum + one.width + pad, pad), height: head + Math.max(...canvases.map((one) => one.height)) + pad });
  const pen = out.getContext("2d");
  pen.fillStyle = theme.page; pen.fillRect(0, 0, out.width, out.height);
  pen.fillStyle = theme.ink; pen.font = `600 ${13 * ratio}px ${theme.font}`; pen.textBaseline = "middle"; pen.fillText(line, pad, head / 2 + 2 * ratio, out.width - 2 * pad);
  let x = pad;
  for (const one of canvases) { pen.drawImage(one, x, head); x += one.width + pad; }
  return out;
}

function save(blob, name) {
  const url = URL.createObjectURL(blob), link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A name that every file system takes.
const fileName = (...words) => words.join(" ").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 80) || "panel";

function offered(player, name, table, canvases, line) {
  const file = () => fileName(...player.runs.map((run) => run.title), name(), player.longest().steps[player.step].label);
  const button = (text, title, act) => element("button", { type: "button", class: "toggle", title, "aria-label": title, "data-take": text.toLowerCase(), onclick: act }, text);
  return [
    button("CSV", "The numbers that are drawn, as a table", () => save(new Blob([csv(table())], { type: "text/csv" }), `${file()}.csv`)),
    button("PNG", "The picture, as it is on screen", () => composed(player, canvases(), line()).toBlob((blob) => save(blob, `${file()}.png`), "image/png")),
  ];
}

// The two buttons of a panel, shown while it is large.
export function takers(player, panel) {
  const names = () => player.runs.map((run) => run.title).join("  |  ");
  const line = () => [names(), player.longest().steps[player.step].label, panel.heading.textContent, panel.hint.textContent, panel.value.textContent].filter(Boolean).join("   ");
  return element("div", { class: "take", role: "group", "aria-label": "Take along" },
    ...offered(player, () => panel.name, () => panelTable(player, panel.name), () => [panel.canvas], line));
}

// The same of the map.
export function mapTakers(player) {
  const shown = () => player.stages.map((stage) => (player.space?.on && stage.frame ? stage.frame.canvas : stage.canvas));
  const line = () => player.runs.map((run) => `${run.title}   ${run.steps[Math.min(player.step, run.steps.length - 1)].label}`).join("   |   ");
  return offered(player, () => "map", () => mapTable(player), shown, line);
}
