// The toy: features, class means, head rows and the nearest simplex ETF, frame by frame, beside NC1 to NC3 and accuracy.
//
// Plain ES modules, no build step, no WebGL: points in space are turned and drawn on a canvas. Axes are the same in
// every frame, so motion on screen is motion of features. Everything plays in the browser; the server hears nothing.

import { View } from "./base.js";
import { bytes, clamp, element } from "./dom.js";
import { Turn, paintInOrder } from "./space.js";

const FRAMES_PER_SECOND = 12;
const PANELS = [
  { title: "NC1", hint: "within / between", lines: ["nc1"], log: true },
  { title: "NC2", hint: "angles, lengths (dashed)", lines: ["nc2", "equinorm"] },
  { title: "NC3", hint: "head against means", lines: ["nc3"] },
  { title: "Right answers", hint: "", lines: ["old", "new"], top: 1 },
];
const FLOOR = 1e-6; // NC1 below this looks the same

const decode = (text) => new Float32Array(bytes(text).buffer);

class Toy extends View {
  constructor(root, data, colours) {
    super(root);
    this.hues = colours;
    this.turn = new Turn();
    this.step = 0;
    this.tick = this.tick.bind(this);
    this.build();
    this.update(data, true);
  }

  update(data, first = false) {
    if (!first && data.token === this.data?.token) return;
    this.data = data;
    this.series = Object.fromEntries(Object.entries(data.series).map(([name, text]) => [name, decode(text)]));
    this.points = { features: decode(data.features), means: decode(data.means), rows: decode(data.rows), ideal: decode(data.ideal) };
    this.count = data.steps.length;
    this.slider.max = this.count - 1;
    this.canvas.setAttribute("aria-label", `${data.alt} Keys: space plays, arrows step, Home and End jump, shift and arrows turn.`);
    this.readTheme();
    this.go(0, false);
    if (!this.still) this.play(true);
  }

  build() {
    this.slider = element("input", { type: "range", min: 0, max: 1, value: 0, "aria-label": "Frame", oninput: () => this.go(Number(this.slider.value)) });
    this.canvas = element("canvas", { tabindex: 0, role: "img" });
    this.title = element("b");
    this.what = element("span");
    this.legend = element("div", { class: "legend" }, ...["● class mean", "— head row", "○ nearest simplex ETF", "· image"].map((text) => element("span", {}, text)));
    const space = element("div", { class: "space" }, this.canvas, element("div", { class: "say" }, this.title, this.what), this.legend);
    this.panels = PANELS.map((panel) => {
      const canvas = element("canvas", { role: "img", onpointerdown: (event) => this.seek(event, canvas), onpointermove: (event) => event.buttons && this.seek(event, canvas) });
      const value = element("span");
      const hint = element("span");
      return { ...panel, canvas, value, hintNode: hint, figure: element("figure", {}, element("figcaption", {}, element("span", {}, element("b", {}, panel.title), " ", hint), value), canvas) };
    });
    this.root.replaceChildren(element("div", { class: "toy", onkeydown: (event) => this.key(event) },
      element("div", { class: "stage" }, space, element("div", { class: "curves" }, ...this.panels.map((p) => p.figure))),
      element("div", { class: "bar" }, this.transport("frame"), this.slider)));
    this.box = this.root.firstElementChild;
    this.turn.follow(this.canvas, () => this.draw(), () => this.data.dims === 3);
    this.resizes = new ResizeObserver(() => this.resize());
    for (const canvas of [this.canvas, ...this.panels.map((panel) => panel.canvas)]) this.resizes.observe(canvas);
  }

  resize() {
    this.measure([this.canvas, ...this.panels.map((panel) => panel.canvas)]);
    if (this.data) this.draw();
  }

  key(event) {
    if (event.target === this.slider && event.key !== " ") return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.shiftKey && event.key.startsWith("Arrow")) {
      this.turn.by({ ArrowRight: 0.12, ArrowLeft: -0.12 }[event.key] || 0, { ArrowDown: 0.12, ArrowUp: -0.12 }[event.key] || 0);
      this.draw();
    } else if (step) this.go(this.step + step);
    else if (event.key === "Home") this.go(0);
    else if (event.key === "End") this.go(this.count - 1);
    else if (event.key === " " && event.target.tagName !== "BUTTON") this.play(!this.playing);
    else return;
    event.preventDefault();
  }

  seek(event, canvas) {
    const box = canvas.getBoundingClientRect();
    this.go(Math.round(((event.clientX - box.left) / box.width) * (this.count - 1)));
  }

  play(on) {
    this.playing = on;
    this.setPlayIcon();
    cancelAnimationFrame(this.request);
    if (!on) return;
    if (this.step >= this.count - 1) this.step = 0;
    this.clock = performance.now() - (this.step / FRAMES_PER_SECOND / this.speed) * 1000;
    this.pace = this.speed;
    this.request = requestAnimationFrame(this.tick);
  }

  tick(now) {
    if (this.pace !== this.speed) return this.play(true);
    const at = Math.floor(((now - this.clock) / 1000) * FRAMES_PER_SECOND * this.speed);
    if (at !== this.step) this.show(Math.min(at, this.count - 1));
    if (this.step >= this.count - 1) return this.play(false);
    this.request = requestAnimationFrame(this.tick);
  }

  go(at, pause = true) {
    if (pause && this.playing) this.play(false);
    this.show(clamp(at, 0, this.count - 1));
  }

  show(at) {
    this.step = at;
    this.slider.value = at;
    this.box.dataset.frame = at;
    const d = this.data;
    this.slider.setAttribute("aria-valuetext", `step ${d.steps[at]}`);
    this.title.textContent = `Step ${d.steps[at]}`;
    this.what.textContent = d.split ? (at < d.split ? "first task" : d.second) : "";
    this.draw();
  }

  // ---- drawing -----------------------------------------------------------------------------------------------------

  draw() {
    if (!this.sizes || !this.theme || !this.data) return;
    this.drawSpace();
    for (const panel of this.panels) this.drawPanel(panel);
  }

  project(array, index, width, height) {
    const { dims, size } = this.data, at = index * dims;
    const unit = (Math.min(width, height) / 2 / size) * 0.94;
    const x = array[at], y = array[at + 1];
    if (dims < 3) return Number.isFinite(x) ? [width / 2 + x * unit, height / 2 - (y || 0) * unit, 0] : null;
    const z = array[at + 2];
    if (!Number.isFinite(x)) return null;
    return this.turn.place([x, y, z], width, height, size);
  }

  drawSpace() {
    const [pen, width, height] = this.surface(this.canvas);
    const { images, classes, labels, dims } = this.data, at = this.step, { ink: text, page: ground } = this.theme;
    const hue = (c) => this.colour(c);
    const origin = this.project(new Float32Array(dims), 0, width, height);
    if (dims === 3) this.turn.rings(pen, text, this.data.radius, width, height, this.data.size);
    const things = [];
    for (let c = 0; c < classes; c++) {
      const tip = this.project(this.points.rows, at * classes + c, width, height);
      if (tip) things.push([tip[2] / 2, () => { pen.globalAlpha = 0.75; pen.strokeStyle = hue(c); pen.lineWidth = 2.5; pen.beginPath(); pen.moveTo(origin[0], origin[1]); pen.lineTo(tip[0], tip[1]); pen.stroke(); }]);
      const ghost = this.project(this.points.ideal, at * classes + c, width, height);
      if (ghost) things.push([ghost[2], () => { pen.globalAlpha = 0.55; pen.strokeStyle = text; pen.lineWidth = 1.5; pen.beginPath(); pen.arc(ghost[0], ghost[1], 12, 0, 7); pen.stroke(); }]);
      const mean = this.project(this.points.means, at * classes + c, width, height);
      if (mean) things.push([mean[2] - 0.01, () => { pen.globalAlpha = 1; pen.fillStyle = hue(c); pen.strokeStyle = ground; pen.lineWidth = 2; pen.beginPath(); pen.arc(mean[0], mean[1], 8, 0, 7); pen.fill(); pen.stroke();
        pen.fillStyle = text; pen.font = "600 11px sans-serif"; pen.fillText(String(c + 1), mean[0] + 11, mean[1] - 8); }]);
    }
    for (let i = 0; i < images; i++) {
      const dot = this.project(this.points.features, at * images + i, width, height);
      if (dot) things.push([dot[2], () => { pen.globalAlpha = clamp(0.62 - dot[2] * 0.25, 0.25, 0.9); pen.fillStyle = hue(labels[i]); pen.beginPath(); pen.arc(dot[0], dot[1], 3.4, 0, 7); pen.fill(); }]);
    }
    paintInOrder(things);
    pen.globalAlpha = 1;
  }

  drawPanel(panel) {
    const [pen, width, height] = this.surface(panel.canvas);
    const lines = panel.lines.filter((name) => this.series[name]);
    const all = lines.flatMap((name) => [...this.series[name]]).filter(Number.isFinite);
    const place = panel.log ? (v) => Math.log10(Math.max(v, FLOOR)) : (v) => v;
    const low = panel.log ? Math.log10(FLOOR) : 0;
    const top = panel.top ?? Math.max(panel.log ? 0 : 0.1, ...all.map(place)) * (panel.log ? 1 : 1.05);
    const x = (f) => 2 + (f / Math.max(this.count - 1, 1)) * (width - 4);
    const y = (v) => height - 3 - ((place(v) - low) / (top - low || 1)) * (height - 6);
    pen.strokeStyle = this.theme.ink;
    pen.globalAlpha = 0.14;
    pen.beginPath();
    for (const level of [y(panel.log ? FLOOR : 0), 3]) { pen.moveTo(0, level); pen.lineTo(width, level); }
    if (this.data.split) { pen.moveTo(x(this.data.split - 0.5), 0); pen.lineTo(x(this.data.split - 0.5), height); }
    pen.stroke();
    pen.globalAlpha = 1;
    const hues = [this.colour(0), this.colour(panel.lines[1] === "new" ? 1 : 2)];
    lines.forEach((name, index) => {
      pen.strokeStyle = hues[index];
      pen.lineWidth = 2;
      pen.setLineDash(index ? [5, 4] : []);
      pen.beginPath();
      let down = false;
      this.series[name].forEach((v, f) => {
        if (!Number.isFinite(v)) { down = false; return; }
        if (down) pen.lineTo(x(f), y(v)); else pen.moveTo(x(f), y(v));
        down = true;
      });
      pen.stroke();
    });
    pen.setLineDash([]);
    pen.strokeStyle = this.theme.ink;
    pen.globalAlpha = 0.7;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x(this.step), 0);
    pen.lineTo(x(this.step), height);
    pen.stroke();
    pen.globalAlpha = 1;
    const shown = lines.map((name) => this.series[name][this.step]).filter(Number.isFinite);
    const write = (v) => (panel.top ? `${Math.round(100 * v)} %` : v !== 0 && v < 1e-3 ? v.toExponential(0).replace("-", "−") : v.toPrecision(2));
    panel.value.textContent = shown.map(write).join(", ");
    panel.hintNode.textContent = panel.top ? (this.data.split ? "first task, added (dashed)" : "training images") : panel.hint;
    panel.canvas.setAttribute("aria-label", `${panel.title} now ${panel.value.textContent}`);
  }
}

const made = new WeakMap();

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".cillab-toy");
  const known = made.get(root);
  if (known) known.update(data);
  else made.set(root, new Toy(root, data, data.colours));
  return () => {
    made.get(root)?.destroy();
    made.delete(root);
  };
}
