// What the player and the toy have in common: a row of buttons that plays and steps, the page's theme, measured canvases.

import { element, icon, sixDigits } from "./dom.js";

const SPEEDS = [0.5, 1, 2, 4];
const WIDE = 1600; // pixels: words in drawings are larger on a screen that is seen from further away

export class View {
  // `this.step` of `this.count` is shown; a view says how with `go`, `play` and `draw`, and its hues with `hues`.
  constructor(root) {
    this.root = root;
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.speed = 1;
    this.playing = false;
    this.themeTimer = setInterval(() => this.readTheme() && this.draw(), 700);
  }

  destroy() {
    this.gone = true;
    cancelAnimationFrame(this.request);
    clearInterval(this.themeTimer);
    this.resizes?.disconnect();
    this.root.replaceChildren();
  }

  // The buttons, by what a step is called: "step" or "frame".
  transport(what, ...more) {
    const capital = what[0].toUpperCase() + what.slice(1);
    this.playButton = this.button("play", "Play (space)", () => this.play(!this.playing));
    this.playButton.classList.add("primary");
    this.speedButton = element("button", { type: "button", class: "text", title: "Speed", "aria-label": "Speed", onclick: () => this.faster() },
      `${this.speed}×`);
    return element("div", { class: "transport", role: "group", "aria-label": "Playback" },
      this.button("first", `First ${what} (Home)`, () => this.go(0)),
      this.button("back", `${capital} back (left arrow)`, () => this.go(this.step - 1)),
      this.playButton,
      this.button("next", `${capital} forward (right arrow)`, () => this.go(this.step + 1)),
      this.button("last", `Last ${what} (End)`, () => this.go(this.count - 1)),
      ...more, this.speedButton);
  }

  button(name, label, action) {
    return element("button", { type: "button", title: label, "aria-label": label, onclick: action, class: name }, icon(name));
  }

  setPlayIcon() {
    const label = this.playing ? "Pause (space)" : "Play (space)";
    this.playButton.replaceChildren(icon(this.playing ? "pause" : "play"));
    this.playButton.setAttribute("aria-label", label);
    this.playButton.title = label;
  }

  faster() {
    this.speed = SPEEDS[(SPEEDS.indexOf(this.speed) + 1) % SPEEDS.length];
    this.speedButton.textContent = `${this.speed}×`;
  }

  // True if the page has another theme than before.
  readTheme() {
    const style = getComputedStyle(this.root.host || this.root);
    const read = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
    const page = read("--st-background-color", "#ffffff");
    if (this.theme?.page === page) return false;
    const hex = sixDigits(page), [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const dark = r * 0.299 + g * 0.587 + b * 0.114 < 128;
    this.theme = { page, dark, ink: read("--st-text-color", dark ? "#e8e6e1" : "#1f2328"), colours: this.hues[dark ? "dark" : "light"],
      runs: dark ? ["#7d97ff", "#f2a65a"] : ["#3b5bdb", "#c2571a"], font: read("--st-font", "system-ui, sans-serif") };
    return true;
  }

  colour(task) {
    return this.theme.colours[task % this.theme.colours.length];
  }

  // Sizes are read here and nowhere else: asking the browser in every frame makes it lay out the whole page each time,
  // charts and all, which takes longer than everything that is drawn.
  measure(canvases) {
    if (this.theme) this.theme.scale = "lecture" in document.documentElement.dataset ? 1.35 : this.root.clientWidth > WIDE ? 1.15 : 1;
    const ratio = window.devicePixelRatio || 1;
    this.sizes = new Map();
    for (const canvas of canvases) {
      const size = { width: canvas.clientWidth, height: canvas.clientHeight };
      this.sizes.set(canvas, size);
      const width = Math.round(size.width * ratio), height = Math.round(size.height * ratio);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
  }

  // An empty canvas to draw on, in CSS pixels: [pen, width, height].
  surface(canvas) {
    const pen = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1, { width, height } = this.sizes.get(canvas);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return [pen, width, height];
  }
}
