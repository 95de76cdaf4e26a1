// How points are found, chosen and selected: lasso, box and cross; the card of the one under the pointer. Methods of `Player`.
// A gesture is sent once: `selected` with positions in the probe, which never change, not places among the points drawn.

import { NONE_U16, placed } from "./data.js";
import { clamp, element } from "./dom.js";

// Beside the pointer, on its left where there is no room on its right, and never outside `room`.
export function cardAt(x, y, size, room) {
  const left = x + 18 + size.width > room.right ? x - 18 - size.width : x + 18;
  const within = (value, low, high) => clamp(value, low, Math.max(low, high));
  return [within(left, room.left, room.right - size.width), within(y - 30, room.top + 8, room.bottom - size.height - 8)];
}

export const selecting = {
  // A point that the page filters out or that another task's chip hides can neither be hovered nor selected.
  shown(run, i) {
    return !(this.mask && !this.mask[i]) && !(this.focusTask != null && run.task[i] !== this.focusTask);
  },

  visible(run) {
    return [...run.cls.keys()].filter((i) => this.shown(run, i));
  },

  extend(point) {
    const { path, tool } = this.gesture, last = path[path.length - 1];
    if (tool === "box") path[1] = point;
    else if (Math.hypot(point[0] - last[0], point[1] - last[1]) >= 3) path.push(point);
    this.tellCount();
    this.drawMap();
  },

  outline({ tool, path }) {
    if (tool !== "box" || path.length < 2) return path;
    const [[a, b], [c, d]] = path;
    return [[a, b], [c, b], [c, d], [a, d]];
  },

  // Positions in the probe of the visible points inside the outline, by the even-odd rule.
  inside(gesture) {
    const stage = this.stages[gesture.stage], run = stage.run, at = this.between(run), outline = this.outline(gesture);
    if (!at || outline.length < 3) return [];
    const g = this.geometry(stage), { xy, spot } = placed(run, at);
    return this.visible(run).filter((i) => {
      const [a, b] = spot(i);
      const x = g.x + (xy[a] + (xy[b] - xy[a]) * at.share) * g.scale;
      const y = g.y - (xy[a + 1] + (xy[b + 1] - xy[a + 1]) * at.share) * g.scale;
      let odd = false;
      for (let k = 0, j = outline.length - 1; k < outline.length; j = k++) {
        const [xk, yk] = outline[k], [xj, yj] = outline[j];
        if (yk > y !== yj > y && x < ((xj - xk) * (y - yk)) / (yj - yk) + xk) odd = !odd;
      }
      return odd;
    });
  },

  merged(gesture) {
    const found = this.inside(gesture);
    if (gesture.mode === "new") return new Set(found);
    const both = new Set(this.selected);
    for (const i of found) gesture.mode === "more" ? both.add(i) : both.delete(i);
    return both;
  },

  commit(gesture) {
    this.select(this.merged(gesture));
  },

  select(chosen) {
    this.selected = chosen;
    this.gesture = null;
    this.revision += 1;
    this.send("selected", { revision: this.revision, at: [...chosen].sort((a, b) => a - b) });
    this.tellCount();
    this.drawMap();
  },

  tellCount() {
    const count = (this.gesture ? this.merged(this.gesture) : this.selected).size;
    const idle = this.tool === "look" ? "" : this.tool === "lasso" ? "draw around points" : "draw a box";
    this.counter.textContent = count || this.gesture ? `${count} selected` : idle;
    this.clearButton.hidden = !this.selected.size || Boolean(this.gesture);
    this.shell.dataset.selected = String(this.selected.size);
  },

  pick(found) {
    this.picked = found && !(this.picked?.index === found.index && this.picked.run === found.run) ? found : null;
    this.send("picked", this.picked ? String(this.runs[found.run].ids[found.index]) : null);
    this.draw();
  },

  // The cross does with keys what the pointer does: shift and arrows move it, enter takes what is there.
  moveCross(dx, dy) {
    const at = this.stages.findIndex((stage) => stage.canvas === (this.root.activeElement || document.activeElement));
    const stage = this.stages[this.cross?.stage ?? Math.max(at, 0)], { width, height } = this.geometry(stage);
    const from = this.cross || { stage: stage.index, x: width / 2, y: height / 2 };
    this.cross = { stage: stage.index, x: clamp(from.x + 14 * dx, 0, width), y: clamp(from.y + 14 * dy, 0, height) };
    if (this.gesture) this.extend([this.cross.x, this.cross.y]);
    const box = stage.canvas.getBoundingClientRect();
    const event = { clientX: box.left + this.cross.x, clientY: box.top + this.cross.y };
    this.setHover(this.gesture ? null : this.hit(stage, event), event);
    this.drawMap();
  },

  enter() {
    if (!this.cross) return;
    const point = [this.cross.x, this.cross.y], stage = this.stages[this.cross.stage];
    if (this.tool === "look") {
      const box = stage.canvas.getBoundingClientRect();
      return this.pick(this.hit(stage, { clientX: box.left + point[0], clientY: box.top + point[1] }));
    }
    if (this.gesture) return this.commit(this.gesture);
    this.gesture = { stage: stage.index, tool: "box", mode: "new", path: [point] }; // with keys a lasso is a box as well
    this.setHover(null);
    this.tellCount();
    this.drawMap();
  },

  zoomAt(factor, x, y) {
    const zoom = clamp(this.view.zoom * factor, 0.5, 40), ratio = zoom / this.view.zoom;
    this.view = { zoom, x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio };
    this.drawMap();
  },

  reset() {
    this.view = { zoom: 1, x: 0, y: 0 };
    this.drawMap();
  },

  geometry({ canvas, run }) {
    const { width, height } = this.sizes.get(canvas), frame = this.frames.get(run);
    const scale = Math.min((width - 44) / frame.width, (height - 40) / frame.height) * this.view.zoom; // one for x and y
    return { width, height, scale, x: width / 2 + this.view.x - frame.x * scale, y: height / 2 + this.view.y + frame.y * scale };
  },

  between(run) {
    const top = run.steps.length - 1;
    if (this.t > top + 0.5) return null;
    const left = clamp(Math.floor(this.t), 0, top);
    return { left, right: Math.min(left + 1, top), share: clamp(this.t - left, 0, 1) };
  },

  hit(stage, event) {
    const { run, canvas } = stage, at = this.between(run);
    if (!at) return null;
    const box = canvas.getBoundingClientRect(), g = this.geometry(stage), n = run.cls.length;
    const px = event.clientX - box.left, py = event.clientY - box.top, now = run.steps[at.left].task, { xy, spot } = placed(run, at);
    let best = this.show.images ? 18 : 11, index = -1;
    for (let i = 0; i < n; i++) {
      if (!this.shown(run, i)) continue;
      const [a] = spot(i);
      const away = Math.hypot(g.x + xy[a] * g.scale - px, g.y - xy[a + 1] * g.scale - py) + (run.task[i] > now ? 4 : 0);
      if (away < best) { best = away; index = i; }
    }
    return index < 0 ? null : { run: stage.index, index };
  },

  setHover(found, event) {
    const same = this.hover?.index === found?.index && this.hover?.run === found?.run;
    this.hover = found;
    if (!same) { this.fillCard(); this.drawMap(); }
    if (found && event) this.placeCard(event);  // by the size that it has now
  },

  placeCard(event) {
    const box = this.shell.getBoundingClientRect();
    const size = { width: this.card.offsetWidth, height: this.card.offsetHeight };
    const room = {  // what of the player the window shows
      left: Math.max(0, -box.left), top: Math.max(0, -box.top),
      right: Math.min(box.width, window.innerWidth - box.left), bottom: Math.min(box.height, window.innerHeight - box.top),
    };
    const [left, top] = cardAt(event.clientX - box.left, event.clientY - box.top, size, room);
    this.card.style.left = `${left}px`;
    this.card.style.top = `${top}px`;
  },

  fillCard() {
    this.card.hidden = !this.hover;
    if (!this.hover) return;
    const run = this.runs[this.hover.run], i = this.hover.index, at = this.between(run);
    if (!at) { this.card.hidden = true; return; }
    const cell = at.left * run.cls.length + i, answer = run.shown ? run.shown[cell] : NONE_U16;
    const seen = run.task[i] <= run.steps[at.left].task, right = answer === run.cls[i];
    const facts = element("dl", {});
    const fact = (name, value, kind) => facts.append(element("dt", {}, name), element("dd", { class: kind || "" }, value));
    fact("class", run.names[run.cls[i]]);
    fact("learnt in", `task ${run.task[i] + 1}`);
    if (!seen) fact("now", "not seen yet");
    else if (answer !== NONE_U16) fact("answer", right ? "✓ right" : `✗ ${run.names[answer]}`, right ? "right" : "wrong");
    if (seen && run.margin) fact("margin", (run.margin[cell] * run.marginScale).toFixed(2));
    const picture = element("canvas", { width: 192, height: 192 });
    this.card.replaceChildren(...(run.image?.naturalWidth ? [picture] : []), facts);
    if (run.image?.naturalWidth) {
      const { tile, columns } = run.sprites, context = picture.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(run.image, (i % columns) * tile, Math.floor(i / columns) * tile, tile, tile, 0, 0, 192, 192);
    }
  },
};
