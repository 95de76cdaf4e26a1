// The learner itself, awake in the host: its mixing weights under one's fingers, and Grad-CAM of what is touched. The host
// says how far it is and answers; one question is on its way at a time, and the newest waits. Answers come as a window's
// event, `cillab-touched`, since the data of the player would be sent anew with each of them; questions go out as another
// one, `cillab-ask`, for the same reason.

import { bytes, clamp, element, number } from "./dom.js";

const PATIENCE_MS = 4000; // then the next question goes out although no answer came
const PRESETS = [["As learnt", () => 1], ["All off", () => 0], ["Newest only", (at, n) => (at === n - 1 ? 1 : 0)], ["Without the newest", (at, n) => (at === n - 1 ? 0 : 1)]];

export class Mixer {
  constructor(player, changed) {
    this.player = player;
    this.changed = changed; // an answer came
    this.factors = null;
    this.answer = null;
    this.asked = 0;
    this.node = element("div", { class: "mixer", hidden: true });
    this.hear = (event) => this.told(event.detail);
    window.addEventListener("cillab-touched", this.hear);
    setTimeout(() => window.cillabTouched && this.told(window.cillabTouched)); // once the player has its theme
  }

  destroy() {
    window.removeEventListener("cillab-touched", this.hear);
  }

  get moved() {
    return Boolean(this.factors?.some((factor) => factor !== 1));
  }

  // What the host says: about which run and step, how far, and the last answer.
  told(status) {
    if (status.token !== this.player.data.token) return;
    const before = this.status;
    this.status = status;
    if (before?.state !== status.state || before?.step !== status.step || status.state === "waking") this.build();
    if (before && before.step !== status.step) { this.factors = this.answer = null; }
    if (before?.state !== status.state || before?.step !== status.step) this.index = null; // its maps are another learner's
    if (status.answer && status.answer.at > (this.answer?.at ?? 0) && status.answer.at >= this.from) this.take(status.answer);
    this.describe();
    if (this.index == null && status.state === "awake") this.changed(); // what is drawn now asks for its maps
  }

  // Maps that no run has recorded come from the learner, also when nothing is touched.
  get alone() {
    return !this.player.runs[0].panels.cams?.maps;
  }

  take(answer) {
    this.answer = { ...answer, predicted: new Uint16Array(bytes(answer.predicted).buffer), xy: answer.xy && new Int16Array(bytes(answer.xy).buffer), step: this.status.step,
      cam: answer.cam && { ...answer.cam, maps: Object.fromEntries(Object.entries(answer.cam.maps).map(([name, text]) => [name, new Float32Array(bytes(text).buffer)])) } };
    this.node.dataset.answered = answer.at;
    this.took = performance.now() - this.sentAt;
    this.waiting = false;
    this.changed();
    if (this.next) this.send();
  }

  // Ask what these weights and this head answer; several wishes become one.
  ask() {
    if (this.status?.state !== "awake") return;
    this.next = true;
    if (!this.waiting || performance.now() - this.sentAt > PATIENCE_MS) this.send();
  }

  send() {
    const { touch } = this.player;
    this.next = false;
    this.waiting = true;
    this.sentAt = performance.now();
    this.asked = Math.max(this.asked + 1, Date.now());
    this.from ??= this.asked;
    const detail = { at: this.asked, head: touch.head, factors: this.factors, index: this.index ?? null, step: this.status.step };
    window.dispatchEvent(new CustomEvent("cillab-ask", { detail }));
  }

  // The image whose maps are wanted.
  look(index) {
    if (this.index === index || this.status?.state !== "awake" || !(this.player.touch.active || this.alone)) return;
    this.index = index;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), 60);
  }

  set(at, value) {
    this.factors ??= Array(this.status.terms).fill(1);
    this.factors[at] = value;
    this.show();
    this.ask();
  }

  show() {
    this.faders?.forEach(({ input, out, off }, at) => {
      const factor = this.factors?.[at] ?? 1;
      input.value = factor; out.textContent = factor.toFixed(2).replace(/0$/, "");
      off.setAttribute("aria-pressed", String(factor === 0));
    });
    this.changed();
  }

  build() {
    const { state, words, share, terms, kept, step } = this.status, button = (text, act, more = {}) => element("button", { type: "button", class: "toggle", onclick: act, ...more }, text);
    const say = (what) => this.player.send("touch", { ask: what, at: Date.now(), step });
    this.faders = null;
    this.more = { stop: button("Stop measuring", () => say("stop"), { "data-stop": true }), on: button("Measure on", () => say("wake"), { "data-wake": true }) };
    this.node.hidden = false;
    this.node.dataset.state = state;
    this.line = element("span", { class: "line", "aria-live": "polite" }, words ?? "");
    const parts = { asleep: () => [button("Wake the learner", () => say("wake"), { "data-wake": true }), this.line],
      stopped: () => [button("Wake the learner", () => say("wake"), { "data-wake": true }), this.line],
      failed: () => [this.line],
      none: () => [this.line, ...(kept?.length ? [button(`Go to ${this.player.runs[0].steps[kept.at(-1)].label.toLowerCase()}`, () => this.player.go(kept.at(-1)))] : [])],
      waking: () => [button("Stop", () => say("stop"), { "data-stop": true }), element("progress", { max: 1, value: share || false, "aria-label": "Waking" }), this.line],
      awake: () => this.board(terms, button) };
    this.node.replaceChildren(element("span", { class: "name" }, "Learner"), ...(parts[state] ?? parts.failed)());
  }

  board(terms, button) {
    if (!terms) return [this.line];
    const presets = element("div", { class: "presets", role: "group", "aria-label": "Mixtures" }, ...PRESETS.filter((_, at) => terms > 1 || at < 2).map(([name, of]) =>
      button(name, () => { this.factors = Array.from({ length: terms }, (_, at) => of(at, terms)); this.show(); this.ask(); }, { "data-preset": name })), ...Object.values(this.more), this.line);
    this.faders = Array.from({ length: terms }, (_, at) => {
      const input = element("input", { type: "range", min: 0, max: 2, step: 0.05, value: 1, "data-term": at, "aria-label": `Weight of task ${at + 1}, times`,
        oninput: () => this.set(at, Number(input.value)), ondblclick: () => this.set(at, 1) });
      const out = element("output", {}, "1"), off = element("button", { type: "button", class: "off", title: `Task ${at + 1} off or on`, "aria-label": `Task ${at + 1} off`, "aria-pressed": "false",
        "data-off": at, onclick: () => this.set(at, (this.factors?.[at] ?? 1) === 0 ? 1 : 0) }, String(at + 1));
      return { input, out, off, node: element("div", { class: "fader", style: `--hue: ${this.player.colour(at)}` }, out, input, off) };
    });
    return [element("div", { class: "board" }, element("div", { class: "faders" }, ...this.faders.map((one) => one.node)), presets)];
  }

  describe() {
    const { state, words, agreement, terms, measuring, halted } = this.status;
    if (state !== "awake" || !this.line) return;
    const now = this.answer, close = agreement == null ? "" : `, agreed on ${Math.round(100 * agreement)} % of trial answers`;
    this.more.stop.hidden = !measuring; // in place: a fader may be held
    this.more.on.hidden = !halted;
    const meanwhile = !terms || !(measuring || halted) ? "" : ` ${measuring || "Not all mixtures were measured."} Others are answered by the learner itself, which takes longer.`;
    this.line.textContent = (!terms ? words : !now || !this.moved ? "A factor multiplies the weight of a task's term in every layer. Drag, or press a number to switch it off."
      : `${now.exact ? "Measured: these are the learner's own answers" : `≈ interpolated between measured mixtures${close}`}. ${Math.round(this.took)} ms, ${Math.round(now.ms)} of them in the learner.`) + meanwhile;
  }
}

// Grad-CAM of what is touched, if the answer has it for this image and step.
export function touchedMaps(player, run, index, step) {
  const { touch } = player, answer = touch?.mixer?.answer;
  if (!(touch?.active || touch?.mixer?.alone) || run !== player.runs[0] || !answer?.cam || answer.step !== step || answer.cam.index !== index || answer.head !== touch.head) return null;
  const most = Math.max(0, ...Object.values(answer.cam.maps).flatMap((map) => [...map]));
  return { ...answer.cam, at: answer.at, most: clamp(most, 0, Infinity), floors: touch.head === "learned" ? touch.mixer.status.floors ?? [] : [], words: `up to ${number(most)}` };
}
