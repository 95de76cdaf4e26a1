// The panels beside the map: one canvas each, drawn from arrays that came with the points, so that they follow the step
// within the frame, also while playing. Every number on them is of the snapshot on the left, as on the map.
//
// A panel is drawn when what it shows has changed: curves with the time, for their cursor, everything else with the step,
// maps of an image also with the pointer. Words are set when all are drawn: a canvas asks for its font, and for that the
// browser works out the style of the whole page anew if a word on it has just changed.
//
// A press makes a panel large, the next one asks the page for the one that explains it: `send("page", {panel, at})`.

import { angles, drift, lines, matrix, own } from "./charts.js";
import { cams } from "./cams.js";
import { element, number, percent } from "./dom.js";
import { takers } from "./taking.js";
import { byTask } from "./touch.js";

const inTime = (t) => t, inSteps = (_, step) => step;

export class Panels {
  constructor(player, grown) {
    this.player = player;
    this.grown = grown;
    this.chosen = 0; // of the method's own quantities
    const { runs } = player, some = (name) => runs.some((run) => run.panels[name] && run.panels[name].length !== 0);
    const kinds = [
      ...[0, 1, 2, 3].map((at) => ({ name: `nc${at + 1}`, paint: lines(at), figure: "collapse", follows: runs.some((run) => run.panels.collapse[at].lines.length) ? inTime : inSteps })),
      ...(some("angles") ? [{ name: "angles", title: "Angles of class means", short: "Angles", paint: angles, figure: "angles" }] : []),
      ...(some("drift") ? [{ name: "drift", title: "Drift of class means", short: "Drift", paint: drift, figure: "drift", follows: inTime }] : []),
      { name: "matrix", title: "Accuracy by task", short: "Accuracy", paint: (scene) => (scene.player.touch?.active ? byTask : matrix)(scene), figure: "accuracy_matrix" },
      ...(some("own") ? [{ name: "own", title: "", paint: own, follows: (t, step) => (this.quantity().kind === "line" ? t : step) }] : []),
      ...(some("cams") || player.data.asks ? [{ name: "cams", title: "Grad-CAM", paint: cams, figure: "cams", follows: (_, step) => `${step} ${player.hover?.run} ${player.hover?.index}` }] : []),
    ];
    const halves = kinds.filter((kind) => kind.name !== "cams"); // two stand in a row
    this.panels = kinds.map((kind) => this.panel(kind));
    if (halves.length % 2) this.panels[halves.length - 1].node.classList.add("wide"); // and one that is left has its row alone
    this.canvases = this.panels.map((panel) => panel.canvas);
    this.node = element("section", { class: "panels", "data-runs": runs.length, "data-rows": Math.ceil(halves.length / 2) + kinds.length - halves.length, "aria-label": "Measures at this step" }, ...this.panels.map((panel) => panel.node));
    this.show();
  }

  panel(kind) {
    const title = kind.title ?? this.player.runs[0].panels.collapse[Number(kind.name[2]) - 1].title;
    const panel = { follows: inSteps, ...kind, title, canvas: element("canvas", { "aria-hidden": "true" }), value: element("output"), heading: element("b", { "data-short": kind.short }, title),
      hint: element("span"), kept: new Map() };
    panel.face = element("button", { type: "button", class: "face", onclick: () => this.press(panel) },
      element("span", { class: "caption" }, panel.heading, panel.hint, panel.value), panel.canvas);
    panel.node = element("div", { class: `panel panel-${kind.name}`, "data-panel": kind.name }, panel.face, takers(this.player, panel));
    if (kind.name === "own" && this.quantities().length > 1) {
      panel.node.append(element("button", { type: "button", class: "more", title: "Another quantity of this method", "aria-label":
        "Another quantity of this method", onclick: () => this.other(panel) }, "⇄"));
    }
    return panel;
  }

  quantities() {
    const titles = this.player.runs.flatMap((run) => run.panels.own.map((one) => one.title));
    return [...new Set(titles)];
  }

  title() {
    return this.quantities()[this.chosen % this.quantities().length];
  }

  // The one that is shown, of the first run that has it.
  quantity() {
    const title = this.title();
    return this.player.runs.flatMap((run) => run.panels.own).find((one) => one.title === title);
  }

  other(panel) {
    this.chosen = (this.chosen + 1) % this.quantities().length;
    panel.kept.clear();
    this.player.draw();
  }

  press(panel) {
    if (this.grown === panel.name) {
      this.asked = (this.asked ?? 0) + 1;
      return this.player.send("page", { figure: panel.name === "own" ? this.quantity().figure : panel.figure, at: `${Date.now()}-${this.asked}` });
    }
    this.grow(panel.name);
  }

  grow(name) {
    this.grown = name;
    this.show();
    this.player.resize();
  }

  show() {
    this.node.dataset.grown = this.grown ?? "";
    for (const { name, node, face, title } of this.panels) {
      const large = name === this.grown;
      node.hidden = Boolean(this.grown) && !large;
      const tip = this.player.runs[0].panels.tips[name];
      face.title = `${tip ? `${tip}\n\n` : title ? `${title}: ` : ""}${large ? "Press again for the page that explains it, Esc for all panels" : "Press to enlarge"}`;
    }
  }

  // Something else than time, step and pointer has changed: all are drawn at the next chance.
  renew() {
    for (const panel of this.panels) panel.shows = null;
  }

  // `t` may lie between two steps: only the cursor does.
  draw(t, step) {
    const { player } = this, ratio = window.devicePixelRatio || 1, drawn = [];
    for (const panel of this.panels) {
      const shows = panel.follows(t, step);
      if (panel.node.hidden || panel.shows === shows) continue;
      panel.shows = shows;
      const [pen, width, height] = player.surface(panel.canvas);
      if (width < 8 || height < 8) continue;
      const large = panel.name === this.grown;
      const keep = (name, key, paint, size = [width, height, ratio]) => this.keep(panel, name, [key, ...size, player.theme.page, player.theme.scale].join("|"), size, paint);
      drawn.push([panel, panel.paint({ pen, width, height, large, t, step, player, runs: player.runs, theme: player.theme, chosen: this.chosen, keep })]);
    }
    for (const [panel, told] of drawn) this.say(panel, told);
  }

  say(panel, { value, hint = "", title }) {
    const text = `${title || panel.title} ${hint}: ${value}`;
    if (panel.said === text) return;
    panel.said = text;
    panel.value.textContent = value;
    panel.hint.textContent = hint;
    if (title) this.entitle(panel.heading, title);
    panel.face.setAttribute("aria-label", text);
  }

  // Where there is little room, `noise: weights` is `weights`, and `align: after against before` is `align`.
  entitle(heading, title) {
    const parts = title.split(": "), many = parts.at(-1).includes(" ");
    heading.textContent = title;
    delete heading.dataset[many ? "last" : "short"];
    heading.dataset[many ? "short" : "last"] = many ? parts[0] : parts.at(-1);
  }

  // A picture that stays the same for a key is painted once and laid on the canvas from then on. Its size is in CSS pixels,
  // with the pixels of the screen to one of them.
  keep(panel, name, key, [width, height, ratio], paint) {
    let kept = panel.kept.get(name);
    if (kept?.key !== key) {
      const canvas = kept?.canvas ?? document.createElement("canvas");
      Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) }); // also wipes it
      const pen = canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      paint(pen);
      panel.kept.set(name, (kept = { key, canvas }));
    }
    return kept.canvas;
  }
}

// The numbers of a step as a row of facts, or, of two runs, a row for each and one for their difference.
export function numbers(player, step) {
  const facts = (run) => {
    const at = (values) => (values ? values[step] : NaN), { accuracy, collapse, drift: moved } = run.panels;
    const nc = collapse.map((one) => at(one.lines.find((line) => line.side === "train")?.values));
    const kept = moved ? [...moved.values.subarray(step * moved.tasks, (step + 1) * moved.tasks)].filter(Number.isFinite) : [];
    return [run.accuracy?.[step] ?? NaN, at(accuracy.old), at(accuracy.new), ...nc, kept.length ? kept.reduce((a, b) => a + b, 0) / kept.length : NaN];
  };
  const heads = ["all seen", "earlier", "this task", "NC1", "NC2", "NC3", "NC4", "drift"];
  const shares = [0, 1, 2, 6];
  const write = (values) => values.map((value, at) => (shares.includes(at) ? percent(value) : number(value)));
  const rows = player.runs.map((run, at) => [run.title, write(facts(run)), at]);
  if (player.runs.length > 1) {
    const [a, b] = player.runs.map(facts);
    const sign = (text) => (/^[\d]/.test(text) ? `+${text}` : text);
    const change = a.map((value, at) => (shares.includes(at) && Number.isFinite(b[at] - value) ? `${number(100 * (b[at] - value))} pts` : number(b[at] - value)));
    rows.push(["second − first", change.map(sign), 2]);
  }
  return { heads, rows };
}
