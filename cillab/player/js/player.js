// The player: a run's probe points moving through its snapshots, on one or two synchronised canvases.
//
// Plain ES modules, no build step. `mount(root, data, send)` does everything; the default export adapts it to
// Streamlit components v2 and, called without a component (as anywidget does), returns a widget with `render`.
// There may be several such widgets on a page: keys count only inside them.
// Coordinates arrive as int16 in a frame that is fixed over the whole run: nothing is rescaled per step, so motion on
// screen is motion of features. Positions between two snapshots exist only to guide the eye; every colour and number
// comes from the snapshot on the left. While playing nothing is sent; `send("step", i)` happens on pause and release.
//
// With `data.select` points can be chosen with a lasso, a box or the keys. `send("selected", {revision, at})` happens once
// a gesture; `at` are positions in the probe, which never change, not places among the points that are drawn. What the
// page decides (filter, classes in focus, selection, chosen image) comes back in `data.overlay` and needs no new data.

import { View } from "./base.js";
import { framed, pieceOf, unpack } from "./data.js";
import { bytes, clamp, ease, element, icon, percent } from "./dom.js";
import { drawing } from "./drawing.js";
import { telling } from "./facts.js";
import { FrameView } from "./frame.js";
import { Panels } from "./panels.js";
import { selecting } from "./selecting.js";
import { staging } from "./stage.js";
import { mapTakers } from "./taking.js";
import { Touch } from "./touch.js";

const PERIOD_MS = 1500; // one step at speed 1: rest on the snapshot, then glide to the next
const GLIDE = 0.5; // share of the period spent gliding
const MANY = 1000; // points and marks; of more, a step by hand glides at half the frames: without a GPU charts wait for them

class Player extends View {
  constructor(root, data, send, habits = {}) {
    super(root);
    this.send = send;
    this.hues = data.colours;
    this.view = { zoom: 1, x: 0, y: 0 };
    this.show = { means: true, head: false, trails: false, images: false, etf: true, ...habits.show, ...data.show };
    this.tool = habits.tool ?? "look";
    this.selected = new Set(); // positions in the probe
    this.revision = 0; // of the selection: an echo of an older gesture must not undo a newer one
    this.focus = [];
    this.mask = null;
    this.speed = habits.speed ?? 1;
    this.loop = habits.loop ?? false;
    this.grown = habits.grown ?? null; // the panel that was made large
    this.focusTask = null;
    this.hover = null;
    this.picked = null;
    this.frame = this.frame.bind(this);
    this.onDocumentKey = (event) => {
      const at = document.activeElement;
      if (!at || at === document.body) this.key(event);
    };
    if (!data.guest) document.addEventListener("keydown", this.onDocumentKey); // a guest is one of many on its page
    this.start(data);
  }

  destroy() {
    clearTimeout(this.sendTimer);
    clearTimeout(this.touch?.later);
    this.touch?.mixer?.destroy();
    document.removeEventListener("keydown", this.onDocumentKey);
    super.destroy();
  }

  habits() {
    return { show: this.show, tool: this.tool, speed: this.speed, loop: this.loop, grown: this.panels?.grown ?? null };
  }

  // ---- data and layout -------------------------------------------------------------------------------------------

  // Other data make another player: `renew` below.
  start(data) {
    this.data = data;
    const piece = pieceOf(data.blob);
    this.runs = data.runs.map((run) => unpack(run, piece));
    this.frames = framed(this.runs);
    this.count = Math.max(...this.runs.map((run) => run.steps.length));
    this.crowded = this.runs.some((run) => run.cls.length + run.meanTask.length > MANY);
    this.t = this.step = clamp(data.step || 0, 0, this.count - 1);
    this.build();
    for (const run of this.runs) if (run.image) run.image.onload = () => this.draw();
    this.applyOverlay(data.overlay);
    this.obey(data.stop);
  }

  applyOverlay(overlay) {
    if (!overlay || overlay.token === this.overlayToken) return;
    this.overlayToken = overlay.token;
    this.mask = overlay.visible ? bytes(overlay.visible) : null;
    this.focus = overlay.focus || [];
    if ((overlay.revision ?? 0) >= this.revision) {
      this.selected = new Set(overlay.selected || []);
      this.revision = overlay.revision ?? 0;
    }
    this.picked = overlay.picked == null ? null : { run: 0, index: overlay.picked };
    if (this.focus.length) this.focusTask = null;
    this.legendBox.replaceChildren(...this.legendItems());
    this.hueChips();
    this.told = null; // the chips are new
    this.tellCount();
    this.draw();
  }

  build() {
    this.loopButton = this.button("loop", "Loop (L)", () => this.setLoop());
    this.loopButton.setAttribute("aria-pressed", String(this.loop));
    this.label = element("div", { class: "label", "aria-live": "polite" });
    this.range = element("input", {
      type: "range", min: 0, max: this.count - 1, step: 1, value: this.step, "aria-label": "Step",
      oninput: () => this.go(Number(this.range.value), false), onchange: () => this.say(),
    });
    this.track = element("canvas", { "aria-hidden": "true" });
    const bar = element("div", { class: "bar" },
      this.transport("step", this.loopButton),
      element("div", { class: "timeline" }, this.track, this.range),
      this.label);
    this.stages = this.runs.map((run, index) => this.stage(run, index));
    const panes = element("div", { class: `panes panes-${this.runs.length}` }, ...this.stages.map((stage) => stage.pane));
    this.card = element("div", { class: "card", hidden: true });
    this.help = element("div", { class: "help", hidden: true, role: "note" });
    this.menu = element("div", { class: "menu", hidden: true, role: "group", "aria-label": "Take the map along" }, ...mapTakers(this));
    for (const [keys, text] of [["space", "play or pause"], ["← →", "one step"], ["[ ]", "previous, next task"],
      ["Home End", "first, last"], ["1 … 9", "that task"], ["L", "loop"], ["M H T I", "means, head, trails, images"], ...(this.runs.every((run) => run.panels) ? [["G", "the frame in space"]] : []),
      ["+ − 0", "zoom, whole view"], ["shift ← → ↑ ↓", "move the cross"], ["enter", "choose the image at the cross"],
      ...(this.data.select ? [["V S B", "look, lasso, box"], ["enter, enter", "corners of a box"], ["shift drag", "add, alt takes away"],
        ["A", "all points shown"], ["esc", "no selection"]] : []), ["?", "this list"]]) {
      this.help.append(element("div", {}, element("kbd", {}, keys), text));
    }
    this.pace = element("div", { class: "pace" });
    this.help.append(this.pace);
    this.options = element("div", { class: "options", role: "group", "aria-label": "What is drawn" });
    const foot = element("div", { class: "foot" }, this.legend(), this.tools(), this.options);
    this.panels = this.runs.every((run) => run.panels) ? new Panels(this, this.grown) : null;
    this.touch = this.panels ? new Touch(this, this.data.head) : null;
    this.space = this.panels ? new FrameView(this, this.data.frame) : null;
    this.facts = element("div", { class: "facts" });
    const main = this.panels ? [element("div", { class: "beside" }, element("div", { class: "map" }, panes, this.facts, this.touch.node, foot), this.panels.node)] : [panes, foot];
    this.shell = element("div", { class: this.panels ? "player cockpit" : "player" }, bar, ...main, this.card, this.help);
    this.shell.addEventListener("keydown", (event) => this.key(event));
    this.root.replaceChildren(this.shell);
    this.buildOptions();
    this.resizes = new ResizeObserver(() => this.resize());
    for (const stage of this.stages) this.resizes.observe(stage.canvas);
    for (const canvas of this.others()) this.resizes.observe(canvas);
    this.shell.dataset.head = this.touch?.head ?? "learned";
    this.setTool(this.data.select ? this.tool : "look");
    this.theme = this.told = null; // the chips are new: give them their hues again
    this.readTheme();
    this.resize();
  }

  readTheme() {
    if (!super.readTheme()) return false;
    this.shell.dataset.theme = this.theme.dark ? "dark" : "light";
    this.hueChips();
    this.space?.show();
    return true;
  }

  others() {
    return [this.track, ...(this.panels?.canvases ?? []), ...(this.space?.canvases ?? [])];
  }

  resize() {
    this.measure([...this.stages.map((stage) => stage.canvas), ...this.others()]);
    this.draw();
  }

  // A stop of a lecture says which step and which panel; it says so once, and then the visitor may look around.
  obey(stop) {
    if (!stop || stop.stop === this.stop) return;
    this.stop = stop.stop;
    if (this.panels && this.panels.grown !== stop.panel) this.panels.grow(stop.panel ?? null);
    if (this.step !== stop.step) this.go(stop.step, false);
  }

  // ---- time ------------------------------------------------------------------------------------------------------

  play(on) {
    if (!on) return this.pause();
    if (this.count < 2) return;
    if (this.step >= this.count - 1) this.t = this.step = 0;
    this.playing = true;
    this.glide = null;
    this.since = performance.now();
    this.setPlayIcon();
    this.request = requestAnimationFrame(this.frame);
  }

  pause() {
    this.playing = false;
    this.t = this.step;
    this.setPlayIcon();
    this.draw();
    this.say();
  }

  setPlayIcon() {
    super.setPlayIcon();
    this.shell.dataset.playing = String(this.playing);
  }

  setLoop() {
    this.loop = !this.loop;
    this.loopButton.setAttribute("aria-pressed", String(this.loop));
  }

  go(step, tell = true) {
    const target = clamp(step, 0, this.count - 1);
    const from = this.t;
    this.playing = false;
    this.setPlayIcon();
    this.step = target;
    this.glide = this.still || from === target ? null : { from, to: target, at: performance.now(), ms: 380 };
    if (!this.glide) this.t = target;
    cancelAnimationFrame(this.request);
    this.request = requestAnimationFrame(this.frame);
    if (tell) this.say();
  }

  // A single key press is told at once; of several in a row the first, and then the last.
  say() {
    clearTimeout(this.sendTimer);
    const tell = () => {
      if (this.playing || this.said === this.step) return;
      this.saidAt = performance.now();
      this.send("step", (this.said = this.step));
    };
    const rest = 400 - (performance.now() - (this.saidAt ?? -Infinity));
    if (rest <= 0) tell(); else this.sendTimer = setTimeout(tell, Math.max(60, rest));
  }

  frame(now) {
    if (this.playing) {
      const share = ((now - this.since) * this.speed) / PERIOD_MS;
      if (share >= 1) {
        this.since = now;
        const last = this.step + 1 >= this.count - 1;
        this.step = this.step + 1 >= this.count ? 0 : this.step + 1;
        this.t = this.step;
        if (last && !this.loop && this.step === this.count - 1) return this.pause();
      } else if (this.step < this.count - 1) {
        const into = clamp((share - (1 - GLIDE)) / GLIDE, 0, 1);
        this.t = this.still ? this.step : this.step + ease(into) * 0.9999;
      }
    } else if (this.glide) {
      const share = clamp((now - this.glide.at) / this.glide.ms, 0, 1);
      this.t = this.glide.from + (this.glide.to - this.glide.from) * ease(share);
      if (share === 1) { this.t = this.glide.to; this.glide = null; }
    }
    this.odd = Boolean(this.glide) && this.crowded && !this.odd;
    if (!this.odd && this.t !== this.drawn) this.drawMap(); // between two glides of a player that plays nothing moves
    if (this.playing || this.glide) this.request = requestAnimationFrame(this.frame);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target === this.range && event.key.startsWith("Arrow"))) return;
    if (event.target !== this.range && event.target?.matches?.("input, select")) return; // they have keys of their own
    const onButton = event.target?.closest?.("button") && (event.key === " " || event.key === "Enter");
    const way = event.shiftKey && { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      event.preventDefault();
      event.stopPropagation();
      return this.moveCross(...way);
    }
    const wanted = /^[1-9]$/.test(event.key) ? this.longest().steps.findIndex((one) => one.task === Number(event.key) - 1) : -1;
    const actions = { ...(wanted < 0 ? {} : { [event.key]: () => this.go(wanted) }), " ": () => this.play(!this.playing), ArrowLeft: () => this.go(this.step - 1), ArrowRight: () => this.go(this.step + 1),
      "[": () => this.jump(-1), "]": () => this.jump(1), Home: () => this.go(0), End: () => this.go(this.count - 1),
      l: () => this.setLoop(), m: () => this.flip("means"), h: () => this.flip("head"), t: () => this.flip("trails"),
      i: () => this.flip("images"), g: () => this.space?.possible && this.flipSpace(), "+": () => this.zoomAt(1.25, 0, 0), "-": () => this.zoomAt(0.8, 0, 0), 0: () => this.reset(),
      "?": () => { this.help.hidden = !this.help.hidden; this.draw(); }, Escape: () => this.escape(), Enter: () => this.enter(),
      ...(this.data.select ? { v: () => this.setTool("look"), s: () => this.setTool("lasso"), b: () => this.setTool("box"),
        a: () => this.select(new Set(this.visible(this.runs[0]))) } : {}) };
    const action = actions[event.key] || actions[event.key.toLowerCase()];
    if (!action || onButton) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  jump(direction) {
    const steps = this.longest().steps, task = steps[this.step].task;
    let at = this.step;
    while (at + direction >= 0 && at + direction < steps.length && steps[at].task === task) at += direction;
    this.go(at);
  }

  longest() {
    return this.runs.reduce((best, run) => (run.steps.length > best.steps.length ? run : best));
  }

  escape() {
    this.help.hidden = this.menu.hidden = true;
    if (this.panels?.grown) return this.panels.grow(null);
    const busy = this.gesture || this.cross || this.focusTask != null;
    this.gesture = this.cross = this.focusTask = null;
    if (!busy && this.selected.size) return this.select(new Set());
    this.setHover(null);
    this.tellCount();
    this.draw();
  }

  // ---- drawing ---------------------------------------------------------------------------------------------------

  // Everything: something else than the time, the view or the pointer has changed.
  draw() {
    this.panels?.renew();
    this.drawMap();
  }

  // The map, and what follows the step beside it.
  drawMap() {
    if (!this.stages || !this.theme || !this.sizes) return;
    this.drawn = this.t;
    const from = performance.now();
    for (const stage of this.stages) this.space?.on ? this.space.draw(stage) : this.drawStage(stage);
    this.drawTrack();
    this.panels?.draw(this.t, clamp(Math.floor(this.t + 1e-6), 0, this.count - 1));
    const shown = clamp(Math.floor(this.t + 1e-6), 0, this.count - 1), between = this.t % 1 > 0;
    if (this.shell.dataset.step !== String(shown) || this.labelled !== between) { // `labelled` is null after a touch
      this.labelled = between;
      this.shell.dataset.step = String(shown);
      this.range.value = String(Math.round(this.t));
      const text = this.longest().steps[shown].label;
      this.range.setAttribute("aria-valuetext", text);
      this.label.replaceChildren(element("b", {}, text), element("span", {}, this.labelled ? "on the way to the next" : this.longest().steps[shown].note));
      for (const stage of this.stages) stage.number.textContent = this.titleNumber(stage.run, shown);
      if (this.hover) this.fillCard();
      if (this.panels) this.tellFacts(shown);
    }
    if (!this.help.hidden) this.pace.textContent = `this frame took ${(performance.now() - from).toFixed(1)} ms`;
    const task = this.longest().steps[shown].task, told = `${task}:${this.focusTask}`;
    if (this.told === told) return;
    this.told = told;
    for (const [index, chip] of this.focus.length ? [] : this.chips.entries()) {
      chip.setAttribute("aria-pressed", String(this.focusTask === index));
      chip.classList.toggle("future", index > task);
    }
  }
}

Object.assign(Player.prototype, staging, selecting, drawing, telling);

export function mount(root, data, send, habits) {
  return new Player(root, data, send, habits);
}

// The player after its host has been given data: the same one if they are the same, else a new one that keeps how its
// visitor likes it. What the old one measured, hovered or picked says nothing about other data.
export function renew(player, data, send) {
  player.send = send;
  if (data.token === player.data.token) {
    player.applyOverlay(data.overlay);
    player.obey(data.stop);
    return player;
  }
  player.destroy();
  return mount(player.root, data, send, player.habits());
}

function render({ model, el }) {
  el.classList.add("cillab-player");
  // JupyterLab would take "a" for "a cell above"; it looks for this on the focused node itself.
  el.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
  const given = () => ({ ...model.get("data"), guest: true, step: model.get("step") });
  const send = (name, value) => { model.set(name, value); model.save_changes(); };
  let player = mount(el, given(), send);
  const change = () => { player = renew(player, given(), send); };
  const follow = () => model.get("step") !== player.step && player.go(model.get("step"), false);
  model.on("change:data", change);
  model.on("change:step", follow);
  return () => { model.off("change:data", change); model.off("change:step", follow); player.destroy(); };
}

const players = new WeakMap();

export default function (component) {
  if (!component) return { render };
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".cillab-player");
  const old = players.get(root);
  players.set(root, old ? renew(old, data, setStateValue) : mount(root, data, setStateValue));
  return () => { players.get(root)?.destroy(); players.delete(root); };
}
