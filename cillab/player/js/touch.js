// What a visitor may touch: another head on the same features, and, once the learner is awake, its mixing weights (the
// mixer). Answers of the heads came with the points, so that map and accuracy follow within the frame, at every step, also
// while playing. What is shown then is counted on the probe images and says so: of the test set only the learner's own
// answers are recorded.

import { NONE_U16 } from "./data.js";
import { element, percent } from "./dom.js";
import { Mixer } from "./mixer.js";

const TELL_MS = 400; // then the address says which head answers: the page reruns for that, and a question must not wait for it

export class Touch {
  constructor(player, head) {
    this.player = player;
    const names = new Map(player.runs.flatMap((run) => run.panels.heads.map((one) => [one.name, one.title])));
    this.titles = new Map([["learned", "Learned"], ...names]);
    this.head = this.titles.has(head) ? head : "learned";
    this.buttons = [...this.titles].map(([name, title]) => element("button", { type: "button", class: "toggle", "data-head": name,
      title: name === "learned" ? "As the learner answered" : "Made from the training images as they are measured at each step, of all classes seen",
      onclick: () => this.choose(name) }, title));
    this.mixer = player.data.live ? new Mixer(player, () => { this.apply(); player.touched?.(); }) : null;
    const heads = element("div", { class: "heads", role: "group", "aria-label": "Head: who answers", hidden: this.titles.size < 2 }, element("span", { class: "name" }, "Head"), ...this.buttons);
    this.node = element("div", { class: "touch" }, heads, ...(this.mixer ? [this.mixer.node] : []));
    this.apply();
  }

  get active() {
    return this.head !== "learned" || Boolean(this.mixer?.moved);
  }

  get title() {
    const head = this.titles.get(this.head);
    return !this.mixer?.moved ? head : this.head === "learned" ? "this mixture" : `this mixture, ${head}`;
  }

  choose(name) {
    if (this.head === name) return;
    this.head = name;
    this.apply();
    this.mixer?.ask();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.player.send("head", name), TELL_MS);
    this.player.touched();
  }

  apply() {
    for (const run of this.player.runs) run.moved = null, run.shown = run.panels.heads.find((one) => one.name === this.head)?.predicted ?? run.predicted;
    const [run] = this.player.runs, answer = this.mixer?.answer;
    if (this.mixer?.moved && answer?.head === this.head) { // of one step: the learner that is awake
      run.shown = run.shown.slice();
      run.shown.set(answer.predicted, answer.step * run.cls.length);
      if (answer.xy) run.moved = { step: answer.step, xy: answer.xy };
    }
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.head === this.head));
  }
}

// The probe images of a step whose classes are seen: how many are right, by task, for two sets of answers.
export function counted(run, step) {
  const n = run.cls.length, now = run.steps[step].task, tasks = Array.from({ length: now + 1 }, () => ({ all: 0, before: 0, after: 0 }));
  const sum = { all: 0, before: 0, after: 0, changed: 0, fixed: 0, lost: 0 };
  for (let i = 0; i < n; i++) {
    const task = run.task[i], one = run.predicted[step * n + i], other = run.shown[step * n + i];
    if (task > now || other === NONE_U16) continue;
    const was = one === run.cls[i], is = other === run.cls[i];
    for (const into of [sum, tasks[task]]) { into.all += 1; into.before += was; into.after += is; }
    sum.changed += one !== other; sum.fixed += is && !was; sum.lost += was && !is;
  }
  return { tasks, sum };
}

// The rows under the map while something is touched: as learned and now, on the probe.
export function touchedNumbers(player, step) {
  const heads = ["all seen", "earlier", "this task", "changed", "now right", "now wrong"], two = player.runs.length > 1;
  const rows = player.runs.flatMap((run, at) => {
    if (step >= run.steps.length) return [];
    const { tasks, sum } = counted(run, step), older = tasks.slice(0, -1), newest = tasks.at(-1);
    const share = (of, which) => percent(of.reduce((a, one) => a + one[which], 0) / of.reduce((a, one) => a + one.all, 0));
    const line = (which) => [share([sum], which), share(older, which), share([newest], which)];
    const before = two ? `${run.title}, learned` : "as learned", after = two ? `${run.title}, ${player.touch.title}` : player.touch.title;
    return [[before, [...line("before"), "–", "–", "–"], at], [after, [...line("after"), `${sum.changed} of ${sum.all}`, String(sum.fixed), String(sum.lost)], at]];
  });
  return { heads, rows };
}

// Accuracy by task on the probe: a bar is now, the line across it as learned.
export function byTask(scene) {
  const { runs, pen, theme, step, large, player, width, height } = scene, each = width / runs.length, shares = [];
  runs.forEach((run, index) => {
    if (step >= run.steps.length) return shares.push("–");
    const { tasks, sum } = counted(run, step), left = index * each + 6, base = height - (large ? 24 : 12), high = base - 8, w = (each - 12) / run.panels.matrix.tasks;
    shares.push(percent(sum.after / sum.all));
    pen.strokeStyle = theme.ink; pen.globalAlpha = 0.25; pen.lineWidth = 1;
    for (const y of [8, base]) { pen.beginPath(); pen.moveTo(left, y); pen.lineTo(left + each - 12, y); pen.stroke(); }
    pen.globalAlpha = 1; pen.textAlign = "center"; pen.textBaseline = "middle"; pen.font = `${large ? 12 : 9}px ${theme.font}`;
    tasks.forEach(({ all, before, after }, task) => {
      if (!all) return;
      const x = left + task * w, gap = w > 5 ? 2 : 0;
      pen.fillStyle = player.colour(task); pen.fillRect(x, base - (high * after) / all, w - gap, (high * after) / all);
      pen.fillStyle = theme.ink; pen.fillRect(x - 1, base - (high * before) / all - 1, w - gap + 2, 2);
      if (w > 12) { pen.globalAlpha = 0.62; pen.fillText(String(task + 1), x + (w - gap) / 2, base + (large ? 12 : 6)); pen.globalAlpha = 1; }
    });
  });
  return { value: shares.join("  |  "), hint: "probe images; line: as learned" };
}
