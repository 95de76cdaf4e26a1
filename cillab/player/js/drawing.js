// How the player draws: points, marks and trails on a stage, the timeline above it. Methods of `Player`.

import { ABSENT, NONE_U16, placed } from "./data.js";
import { clamp } from "./dom.js";

export const drawing = {
  drawStage(stage) {
    const { run, index, context: c } = stage;
    const ratio = window.devicePixelRatio || 1, g = this.geometry(stage), n = run.cls.length;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, g.width, g.height);
    const at = this.between(run);
    if (!at) return this.drawMissing(c, g);
    const { left, right, share } = at, now = run.steps[left].task, { xy, spot } = placed(run, at);
    const X = (k, i) => { const a = 2 * (left * k + i), b = 2 * (right * k + i); return [a, b]; };
    const px = (a, b, from = xy) => g.x + (from[a] + (from[b] - from[a]) * share) * g.scale;
    const py = (a, b, from = xy) => g.y - (from[a + 1] + (from[b + 1] - from[a + 1]) * share) * g.scale;
    const base = clamp(g.width / 190, 1.9, 3.4) * clamp(Math.sqrt(700 / n), 0.75, 1.25) * clamp(this.view.zoom ** 0.35, 1, 2.4);
    const groups = new Map(); // one path per colour and kind: a few fills a frame, not thousands
    const put = (key, x, y, r) => {
      let path = groups.get(key);
      if (!path) groups.set(key, (path = new Path2D()));
      path.moveTo(x + r, y);
      path.arc(x, y, r, 0, 6.2832);
    };
    const pictures = [], live = this.gesture?.stage === index ? this.merged(this.gesture) : this.selected;
    const some = live.size > 0, rings = new Path2D(); // around what is selected, and around answers that a touch has changed
    for (let i = 0; i < n; i++) {
      if (this.mask && !this.mask[i]) continue;
      const [a, b] = spot(i), x = px(a, b), y = py(a, b), task = run.task[i];
      if (x < -20 || y < -20 || x > g.width + 20 || y > g.height + 20) continue;
      const taken = some && live.has(i), pale = (some && !taken) || (this.lit != null && run.cls[i] !== this.lit);
      if (this.lit === run.cls[i] && this.lit != null) { rings.moveTo(x + base + 4, y); rings.arc(x, y, base + 4, 0, 6.2832); }
      if (taken) { rings.moveTo(x + base + 2.2, y); rings.arc(x, y, base + 2.2, 0, 6.2832); }
      const hue = this.focus.length ? this.focus.indexOf(run.cls[i]) : task;
      const dim = hue < 0 || (this.focusTask != null && task !== this.focusTask);
      if (task > now || dim) { put(task > now ? "-2" : "-1", x, y, base * 0.7); continue; }
      if (this.show.images && run.image?.naturalWidth) { pictures.push([i, x, y, hue, pale]); continue; }
      const answer = run.shown ? run.shown[left * n + i] : NONE_U16;
      const wrong = answer !== NONE_U16 && answer !== run.cls[i];
      if (this.lit == null && run.shown !== run.predicted && answer !== run.predicted[left * n + i]) { rings.moveTo(x + base + 3.4, y); rings.arc(x, y, base + 3.4, 0, 6.2832); }
      put(`${hue}${pale ? "p" : ""}${wrong ? "o" : ""}`, x, y, base * (task === now ? 1.3 : 1));
    }
    for (const key of [...groups.keys()].sort((p, q) => parseInt(p) - parseInt(q))) {
      const path = groups.get(key), hue = parseInt(key);
      c.globalAlpha = (hue < 0 ? (this.theme.dark ? 0.22 : 0.16) : key.endsWith("o") ? 0.95 : 0.82) * (key.includes("p") ? 0.3 : 1);
      if (key.endsWith("o")) {
        c.lineWidth = 1.4; c.strokeStyle = this.colour(hue); c.stroke(path);
      } else { c.fillStyle = hue < 0 ? this.theme.ink : this.colour(hue); c.fill(path); }
    }
    c.globalAlpha = 1;
    this.drawImages(c, run, pictures);
    if (some || this.lit != null || run.shown !== run.predicted) { c.lineWidth = 1.3; c.strokeStyle = this.theme.ink; c.stroke(rings); }
    if (this.show.trails && run.means) this.drawTrails(c, g, run, left);
    if (this.show.etf && run.etf) this.drawMarks(c, run, run.etf, X, px, py, "square", left);
    if (this.show.head && run.head) this.drawMarks(c, run, run.head, X, px, py, "cross", left);
    if (this.show.means && run.means) this.drawMarks(c, run, run.means, X, px, py, "diamond", left);
    for (const [mark, width] of [[this.picked, 2.5], [this.hover, 1.8]]) {
      if (!mark || (mark.run !== index && !this.sameProbe(mark.run, index))) continue;
      this.drawTrace(c, g, run, mark.index, left);
      const [a, b] = spot(mark.index);
      c.beginPath(); c.arc(px(a, b), py(a, b), base + 5, 0, 6.2832);
      c.lineWidth = width; c.strokeStyle = this.theme.ink; c.stroke();
    }
    this.drawGesture(c, index);
  },

  drawGesture(c, index) {
    if (this.gesture?.stage === index) {
      const outline = this.outline(this.gesture);
      c.beginPath();
      for (const [x, y] of outline) c.lineTo(x, y);
      c.closePath();
      c.globalAlpha = 0.08; c.fillStyle = this.theme.ink; c.fill("evenodd");
      c.globalAlpha = 0.85; c.lineWidth = 1.4; c.setLineDash([5, 4]); c.strokeStyle = this.theme.ink; c.stroke();
      c.setLineDash([]); c.globalAlpha = 1;
    }
    if (this.cross?.stage === index) {
      const { x, y } = this.cross;
      c.beginPath(); c.moveTo(x - 9, y); c.lineTo(x + 9, y); c.moveTo(x, y - 9); c.lineTo(x, y + 9);
      c.lineWidth = 4; c.strokeStyle = this.theme.page; c.stroke();
      c.lineWidth = 1.6; c.strokeStyle = this.theme.ink; c.stroke();
    }
  },

  // Which hue a class's mark has: that of its task, or its place among the classes in focus; -1 = not drawn.
  markHue(run, i) {
    if (this.lit != null && this.lit !== i) return -1;
    if (this.focus.length) return this.focus.indexOf(i);
    return this.focusTask != null && run.meanTask[i] !== this.focusTask ? -1 : run.meanTask[i];
  },

  sameProbe(one, other) {
    return this.runs[one].probe === this.runs[other].probe;
  },

  // Class means are diamonds, head rows thin crosses, ETF vertices open squares: the marks of the package's figures.
  // Up to 40 classes each mark is a drawing of its own, so that neighbours stay apart; of more, those of a task are one.
  drawMarks(c, run, from, X, px, py, kind, left) {
    const k = run.meanTask.length, now = run.steps[left].task, many = k > 40, size = many ? 0.75 : 1;
    let path = null, drawn = -1;
    const finish = () => { if (path) this.paintMark(c, path, kind, drawn); path = null; };
    for (let i = 0; i < k; i++) {
      const [a, b0] = X(k, i), task = run.meanTask[i], hue = this.markHue(run, i);
      if (from[a] === ABSENT || task > now || hue < 0) continue;
      const b = from[b0] === ABSENT ? a : b0, x = px(a, b, from), y = py(a, b, from), r = size * (task === now ? 8 : 6.5);
      if (!many || hue !== drawn) finish();
      path ??= new Path2D();
      drawn = hue;
      if (kind === "diamond") { path.moveTo(x, y - r); path.lineTo(x + r, y); path.lineTo(x, y + r); path.lineTo(x - r, y); path.closePath(); }
      else if (kind === "square") path.rect(x - r * 0.7, y - r * 0.7, r * 1.4, r * 1.4);
      else { path.moveTo(x - r * 0.7, y - r * 0.7); path.lineTo(x + r * 0.7, y + r * 0.7); path.moveTo(x + r * 0.7, y - r * 0.7); path.lineTo(x - r * 0.7, y + r * 0.7); }
    }
    finish();
  },

  paintMark(c, path, kind, hue) {
    if (kind === "diamond") { c.fillStyle = this.colour(hue); c.fill(path); }
    c.lineWidth = 4; c.strokeStyle = this.theme.page; // a halo keeps a mark apart from the points under it
    if (kind !== "diamond") c.stroke(path);
    c.lineWidth = kind === "diamond" ? 1.5 : 2.2;
    c.strokeStyle = kind === "diamond" ? this.theme.ink : this.colour(hue);
    c.stroke(path);
  },

  // Trails change with the step, the view and the choice of classes, not with the frame: they are kept as a picture.
  drawTrails(c, g, run, left) {
    const ratio = window.devicePixelRatio || 1;
    const key = [run.title, left, g.x, g.y, g.scale, g.width, g.height, ratio, this.theme.page, this.focus, this.focusTask, this.lit].join("|");
    this.trails ??= new Map();
    let kept = this.trails.get(run);
    if (kept?.key !== key) {
      const canvas = kept?.canvas ?? document.createElement("canvas");
      Object.assign(canvas, { width: c.canvas.width, height: c.canvas.height }); // this also wipes it
      const to = canvas.getContext("2d");
      to.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.paintTrails(to, g, run, left);
      this.trails.set(run, (kept = { key, canvas }));
    }
    c.drawImage(kept.canvas, 0, 0, kept.canvas.width / ratio, kept.canvas.height / ratio);
  },

  paintTrails(c, g, run, left) {
    const k = run.meanTask.length, hues = new Map();
    for (let i = 0; i < k; i++) {
      const hue = this.markHue(run, i) % this.theme.colours.length; // -1 stays -1
      if (hue >= 0) hues.has(hue) ? hues.get(hue).push(i) : hues.set(hue, [i]);
    }
    c.lineWidth = 1.3;
    for (let s = 1; s <= left; s++) {
      c.globalAlpha = 0.15 + (0.6 * s) / Math.max(left, 1);
      for (const [hue, classes] of hues) {
        c.beginPath();
        for (const i of classes) {
          const a = 2 * ((s - 1) * k + i), b = 2 * (s * k + i);
          if (run.means[a] === ABSENT || run.means[b] === ABSENT) continue;
          c.moveTo(g.x + run.means[a] * g.scale, g.y - run.means[a + 1] * g.scale);
          c.lineTo(g.x + run.means[b] * g.scale, g.y - run.means[b + 1] * g.scale);
        }
        c.strokeStyle = this.colour(hue);
        c.stroke();
      }
    }
    c.globalAlpha = 1;
  },

  drawTrace(c, g, run, i, left) {
    const n = run.cls.length;
    c.beginPath();
    for (let s = 0; s <= left; s++) {
      const a = 2 * (s * n + i);
      c.lineTo(g.x + run.xy[a] * g.scale, g.y - run.xy[a + 1] * g.scale);
    }
    c.globalAlpha = 0.5; c.lineWidth = 1; c.strokeStyle = this.theme.ink; c.stroke(); c.globalAlpha = 1;
  },

  drawImages(c, run, pictures) {
    const size = clamp(15 * this.view.zoom ** 0.5, 14, 44), { tile, columns } = run.sprites || {};
    for (const [i, x, y, hue, pale] of pictures) {
      c.globalAlpha = pale ? 0.25 : 1;
      c.drawImage(run.image, (i % columns) * tile, Math.floor(i / columns) * tile, tile, tile, x - size / 2, y - size / 2, size, size);
      c.lineWidth = 1.2; c.strokeStyle = this.colour(hue); c.strokeRect(x - size / 2, y - size / 2, size, size);
    }
    c.globalAlpha = 1;
  },

  drawMissing(c, g) {
    c.strokeStyle = this.theme.ink; c.globalAlpha = 0.08; c.lineWidth = 1; c.beginPath();
    for (let x = -g.height; x < g.width; x += 12) { c.moveTo(x, g.height); c.lineTo(x + g.height, 0); }
    c.stroke(); c.globalAlpha = 0.7; c.fillStyle = this.theme.ink; c.textAlign = "center"; c.font = `14px ${this.theme.font}`;
    c.fillText("no snapshot here", g.width / 2, g.height / 2); c.globalAlpha = 1;
  },

  drawTrack() {
    const c = this.track.getContext("2d"), ratio = window.devicePixelRatio || 1;
    const { width, height } = this.sizes.get(this.track), inset = 9;
    const x = (s) => inset + ((width - 2 * inset) * s) / Math.max(this.count - 1, 1);
    const y = (value) => height - 9 - (height - 16) * clamp(value, 0, 1);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.strokeStyle = this.theme.ink; c.globalAlpha = 0.18; c.lineWidth = 1;
    c.beginPath(); c.moveTo(inset, height - 8.5); c.lineTo(width - inset, height - 8.5); c.stroke();
    this.runs.forEach((run, index) => {
      if (!run.accuracy) return;
      c.globalAlpha = 0.75; c.lineWidth = 1.6; c.setLineDash(index ? [4, 3] : []);
      c.beginPath();
      run.accuracy.forEach((value, s) => value != null && c.lineTo(x(s), y(value)));
      c.stroke(); c.setLineDash([]);
    });
    const steps = this.longest().steps, radius = this.count > 40 ? 2 : 4;
    steps.forEach((step, s) => {
      const ahead = s > this.t + 0.01; // hollow, as in the legend
      c.globalAlpha = 1; c.lineWidth = 1.6; c.strokeStyle = this.colour(step.task); c.fillStyle = ahead ? this.theme.page : this.colour(step.task);
      c.beginPath(); c.arc(x(s), height - 8.5, ahead ? radius - 0.8 : radius, 0, 6.2832); c.fill(); if (ahead) c.stroke();
    });
    c.globalAlpha = 1; c.strokeStyle = this.theme.ink; c.lineWidth = 1.6;
    c.beginPath(); c.moveTo(x(this.t), 2); c.lineTo(x(this.t), height - 1); c.stroke();
  },
};
