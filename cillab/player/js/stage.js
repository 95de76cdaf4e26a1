// What stands around the map: its canvas and pointer, the legend, the tools, the toggles. Methods of `Player`.

import { clamp, element, icon } from "./dom.js";

export const staging = {
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
    canvas.addEventListener("pointercancel", () => { drag = this.gesture = null; this.tellCount(); this.drawMap(); });
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
        this.drawMap();
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
  },

  legend() {
    this.legendBox = element("div", { class: "legend", role: "group" }, ...this.legendItems());
    return this.legendBox;
  },

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
  },

  hueChips() {
    if (this.theme) this.chips.forEach((chip, index) => chip.style.setProperty("--hue", this.colour(index)));
  },

  tools() {
    const box = element("div", { class: "options tools", role: "group", "aria-label": "Select points", hidden: !this.data.select });
    const names = { look: "Look and move (V)", lasso: "Lasso (S)", box: "Box (B)" };
    this.toolButtons = Object.keys(names).map((name) => element("button", { type: "button", class: "toggle tool", title: names[name],
      "aria-label": names[name], "data-tool": name, onclick: () => this.setTool(name) }, icon(name)));
    this.clearButton = element("button", { type: "button", class: "toggle", hidden: true, onclick: () => this.select(new Set()) }, "Clear");
    this.counter = element("output", { class: "counter", "aria-live": "polite" });
    box.append(...this.toolButtons, this.counter, this.clearButton);
    return box;
  },

  setTool(name) {
    this.tool = name;
    this.gesture = null;
    this.shell.dataset.tool = name;
    for (const button of this.toolButtons) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    this.tellCount();
    this.drawMap();
  },

  buildOptions() {
    const available = { means: this.runs.some((run) => run.means), head: this.runs.some((run) => run.head),
      trails: this.runs.some((run) => run.means), images: this.runs.some((run) => run.image), etf: this.runs.some((run) => run.etf) };
    const names = { means: "Class means", head: "Head rows", trails: "Trails", images: "Images", etf: "Simplex" };
    const toggles = Object.keys(names).filter((name) => available[name]).map((name) =>
      element("button", { type: "button", class: "toggle", "aria-pressed": String(this.show[name]), "data-show": name,
        onclick: () => this.flip(name) }, names[name]));
    if (this.space?.possible) toggles.push(element("button", { type: "button", class: "toggle", "aria-pressed": String(this.space.on), "data-space": true,
      title: "Three or four classes in space (G)", onclick: () => this.flipSpace() }, "Frame"));
    this.options.replaceChildren(...toggles,
      element("button", { type: "button", class: "toggle round", title: "Take the map along", "aria-label": "Take the map along", "data-menu": true,
        onclick: () => { this.menu.hidden = !this.menu.hidden; } }, "⤓"),
      element("button", { type: "button", class: "toggle round", title: "Keys (?)", "aria-label": "Keys",
        onclick: () => { this.help.hidden = !this.help.hidden; } }, "?"), this.menu);
  },

  flipSpace() {
    this.space.flip();
    this.options.querySelector("[data-space]").setAttribute("aria-pressed", String(this.space.on));
  },

  flip(name) {
    this.show[name] = !this.show[name];
    for (const node of this.options.querySelectorAll("[data-show]")) node.setAttribute("aria-pressed", String(this.show[node.dataset.show]));
    this.drawMap();
  },
};
