// The frame of a run in space: means, head rows and simplex corners of three or four classes, seen through the space that
// their means span at the last step. It lies over the maps, follows the step, and is turned like the toy.
//
// Origin is the average of all class means of the step. Three classes span the space together with it; four span it
// among themselves, and the origin is one more point. What does not lie in that space is left out, and its share is said.

import { ABSENT } from "./data.js";
import { clamp, element, number, percent } from "./dom.js";
import { Turn, paintInOrder } from "./space.js";

const MOST = 4, FEWEST = 3, LONGEST = 24; // classes; letters of a name
const inner = (a, b) => a.reduce((sum, v, at) => sum + v * b[at], 0);
const minus = (a, b) => a.map((v, at) => v - b[at]);
const average = (rows) => rows[0].map((_, at) => rows.reduce((sum, row) => sum + row[at], 0) / rows.length);

// Orthonormal directions of rows, the first along the first row (Gram and Schmidt, twice for the sake of rounding).
export function directions(rows, most) {
  const out = [];
  for (const row of rows) {
    let left = [...row];
    for (let again = 0; again < 2; again++) for (const axis of out) { const along = inner(left, axis); left = left.map((v, at) => v - along * axis[at]); }
    const length = Math.hypot(...left);
    if (out.length < most && length > 1e-6 * Math.hypot(...row)) out.push(left.map((v) => v / length));
  }
  return out;
}

export class FrameView {
  constructor(player, chosen) {
    this.player = player;
    this.turn = new Turn();
    const there = [...new Set(chosen ?? [])].filter((at) => at < player.runs[0].names.length).slice(0, MOST);
    this.on = there.length >= FEWEST;
    this.classes = this.on ? there : [0, 1, 2];
    this.known = new Map();
    this.possible = player.runs.some((run) => run.panels?.frame && run.names.length >= FEWEST);
    this.chooser = element("div", { class: "classes", role: "group", "aria-label": "Classes in the frame" });
    this.canvases = []; // made when first looked at
    this.show();
  }

  over(stage) {
    const canvas = element("canvas", { tabindex: 0, role: "img", class: "space", "aria-label": "The frame of the chosen classes in space. Shift and arrows turn it." });
    stage.frame = { canvas, say: element("div", { class: "said" }) };
    this.turn.follow(canvas, () => this.player.drawMap());
    canvas.addEventListener("keydown", (event) => {
      const way = event.shiftKey && { ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12] }[event.key];
      if (!way) return;
      event.preventDefault();
      event.stopPropagation();
      this.turn.by(...way);
      this.player.drawMap();
    });
    stage.pane.append(canvas, stage.frame.say, ...(stage.index ? [] : [this.chooser]));
    this.canvases.push(canvas);
    this.player.resizes?.observe(canvas);
  }

  // The lists to choose from; a fourth class may be absent.
  fill() {
    const { names } = this.player.runs[0], options = (at) => names.map((name, place) => element("option", { value: place, selected: place === this.classes[at] }, name));
    this.chooser.replaceChildren(...Array.from({ length: MOST }, (_, at) => {
      const none = at >= FEWEST ? [element("option", { value: "" }, "no fourth class")] : [];
      return element("label", { style: `--hue: ${this.player.colour(at)}` }, element("i", {}), element("select", { "aria-label": `Class ${at + 1}`, "data-class": at,
        onchange: (event) => this.choose(at, event.target.value) }, ...none, ...options(at)));
    }));
  }

  choose(at, value) {
    const next = [...this.classes];
    if (value === "") next.splice(at, 1); else next[at] = Number(value);
    const twice = next.findIndex((one, place) => place !== at && one === next[at]);
    if (value !== "" && twice >= 0) next[twice] = this.classes[at] ?? [...this.player.runs[0].names.keys()].find((one) => !next.includes(one));
    this.classes = next;
    this.show();
    this.tell();
  }

  flip() {
    if (!this.possible) return;
    this.on = !this.on;
    this.show();
    this.player.resize();
    this.tell();
  }

  tell() {
    this.player.send("frame", this.on ? this.classes.join(".") : null);
    this.player.drawMap();
  }

  show() {
    this.known.clear();
    if (this.on && this.possible && !this.canvases.length) for (const stage of this.player.stages) this.over(stage);
    for (const stage of this.player.stages) stage.pane.dataset.view = this.on && this.possible ? "frame" : "map";
    if (this.on && this.possible && this.player.theme) this.fill();
  }

  // Rows of the chosen classes of a run in the drawn space, by step; classes of another run are found by name.
  of(run) {
    if (this.known.has(run)) return this.known.get(run);
    const data = run.panels.frame, first = this.player.runs[0];
    const classes = this.classes.map((at) => (run === first ? at : run.names.indexOf(first.names[at])));
    const starts = data.counts.reduce((all, count) => [...all, all.at(-1) + count], [0]);
    const row = (from, step, at) => {
      if (!from || at < 0 || at >= data.counts[step]) return null;
      const begin = (starts[step] + at) * data.dims;
      return from[begin] === ABSENT ? null : Array.from(from.subarray(begin, begin + data.dims), (v) => v * data.unit);
    };
    const last = data.counts.length - 1, ends = classes.map((at) => row(data.means, last, at)).filter(Boolean);
    const whole = ends.length === classes.length, middle = whole && ends.length > 3 ? average(ends) : null;
    const axes = whole ? directions(middle ? ends.map((end) => minus(end, middle)) : ends, 3) : [];
    const seen = (vector) => vector && [0, 1, 2].map((at) => (axes[at] ? inner(middle ? minus(vector, middle) : vector, axes[at]) : 0));
    const steps = data.counts.map((_, step) => {
      const means = classes.map((at) => row(data.means, step, at)), there = means.filter(Boolean);
      const cosines = there.flatMap((a, i) => there.slice(i + 1).map((b) => inner(a, b) / (Math.hypot(...a) * Math.hypot(...b))));
      const held = there.map((vector) => [Math.hypot(...seen(vector).map((v, at) => v + (middle && axes[at] ? inner(middle, axes[at]) : 0))) ** 2, inner(vector, vector)]);
      return {
        means: means.map(seen), rows: classes.map((at) => seen(row(data.head, step, at))), corners: classes.map((at) => seen(row(data.corners, step, at))),
        cosines, share: held.reduce((sum, [a]) => sum + a, 0) / held.reduce((sum, [, b]) => sum + b, 0),
      };
    });
    const size = Math.max(1e-9, ...steps.flatMap((step) => [...step.means, ...step.corners].filter(Boolean).map((v) => Math.hypot(...v)))) * 1.12;
    const found = { steps, size, origin: middle ? seen(middle.map(() => 0)) : [0, 0, 0], whole };
    this.known.set(run, found);
    return found;
  }

  draw(stage) {
    if (!this.on || !stage.frame || !this.player.sizes.has(stage.frame.canvas)) return;
    const { player } = this, { run } = stage, [pen, width, height] = player.surface(stage.frame.canvas), { theme } = player;
    if (!run.panels.frame) return this.say(stage, "The vectors of this run do not fit into the page.");
    const found = this.of(run), at = player.between(run);
    if (!found.whole || !at) return this.say(stage, at ? "One of these classes is not in this run." : "No snapshot here.");
    const { left, right, share } = at, from = found.steps[left], to = found.steps[right], { size } = found;
    const glide = (kind, c) => { const a = from[kind][c], b = to[kind][c] ?? a; return a && a.map((v, k) => v + (b[k] - v) * share); };
    const place = (vector) => vector && this.turn.place(vector, width, height, size);
    const origin = place(found.origin), things = [], hue = (c) => player.colour(c);
    this.turn.rings(pen, theme.ink, size / 1.12, width, height, size);
    pen.lineCap = "round";
    this.classes.forEach((name, c) => {
      const mean = place(glide("means", c)), tip = place(glide("rows", c)), corner = place(glide("corners", c));
      if (corner) things.push([corner[2], () => this.mark(pen, corner, hue(c), theme, "square")]);
      if (corner && mean) things.push([(corner[2] + mean[2]) / 2 + 0.02, () => this.line(pen, corner, mean, theme.ink, 1, 0.55, [3, 4])]);
      if (tip) things.push([tip[2] / 2, () => { this.line(pen, origin, tip, hue(c), 2.4, 0.75); this.mark(pen, tip, hue(c), theme, "cross"); }]);
      if (mean) things.push([mean[2] - 0.01, () => { this.mark(pen, mean, hue(c), theme, "diamond"); this.name(pen, mean, run.names[this.index(run, name)], theme, width); }]);
    });
    things.push([0, () => { pen.globalAlpha = 0.8; pen.fillStyle = theme.ink; pen.beginPath(); pen.arc(origin[0], origin[1], 2.6, 0, 6.2832); pen.fill(); pen.globalAlpha = 1; }]);
    paintInOrder(things);
    const target = -1 / (run.panels.frame.counts[left] - 1), { cosines } = from;
    const said = cosines.length ? `cosines ${cosines.map(number).join(", ")}; simplex of ${run.panels.frame.counts[left]} classes ${number(target)}` : "fewer than two of these classes seen";
    this.say(stage, said, `◆ mean  ✕ head row  □ corner of the nearest simplex.  ${percent(Math.min(from.share, 1))} of the means lies in this space.`);
  }

  index(run, at) {
    const first = this.player.runs[0];
    return run === first ? at : run.names.indexOf(first.names[at]);
  }

  say(stage, ...lines) {
    const text = lines.join("|");
    if (stage.frame.told === text) return;
    stage.frame.told = text;
    stage.frame.say.replaceChildren(...lines.map((line, at) => element(at ? "span" : "b", {}, line)));
  }

  line(pen, from, to, colour, width, alpha, dash = []) {
    pen.globalAlpha = alpha; pen.strokeStyle = colour; pen.lineWidth = width; pen.setLineDash(dash);
    pen.beginPath(); pen.moveTo(from[0], from[1]); pen.lineTo(to[0], to[1]); pen.stroke();
    pen.setLineDash([]); pen.globalAlpha = 1;
  }

  mark(pen, [x, y, depth], colour, theme, kind) {
    const r = clamp(9 - 2.4 * depth, 5, 12);
    pen.beginPath(); pen.lineWidth = 2; pen.strokeStyle = colour;
    if (kind === "square") pen.rect(x - r * 0.8, y - r * 0.8, r * 1.6, r * 1.6);
    else if (kind === "cross") { const s = r * 0.6; pen.moveTo(x - s, y - s); pen.lineTo(x + s, y + s); pen.moveTo(x + s, y - s); pen.lineTo(x - s, y + s); }
    else { pen.moveTo(x, y - r); pen.lineTo(x + r, y); pen.lineTo(x, y + r); pen.lineTo(x - r, y); pen.closePath(); pen.fillStyle = colour; pen.fill(); pen.strokeStyle = theme.page; pen.lineWidth = 1.5; }
    pen.stroke();
  }

  // Long names end early, and stand on the side that has room.
  name(pen, [x, y], whole, theme, width) {
    const text = whole.length > LONGEST ? `${whole.slice(0, LONGEST - 1)}…` : whole, left = x > width * 0.6;
    pen.font = `600 ${12 * (theme.scale ?? 1)}px ${theme.font}`; pen.textAlign = left ? "right" : "left"; pen.textBaseline = "middle";
    const at = left ? x - 13 : x + 13;
    pen.lineWidth = 3; pen.strokeStyle = theme.page; pen.strokeText(text, at, y - 9); pen.fillStyle = theme.ink; pen.fillText(text, at, y - 9);
  }
}
