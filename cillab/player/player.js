// The player: a run's probe points moving through its snapshots, on one or two synchronised canvases.
//
// One plain ES module, no build step. `mount(root, data, send)` does everything; the default export adapts it to
// Streamlit components v2 and, called without a component (as anywidget does), returns a widget with `render`.
// There may be several such widgets on a page: keys count only inside them.
// Coordinates arrive as int16 in a frame that is fixed over the whole run: nothing is rescaled per step, so motion on
// screen is motion of features. Positions between two snapshots exist only to guide the eye; every colour and number
// comes from the snapshot on the left. While playing nothing is sent; `send("step", i)` happens on pause and release.
//
// With `data.select` points can be chosen with a lasso, a box or the keys. `send("selected", {revision, at})` happens once
// a gesture; `at` are positions in the probe, which never change, not places among the points that are drawn. What the
// page decides (filter, classes in focus, selection, chosen image) comes back in `data.overlay` and needs no new data.

const NONE_U16 = 65535; // "no prediction" in `predicted`
const ABSENT = -32768; // "this class has no mean yet" in `means` and `head`
const PERIOD_MS = 1500; // one step at speed 1: rest on the snapshot, then glide to the next
const GLIDE = 0.5; // share of the period spent gliding
const MANY = 1000; // points and marks; of more, a step by hand glides at half the frames: without a GPU charts wait for them
const SPEEDS = [0.5, 1, 2, 4];

// Megabytes at the start of a large run: the browser's own decoder where there is one, else a plain loop (a mapping
// function is called once a byte and takes ten times as long).
function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < out.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}
// All arrays of all runs stand in one piece, as base64 or in the one cell of an Arrow table (`getChildAt`).
const pieceOf = (blob) => (typeof blob === "string" ? bytes(blob) : blob.getChildAt(0).get(0));
const ease = (x) => (x < 0.5 ? 4 * x * x * x : 1 - (-2 * x + 2) ** 3 / 2);
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const percent = (x) => (x == null ? "–" : `${(100 * x).toFixed(1)} %`);

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

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children); // strings become text nodes: names are never parsed as HTML
  return node;
}

// Any opaque CSS colour as #rrggbb; what is none of them counts as white.
function sixDigits(colour) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillStyle = colour;
  return /^#[0-9a-f]{6}$/i.test(context.fillStyle) ? context.fillStyle : "#ffffff";
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  if (["play", "back", "next"].includes(name)) path.setAttribute("class", "solid");
  svg.append(path);
  return svg;
}

function unpack(run, piece) {
  const cut = ([offset, length]) => piece.slice(offset, offset + length);
  const decode = (place, Type) => (place ? new Type(cut(place).buffer) : null);
  return {
    ...run,
    image: run.sprites ? picture(cut(run.sprites.at), run.sprites.kind) : null,
    xy: decode(run.xy, Int16Array),
    cls: decode(run.cls, Uint16Array),
    task: decode(run.task, Uint16Array),
    predicted: decode(run.predicted, Uint16Array),
    margin: decode(run.margin, Int16Array),
    meanTask: decode(run.meanTask, Uint16Array),
    means: decode(run.means, Int16Array),
    head: decode(run.head, Int16Array),
    etf: decode(run.etf, Int16Array),
  };
}

function picture(content, type) {
  const image = new Image(), url = URL.createObjectURL(new Blob([content], { type }));
  image.addEventListener("load", () => URL.revokeObjectURL(url));
  image.src = url;
  return image;
}

class Player {
  constructor(root, data, send, habits = {}) {
    this.root = root;
    this.send = send;
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.view = { zoom: 1, x: 0, y: 0 };
    this.show = { means: true, head: false, trails: false, images: false, etf: true, ...habits.show, ...data.show };
    this.tool = habits.tool ?? "look";
    this.selected = new Set(); // positions in the probe
    this.revision = 0; // of the selection: an echo of an older gesture must not undo a newer one
    this.focus = [];
    this.mask = null;
    this.speed = habits.speed ?? 1;
    this.loop = habits.loop ?? false;
    this.playing = false;
    this.focusTask = null;
    this.hover = null;
    this.picked = null;
    this.frame = this.frame.bind(this);
    this.onDocumentKey = (event) => {
      const at = document.activeElement;
      if (!at || at === document.body) this.key(event);
    };
    if (!data.guest) document.addEventListener("keydown", this.onDocumentKey); // a guest is one of many on its page
    this.themeTimer = setInterval(() => this.readTheme() && this.draw(), 700);
    this.start(data);
    // A page may wait with what is heavy (charts) until the map is on screen: a frame, and then the next free moment.
    if (data.tellReady) requestAnimationFrame(() => setTimeout(() => this.gone || this.send("ready", true)));
  }

  destroy() {
    this.gone = true;
    cancelAnimationFrame(this.request);
    clearInterval(this.themeTimer);
    clearTimeout(this.sendTimer);
    document.removeEventListener("keydown", this.onDocumentKey);
    this.resizes?.disconnect();
    this.root.replaceChildren();
  }

  habits() {
    return { show: this.show, tool: this.tool, speed: this.speed, loop: this.loop };
  }

  // ---- data and layout -------------------------------------------------------------------------------------------

  // Other data make another player: `renew` below.
  start(data) {
    this.data = data;
    const piece = pieceOf(data.blob);
    this.runs = data.runs.map((run) => unpack(run, piece));
    this.count = Math.max(...this.runs.map((run) => run.steps.length));
    this.crowded = this.runs.some((run) => run.cls.length + run.meanTask.length > MANY);
    this.t = this.step = clamp(data.step || 0, 0, this.count - 1);
    this.build();
    for (const run of this.runs) if (run.image) run.image.onload = () => this.draw();
    this.applyOverlay(data.overlay);
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
    const button = (name, label, action) =>
      element("button", { type: "button", title: label, "aria-label": label, onclick: action, class: name }, icon(name));
    this.playButton = button("play", "Play (space)", () => this.toggle());
    this.playButton.classList.add("primary");
    this.loopButton = button("loop", "Loop (L)", () => this.setLoop());
    this.loopButton.setAttribute("aria-pressed", String(this.loop));
    this.speedButton = element("button", { type: "button", class: "text", title: "Speed", onclick: () => this.faster() }, `${this.speed}×`);
    this.label = element("div", { class: "label", "aria-live": "polite" });
    this.range = element("input", {
      type: "range", min: 0, max: this.count - 1, step: 1, value: this.step, "aria-label": "Step",
      oninput: () => this.go(Number(this.range.value), false), onchange: () => this.say(),
    });
    this.track = element("canvas", { "aria-hidden": "true" });
    const bar = element("div", { class: "bar" },
      element("div", { class: "transport", role: "group", "aria-label": "Playback" },
        button("first", "First step (Home)", () => this.go(0)),
        button("back", "Step back (left arrow)", () => this.go(this.step - 1)),
        this.playButton,
        button("next", "Step forward (right arrow)", () => this.go(this.step + 1)),
        button("last", "Last step (End)", () => this.go(this.count - 1)),
        this.loopButton, this.speedButton),
      element("div", { class: "timeline" }, this.track, this.range),
      this.label);
    this.stages = this.runs.map((run, index) => this.stage(run, index));
    const panes = element("div", { class: `panes panes-${this.runs.length}` }, ...this.stages.map((stage) => stage.pane));
    this.card = element("div", { class: "card", hidden: true });
    this.help = element("div", { class: "help", hidden: true, role: "note" });
    for (const [keys, text] of [["space", "play or pause"], ["← →", "one step"], ["[ ]", "previous, next task"],
      ["Home End", "first, last"], ["L", "loop"], ["M H T I", "means, head, trails, images"],
      ["+ − 0", "zoom, whole view"], ["shift ← → ↑ ↓", "move the cross"], ["enter", "choose the image at the cross"],
      ...(this.data.select ? [["V S B", "look, lasso, box"], ["enter, enter", "corners of a box"], ["shift drag", "add, alt takes away"],
        ["A", "all points shown"], ["esc", "no selection"]] : []), ["?", "this list"]]) {
      this.help.append(element("div", {}, element("kbd", {}, keys), text));
    }
    this.options = element("div", { class: "options", role: "group", "aria-label": "What is drawn" });
    this.shell = element("div", { class: "player" }, bar, panes, element("div", { class: "foot" }, this.legend(), this.tools(), this.options), this.card, this.help);
    this.shell.addEventListener("keydown", (event) => this.key(event));
    this.root.replaceChildren(this.shell);
    this.buildOptions();
    this.resizes = new ResizeObserver(() => this.resize());
    for (const stage of this.stages) this.resizes.observe(stage.canvas);
    this.resizes.observe(this.track);
    this.setTool(this.data.select ? this.tool : "look");
    this.theme = this.told = null; // the chips are new: give them their hues again
    this.readTheme();
    this.resize();
  }

  stage(run, index) {
    const canvas = element("canvas", { tabindex: 0, role: "img", "aria-label": run.alt });
    const pane = element("div", { class: "pane" },
      element("div", { class: "title" }, element("span", {}, run.title), element("b", {})), canvas);
    const stage = { run, index, canvas, pane, number: pane.querySelector("b"), context: canvas.getContext("2d") };
    let drag = null;
    const within = (event) => {
      const box = canvas.getBoundingClientRect();
      return [clamp(event.clientX - box.left, 0, box.width), clamp(event.clientY - box.top, 0, box.height)];
    };
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, moved: false };
      if (this.tool !== "look") {
        this.cross = null;
        this.gesture = { stage: index, tool: this.tool, mode: event.altKey ? "less" : event.shiftKey ? "more" : "new", path: [within(event)] };
      }
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointercancel", () => { drag = this.gesture = null; this.tellCount(); this.draw(); });
    canvas.addEventListener("pointermove", (event) => {
      if (drag && this.gesture) {
        if (!drag.moved && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 4) return;
        drag.moved = true;
        this.setHover(null);
        this.extend(within(event));
      } else if (drag) {
        const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
        if (!drag.moved && Math.hypot(dx, dy) < 4) return;
        Object.assign(drag, { moved: true, x: event.clientX, y: event.clientY });
        this.view.x += dx;
        this.view.y += dy;
        this.setHover(null);
        this.draw();
      } else this.setHover(this.hit(stage, event), event);
    });
    canvas.addEventListener("pointerup", (event) => {
      const clicked = drag && !drag.moved, gesture = this.gesture;
      drag = this.gesture = null;
      if (gesture && !clicked) return this.commit(gesture);
      if (clicked) this.pick(this.hit(stage, event));
    });
    canvas.addEventListener("pointerleave", () => this.setHover(null));
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // the page keeps its scroll
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      this.zoomAt(Math.exp(-event.deltaY / 400), event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
    }, { passive: false });
    return stage;
  }

  legend() {
    this.legendBox = element("div", { class: "legend", role: "group" }, ...this.legendItems());
    return this.legendBox;
  }

  // One chip per task, to be pressed; with classes in focus one per class, and everything else is grey.
  legendItems() {
    if (this.focus.length) {
      this.chips = this.focus.map((at) => element("span", { class: "chip" }, element("i", {}), this.runs[0].names[at]));
      return this.chips;
    }
    this.chips = this.data.tasks.map((task, index) =>
      element("button", { type: "button", class: "chip", title: task.title, "aria-pressed": "false", "aria-label": `${task.title}: see it alone`,
        onclick: () => { this.focusTask = this.focusTask === index ? null : index; this.draw(); } },
        element("i", {}), task.label));
    return [element("span", { class: "name" }, "Task"), ...this.chips];
  }

  hueChips() {
    if (this.theme) this.chips.forEach((chip, index) => chip.style.setProperty("--hue", this.colour(index)));
  }

  tools() {
    const box = element("div", { class: "options tools", role: "group", "aria-label": "Select points", hidden: !this.data.select });
    const names = { look: "Look and move (V)", lasso: "Lasso (S)", box: "Box (B)" };
    this.toolButtons = Object.keys(names).map((name) => element("button", { type: "button", class: "toggle tool", title: names[name],
      "aria-label": names[name], "data-tool": name, onclick: () => this.setTool(name) }, icon(name)));
    this.clearButton = element("button", { type: "button", class: "toggle", hidden: true, onclick: () => this.select(new Set()) }, "Clear");
    this.counter = element("output", { class: "counter", "aria-live": "polite" });
    box.append(...this.toolButtons, this.counter, this.clearButton);
    return box;
  }

  setTool(name) {
    this.tool = name;
    this.gesture = null;
    this.shell.dataset.tool = name;
    for (const button of this.toolButtons) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    this.tellCount();
    this.draw();
  }

  buildOptions() {
    const available = { means: this.runs.some((run) => run.means), head: this.runs.some((run) => run.head),
      trails: this.runs.some((run) => run.means), images: this.runs.some((run) => run.image), etf: this.runs.some((run) => run.etf) };
    const names = { means: "Class means", head: "Head rows", trails: "Trails", images: "Images", etf: "Simplex" };
    const toggles = Object.keys(names).filter((name) => available[name]).map((name) =>
      element("button", { type: "button", class: "toggle", "aria-pressed": String(this.show[name]), "data-show": name,
        onclick: () => this.flip(name) }, names[name]));
    this.options.replaceChildren(...toggles,
      element("button", { type: "button", class: "toggle round", title: "Keys (?)", "aria-label": "Keys",
        onclick: () => { this.help.hidden = !this.help.hidden; } }, "?"));
  }

  flip(name) {
    this.show[name] = !this.show[name];
    for (const node of this.options.querySelectorAll("[data-show]")) node.setAttribute("aria-pressed", String(this.show[node.dataset.show]));
    this.draw();
  }

  readTheme() {
    const style = getComputedStyle(this.root.host || this.root);
    const read = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
    const page = read("--st-background-color", "#ffffff");
    if (this.theme?.page === page) return false;
    const hex = sixDigits(page), [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const dark = r * 0.299 + g * 0.587 + b * 0.114 < 128;
    this.theme = { page, dark, ink: read("--st-text-color", dark ? "#e8e6e1" : "#1f2328"),
      colours: this.data.colours[dark ? "dark" : "light"], font: read("--st-font", "system-ui, sans-serif") };
    this.shell.dataset.theme = dark ? "dark" : "light";
    this.hueChips();
    return true;
  }

  colour(task) {
    return this.theme.colours[task % this.theme.colours.length];
  }

  // Sizes are read here and nowhere else: asking the browser in every frame makes it lay out the whole page each time,
  // charts and all, which takes longer than everything that is drawn.
  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.sizes = new Map();
    for (const canvas of [...this.stages.map((stage) => stage.canvas), this.track]) {
      const size = { width: canvas.clientWidth, height: canvas.clientHeight };
      this.sizes.set(canvas, size);
      const width = Math.round(size.width * ratio), height = Math.round(size.height * ratio);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
    this.draw();
  }

  // ---- time ------------------------------------------------------------------------------------------------------

  toggle() {
    if (this.playing) return this.pause();
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
    this.playButton.replaceChildren(icon(this.playing ? "pause" : "play"));
    this.playButton.setAttribute("aria-label", this.playing ? "Pause (space)" : "Play (space)");
    this.shell.dataset.playing = String(this.playing);
  }

  setLoop() {
    this.loop = !this.loop;
    this.loopButton.setAttribute("aria-pressed", String(this.loop));
  }

  faster() {
    this.speed = SPEEDS[(SPEEDS.indexOf(this.speed) + 1) % SPEEDS.length];
    this.speedButton.textContent = `${this.speed}×`;
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
    if (!this.odd) this.draw();
    if (this.playing || this.glide) this.request = requestAnimationFrame(this.frame);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target === this.range && event.key.startsWith("Arrow"))) return;
    const onButton = event.target?.closest?.("button") && (event.key === " " || event.key === "Enter");
    const way = event.shiftKey && { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      event.preventDefault();
      event.stopPropagation();
      return this.moveCross(...way);
    }
    const actions = { " ": () => this.toggle(), ArrowLeft: () => this.go(this.step - 1), ArrowRight: () => this.go(this.step + 1),
      "[": () => this.jump(-1), "]": () => this.jump(1), Home: () => this.go(0), End: () => this.go(this.count - 1),
      l: () => this.setLoop(), m: () => this.flip("means"), h: () => this.flip("head"), t: () => this.flip("trails"),
      i: () => this.flip("images"), "+": () => this.zoomAt(1.25, 0, 0), "-": () => this.zoomAt(0.8, 0, 0), 0: () => this.reset(),
      "?": () => { this.help.hidden = !this.help.hidden; }, Escape: () => this.escape(), Enter: () => this.enter(),
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
    this.help.hidden = true;
    const busy = this.gesture || this.cross || this.focusTask != null;
    this.gesture = this.cross = this.focusTask = null;
    if (!busy && this.selected.size) return this.select(new Set());
    this.setHover(null);
    this.tellCount();
    this.draw();
  }

  // ---- selection -------------------------------------------------------------------------------------------------

  // A point that the page filters out or that another task's chip hides can neither be hovered nor selected.
  shown(run, i) {
    return !(this.mask && !this.mask[i]) && !(this.focusTask != null && run.task[i] !== this.focusTask);
  }

  visible(run) {
    return [...run.cls.keys()].filter((i) => this.shown(run, i));
  }

  extend(point) {
    const { path, tool } = this.gesture, last = path[path.length - 1];
    if (tool === "box") path[1] = point;
    else if (Math.hypot(point[0] - last[0], point[1] - last[1]) >= 3) path.push(point);
    this.tellCount();
    this.draw();
  }

  outline({ tool, path }) {
    if (tool !== "box" || path.length < 2) return path;
    const [[a, b], [c, d]] = path;
    return [[a, b], [c, b], [c, d], [a, d]];
  }

  // Positions in the probe of the visible points inside the outline, by the even-odd rule.
  inside(gesture) {
    const stage = this.stages[gesture.stage], run = stage.run, at = this.between(run), outline = this.outline(gesture);
    if (!at || outline.length < 3) return [];
    const g = this.geometry(stage), n = run.cls.length;
    return this.visible(run).filter((i) => {
      const a = 2 * (at.left * n + i), b = 2 * (at.right * n + i);
      const x = g.x + (run.xy[a] + (run.xy[b] - run.xy[a]) * at.share) * g.scale;
      const y = g.y - (run.xy[a + 1] + (run.xy[b + 1] - run.xy[a + 1]) * at.share) * g.scale;
      let odd = false;
      for (let k = 0, j = outline.length - 1; k < outline.length; j = k++) {
        const [xk, yk] = outline[k], [xj, yj] = outline[j];
        if (yk > y !== yj > y && x < ((xj - xk) * (y - yk)) / (yj - yk) + xk) odd = !odd;
      }
      return odd;
    });
  }

  merged(gesture) {
    const found = this.inside(gesture);
    if (gesture.mode === "new") return new Set(found);
    const both = new Set(this.selected);
    for (const i of found) gesture.mode === "more" ? both.add(i) : both.delete(i);
    return both;
  }

  commit(gesture) {
    this.select(this.merged(gesture));
  }

  select(chosen) {
    this.selected = chosen;
    this.gesture = null;
    this.revision += 1;
    this.send("selected", { revision: this.revision, at: [...chosen].sort((a, b) => a - b) });
    this.tellCount();
    this.draw();
  }

  tellCount() {
    const count = (this.gesture ? this.merged(this.gesture) : this.selected).size;
    const idle = this.tool === "look" ? "" : this.tool === "lasso" ? "draw around points" : "draw a box";
    this.counter.textContent = count || this.gesture ? `${count} selected` : idle;
    this.clearButton.hidden = !this.selected.size || Boolean(this.gesture);
    this.shell.dataset.selected = String(this.selected.size);
  }

  pick(found) {
    this.picked = found && !(this.picked?.index === found.index && this.picked.run === found.run) ? found : null;
    this.send("picked", this.picked ? String(this.runs[found.run].ids[found.index]) : null);
    this.draw();
  }

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
    this.draw();
  }

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
    this.draw();
  }

  // ---- pointer ---------------------------------------------------------------------------------------------------

  zoomAt(factor, x, y) {
    const zoom = clamp(this.view.zoom * factor, 0.5, 40), ratio = zoom / this.view.zoom;
    this.view = { zoom, x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio };
    this.draw();
  }

  reset() {
    this.view = { zoom: 1, x: 0, y: 0 };
    this.draw();
  }

  geometry({ canvas, run }) {
    const { width, height } = this.sizes.get(canvas), frame = run.frame;
    const scale = Math.min((width - 44) / frame.width, (height - 40) / frame.height) * this.view.zoom; // one for x and y
    return { width, height, scale, x: width / 2 + this.view.x - frame.x * scale, y: height / 2 + this.view.y + frame.y * scale };
  }

  between(run) {
    const top = run.steps.length - 1;
    if (this.t > top + 0.5) return null;
    const left = clamp(Math.floor(this.t), 0, top);
    return { left, right: Math.min(left + 1, top), share: clamp(this.t - left, 0, 1) };
  }

  hit(stage, event) {
    const { run, canvas } = stage, at = this.between(run);
    if (!at) return null;
    const box = canvas.getBoundingClientRect(), g = this.geometry(stage), n = run.cls.length;
    const px = event.clientX - box.left, py = event.clientY - box.top, now = run.steps[at.left].task;
    let best = this.show.images ? 18 : 11, index = -1;
    for (let i = 0; i < n; i++) {
      if (!this.shown(run, i)) continue;
      const a = 2 * (at.left * n + i);
      const away = Math.hypot(g.x + run.xy[a] * g.scale - px, g.y - run.xy[a + 1] * g.scale - py) + (run.task[i] > now ? 4 : 0);
      if (away < best) { best = away; index = i; }
    }
    return index < 0 ? null : { run: stage.index, index };
  }

  setHover(found, event) {
    const same = this.hover?.index === found?.index && this.hover?.run === found?.run;
    this.hover = found;
    if (found && event) this.placeCard(event);
    if (!same) { this.fillCard(); this.draw(); }
  }

  placeCard(event) {
    const box = this.shell.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    this.card.style.left = `${clamp(x > box.width - 290 ? x - 276 : x + 18, 0, Math.max(0, box.width - 258))}px`;
    this.card.style.top = `${clamp(y - 30, 8, Math.max(8, box.height - 170))}px`;
  }

  fillCard() {
    this.card.hidden = !this.hover;
    if (!this.hover) return;
    const run = this.runs[this.hover.run], i = this.hover.index, at = this.between(run);
    if (!at) { this.card.hidden = true; return; }
    const cell = at.left * run.cls.length + i, answer = run.predicted ? run.predicted[cell] : NONE_U16;
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
  }

  // ---- drawing ---------------------------------------------------------------------------------------------------

  draw() {
    if (!this.stages || !this.theme || !this.sizes) return;
    for (const stage of this.stages) this.drawStage(stage);
    this.drawTrack();
    const shown = clamp(Math.floor(this.t + 1e-6), 0, this.count - 1), between = this.t % 1 > 0;
    if (this.shell.dataset.step !== String(shown) || this.labelled !== between) {
      this.labelled = between;
      this.shell.dataset.step = String(shown);
      this.range.value = String(Math.round(this.t));
      const text = this.longest().steps[shown].label;
      this.range.setAttribute("aria-valuetext", text);
      this.label.replaceChildren(element("b", {}, text), element("span", {}, this.labelled ? "on the way to the next" : this.longest().steps[shown].note));
      for (const stage of this.stages) stage.number.textContent = stage.run.accuracy ? percent(stage.run.accuracy[shown]) : "";
      if (this.hover) this.fillCard();
    }
    const task = this.longest().steps[shown].task, told = `${task}:${this.focusTask}`;
    if (this.told === told) return;
    this.told = told;
    for (const [index, chip] of this.focus.length ? [] : this.chips.entries()) {
      chip.setAttribute("aria-pressed", String(this.focusTask === index));
      chip.classList.toggle("future", index > task);
    }
  }

  drawStage(stage) {
    const { run, index, context: c } = stage;
    const ratio = window.devicePixelRatio || 1, g = this.geometry(stage), n = run.cls.length;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, g.width, g.height);
    const at = this.between(run);
    if (!at) return this.drawMissing(c, g);
    const { left, right, share } = at, now = run.steps[left].task, xy = run.xy;
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
    const some = live.size > 0, rings = new Path2D();
    for (let i = 0; i < n; i++) {
      if (this.mask && !this.mask[i]) continue;
      const [a, b] = X(n, i), x = px(a, b), y = py(a, b), task = run.task[i];
      if (x < -20 || y < -20 || x > g.width + 20 || y > g.height + 20) continue;
      const taken = some && live.has(i), pale = some && !taken;
      if (taken) { rings.moveTo(x + base + 2.2, y); rings.arc(x, y, base + 2.2, 0, 6.2832); }
      const hue = this.focus.length ? this.focus.indexOf(run.cls[i]) : task;
      const dim = hue < 0 || (this.focusTask != null && task !== this.focusTask);
      if (task > now || dim) { put(task > now ? "-2" : "-1", x, y, base * 0.7); continue; }
      if (this.show.images && run.image?.naturalWidth) { pictures.push([i, x, y, hue, pale]); continue; }
      const answer = run.predicted ? run.predicted[left * n + i] : NONE_U16;
      const wrong = answer !== NONE_U16 && answer !== run.cls[i];
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
    if (some) { c.lineWidth = 1.3; c.strokeStyle = this.theme.ink; c.stroke(rings); }
    if (this.show.trails && run.means) this.drawTrails(c, g, run, left);
    if (this.show.etf && run.etf) this.drawMarks(c, run, run.etf, X, px, py, "square", left);
    if (this.show.head && run.head) this.drawMarks(c, run, run.head, X, px, py, "cross", left);
    if (this.show.means && run.means) this.drawMarks(c, run, run.means, X, px, py, "diamond", left);
    for (const [mark, width] of [[this.picked, 2.5], [this.hover, 1.8]]) {
      if (!mark || (mark.run !== index && !this.sameProbe(mark.run, index))) continue;
      this.drawTrace(c, g, run, mark.index, left);
      const [a, b] = X(n, mark.index);
      c.beginPath(); c.arc(px(a, b), py(a, b), base + 5, 0, 6.2832);
      c.lineWidth = width; c.strokeStyle = this.theme.ink; c.stroke();
    }
    this.drawGesture(c, index);
  }

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
  }

  // Which hue a class's mark has: that of its task, or its place among the classes in focus; -1 = not drawn.
  markHue(run, i) {
    if (this.focus.length) return this.focus.indexOf(i);
    return this.focusTask != null && run.meanTask[i] !== this.focusTask ? -1 : run.meanTask[i];
  }

  sameProbe(one, other) {
    return this.runs[one].probe === this.runs[other].probe;
  }

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
  }

  paintMark(c, path, kind, hue) {
    if (kind === "diamond") { c.fillStyle = this.colour(hue); c.fill(path); }
    c.lineWidth = 4; c.strokeStyle = this.theme.page; // a halo keeps a mark apart from the points under it
    if (kind !== "diamond") c.stroke(path);
    c.lineWidth = kind === "diamond" ? 1.5 : 2.2;
    c.strokeStyle = kind === "diamond" ? this.theme.ink : this.colour(hue);
    c.stroke(path);
  }

  // Trails change with the step, the view and the choice of classes, not with the frame: they are kept as a picture.
  drawTrails(c, g, run, left) {
    const ratio = window.devicePixelRatio || 1;
    const key = [run.title, left, g.x, g.y, g.scale, g.width, g.height, ratio, this.theme.page, this.focus, this.focusTask].join("|");
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
  }

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
  }

  drawTrace(c, g, run, i, left) {
    const n = run.cls.length;
    c.beginPath();
    for (let s = 0; s <= left; s++) {
      const a = 2 * (s * n + i);
      c.lineTo(g.x + run.xy[a] * g.scale, g.y - run.xy[a + 1] * g.scale);
    }
    c.globalAlpha = 0.5; c.lineWidth = 1; c.strokeStyle = this.theme.ink; c.stroke(); c.globalAlpha = 1;
  }

  drawImages(c, run, pictures) {
    const size = clamp(15 * this.view.zoom ** 0.5, 14, 44), { tile, columns } = run.sprites || {};
    for (const [i, x, y, hue, pale] of pictures) {
      c.globalAlpha = pale ? 0.25 : 1;
      c.drawImage(run.image, (i % columns) * tile, Math.floor(i / columns) * tile, tile, tile, x - size / 2, y - size / 2, size, size);
      c.lineWidth = 1.2; c.strokeStyle = this.colour(hue); c.strokeRect(x - size / 2, y - size / 2, size, size);
    }
    c.globalAlpha = 1;
  }

  drawMissing(c, g) {
    c.strokeStyle = this.theme.ink; c.globalAlpha = 0.08; c.lineWidth = 1; c.beginPath();
    for (let x = -g.height; x < g.width; x += 12) { c.moveTo(x, g.height); c.lineTo(x + g.height, 0); }
    c.stroke(); c.globalAlpha = 0.7; c.fillStyle = this.theme.ink; c.textAlign = "center"; c.font = `14px ${this.theme.font}`;
    c.fillText("no snapshot here", g.width / 2, g.height / 2); c.globalAlpha = 1;
  }

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
      c.globalAlpha = s <= this.t + 0.01 ? 1 : 0.35; c.fillStyle = this.colour(step.task);
      c.beginPath(); c.arc(x(s), height - 8.5, radius, 0, 6.2832); c.fill();
    });
    c.globalAlpha = 1; c.strokeStyle = this.theme.ink; c.lineWidth = 1.6;
    c.beginPath(); c.moveTo(x(this.t), 2); c.lineTo(x(this.t), height - 1); c.stroke();
  }
}

export function mount(root, data, send, habits) {
  return new Player(root, data, send, habits);
}

// The player after its host has been given data: the same one if they are the same, else a new one that keeps how its
// visitor likes it. What the old one measured, hovered or picked says nothing about other data.
export function renew(player, data, send) {
  player.send = send;
  if (data.token === player.data.token) {
    player.applyOverlay(data.overlay);
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
