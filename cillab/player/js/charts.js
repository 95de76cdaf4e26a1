// What the panels draw. Each painter gets a `Scene` and returns the value and the hint that stand in words above it.
// Axes hold for the whole run, and for both runs where there are two: a scale that moved would be motion that is none.

import { clamp, number, percent } from "./dom.js";

const MIN = 1e-6; // a logarithm needs a floor; NC1 below this looks the same

// The frame of a plot: pixels of a step, of a value between `low` and `high`. Margins hold words, and grow with them.
function frame({ width, height, large, player, theme }, low, high) {
  const scale = theme.scale ?? 1, left = (large ? 52 : 34) * scale, right = 10, top = 8, bottom = large ? 34 * scale : 8;
  const span = high - low || 1, steps = Math.max(player.count - 1, 1);
  return { left, right: width - right, top, bottom: height - bottom,
    x: (s) => left + ((width - left - right) * s) / steps,
    y: (v) => height - bottom - ((height - top - bottom) * (clamp(v, low, high) - low)) / span };
}

function words(pen, theme, text, x, y, { align = "left", size = 10, ink = null, alpha = ink ? 1 : 0.62 } = {}) {
  pen.font = `${size * (theme.scale ?? 1)}px ${theme.font}`; pen.fillStyle = ink ?? theme.ink; pen.globalAlpha = alpha; pen.textAlign = align; pen.textBaseline = "middle";
  pen.fillText(text, x, y);
  pen.globalAlpha = 1;
}

function rule(pen, theme, x0, y0, x1, y1, alpha = 0.16, dash = []) {
  pen.strokeStyle = theme.ink; pen.globalAlpha = alpha; pen.lineWidth = 1; pen.setLineDash(dash);
  pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x1, y1); pen.stroke();
  pen.setLineDash([]); pen.globalAlpha = 1;
}

function axes(pen, scene, f, low, high, write) {
  const { theme, large, player, height } = scene, size = large ? 12 : 10;
  const ticks = large ? [0, 0.25, 0.5, 0.75, 1] : [0, 1];
  for (const share of ticks) {
    const value = low + (high - low) * share;
    rule(pen, theme, f.left, f.y(value), f.right, f.y(value), 0.1);
    words(pen, theme, write(value), f.left - 5, clamp(f.y(value), 6, height - 6), { align: "right", size });
  }
  if (!large) return;
  const every = Math.ceil(player.count / 10), { steps } = player.longest();
  for (let s = 0; s < player.count; s += every) words(pen, theme, String(steps[s].task + 1), f.x(s), f.bottom + 12 * (theme.scale ?? 1), { align: "center", size });
  words(pen, theme, "after task", f.right, f.bottom + 27 * (theme.scale ?? 1), { align: "right", size: 11 });
}

function path(pen, f, values, colour, { alpha = 1, width = 1.8, dash = [], place = (v) => v } = {}) {
  pen.strokeStyle = colour; pen.globalAlpha = alpha; pen.lineWidth = width; pen.setLineDash(dash); pen.lineJoin = "round";
  pen.beginPath();
  let down = false;
  values.forEach((v, s) => {
    if (!Number.isFinite(v)) { down = false; return; }
    if (down) pen.lineTo(f.x(s), f.y(place(v))); else pen.moveTo(f.x(s), f.y(place(v)));
    down = true;
  });
  pen.stroke(); pen.setLineDash([]); pen.globalAlpha = 1;
}

const lay = (pen, canvas, width, height) => pen.drawImage(canvas, 0, 0, width, height);

// What lies ahead is pale: the whole picture at a third, and over it what has happened.
function unfold(scene, f, canvas) {
  const { pen, width, height, theme, t, player } = scene, x = f.x(t), past = t < player.count - 1 ? x + 0.5 : width; // words beside the end are no future
  pen.globalAlpha = 0.28; lay(pen, canvas, width, height); pen.globalAlpha = 1;
  pen.save(); pen.beginPath(); pen.rect(0, 0, past, height); pen.clip(); pen.clearRect(0, 0, past, height); lay(pen, canvas, width, height); pen.restore();
  rule(pen, theme, x, f.top - 4, x, f.bottom + 2, 0.75);
}

function dot(pen, theme, x, y, colour, r = 3.4) {
  pen.beginPath(); pen.arc(x, y, r, 0, 6.2832); pen.fillStyle = colour; pen.fill(); pen.lineWidth = 1.4; pen.strokeStyle = theme.page; pen.stroke();
}

function range(values, low, high) {
  for (const v of values) if (Number.isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
  return [low, high];
}

// What a line is about has one hue in the whole app; the package sends it for both themes.
const hue = (theme, one) => one[theme.dark ? "dark" : "light"];

const joined = (scene, each) => scene.runs.map(each).join("  |  ");

// ---- NC1 to NC4 over the steps: training images solid, test images dotted, the target of full collapse dashed ----------

const scaleOf = (log) => (log ? (v) => Math.log10(Math.max(v, MIN)) : (v) => v);

// The ends of the axis: they are of all steps, and so do not change with the step.
function ends(of) {
  const { log, target } = of[0], place = scaleOf(log);
  let [low, high] = range(of.flatMap((one) => one.lines.flatMap((line) => [...line.values].map((v) => (log && !(v > 0) ? NaN : place(v))))), Infinity, -Infinity);
  if (!(low <= high)) [low, high] = [0, 1];
  if (!log) [low, high] = [Math.min(low, target), Math.max(high, target)];
  return [low, low === high ? low + (log ? 1 : 1e-3) : high];
}

export const lines = (index, known = null) => (scene) => {
  const { runs, pen, theme, step, large, width, height } = scene, of = runs.map((run) => run.panels.collapse[index]);
  const { log, target } = of[0], place = scaleOf(log), [low, high] = (known ??= ends(of));
  const write = of[0].percent ? percent : number;
  const f = frame(scene, low, high);
  const colour = (run, line) => (runs.length > 1 ? theme.runs[run] : hue(theme, line.hue));
  if (!of.some((one) => one.lines.length)) { words(pen, theme, "not measured in this run", width / 2, height / 2, { align: "center", size: large ? 13 : 10 }); return { value: "–", hint: "" }; }
  unfold(scene, f, scene.keep("still", step.count, (to) => {
    axes(to, scene, f, low, high, (v) => (of[0].percent ? `${Math.round(100 * v)} %` : number(log ? 10 ** v : v)));
    if (!log) rule(to, theme, f.left, f.y(target), f.right, f.y(target), 0.7, [4, 3]);
    of.forEach((one, run) => {
      for (const line of one.lines) {
        path(to, f, line.values, colour(run, line), { place, dash: line.side === "test" ? [2, 3] : [], width: line.side === "test" ? 1.3 : 2 });
      }
    });
    if (large) { // the head says the first name
      const names = [...new Set(of.flatMap((one) => one.lines.map((line) => line.label)))], test = of.some((one) => one.lines.some((line) => line.side === "test"));
      const said = [...(names.length > 1 ? names : []), ...(test ? ["dotted: test images"] : [])];
      said.forEach((name, at) => {
        const mine = runs.length > 1 ? null : of[0].lines.find((line) => line.label === name);
        words(to, theme, name, f.left + 6, f.top + 8 + 16 * at, { size: 12, ink: mine && hue(theme, mine.hue) });
      });
    }
  }));
  of.forEach((one, run) => one.lines.forEach((line) => {
    const v = line.values[Math.min(step, line.values.length - 1)];
    if (Number.isFinite(v) && step < line.values.length && (line.side === "train" || large)) dot(pen, theme, f.x(step), f.y(place(v)), colour(run, line));
  }));
  if (log) lay(pen, scene.keep("target", "", (to) => words(to, theme, "target 0 ↓", width - 12, height - (large ? 46 : 14), { align: "right", size: large ? 12 : 9 })), width, height);
  const now = (one) => one.lines.find((line) => line.side === "train") ?? one.lines[0];
  return { value: joined(scene, (run, at) => write(now(of[at])?.values[step])), hint: now(of[0])?.label ?? "" };
};

// ---- cosines of class means, old/old, old/new and new/new, against -1/(K-1) --------------------------------------------

export function angles(scene) {
  const { runs, pen, theme, step, large, player, width, height } = scene, of = runs.map((run) => run.panels.angles);
  const there = of.filter(Boolean), low = Math.min(...there.map((one) => one.low)), high = Math.max(...there.map((one) => one.high));
  const both = runs.length > 1, density = (one) => one.bins / (one.high - one.low);
  const top = Math.max(...there.map((one) => one.highest * density(one))) || 1;
  const scale = theme.scale ?? 1, left = 8, right = width - 8, base = height - (large ? 34 : 16) * scale;
  const x = (v) => left + ((right - left) * (v - low)) / (high - low || 1), y = (v) => base - ((base - 8) * v) / top;
  rule(pen, theme, left, base, right, base, 0.3);
  const hues = both ? theme.runs : there[0].hues.map((one) => hue(theme, one));
  of.forEach((one, run) => {
    if (!one || step >= runs[run].steps.length) return;
    const pairs = one.pairs.subarray(3 * step, 3 * step + 3), sum = pairs[0] + pairs[1] + pairs[2];
    const heights = (age) => one.shares.subarray((3 * step + age) * one.bins, (3 * step + age + 1) * one.bins);
    const curves = both ? [Float32Array.from({ length: one.bins }, (_, b) => [0, 1, 2].reduce((a, age) => a + (sum ? heights(age)[b] * pairs[age] / sum : 0), 0))]
      : [0, 1, 2].map(heights);
    curves.forEach((curve, age) => {
      if (!both && !pairs[age]) return;
      const mine = hues[both ? run : age], wide = (one.high - one.low) / one.bins;
      pen.beginPath(); pen.moveTo(x(one.low), base);
      curve.forEach((share, b) => { pen.lineTo(x(one.low + b * wide), y(share * density(one))); pen.lineTo(x(one.low + (b + 1) * wide), y(share * density(one))); });
      pen.lineTo(x(one.high), base);
      pen.globalAlpha = 0.16; pen.fillStyle = mine; pen.fill();
      pen.globalAlpha = 1; pen.lineWidth = 1.5; pen.strokeStyle = mine; pen.stroke();
    });
  });
  const target = there[0].target[Math.min(step, there[0].target.length - 1)];
  if (target > low && target < high) {
    rule(pen, theme, x(target), 4, x(target), base, 0.9, [4, 3]);
    const room = x(target) + (large ? 130 : width < 240 * scale ? 44 : 96) * scale < right; // to the right of its line, else to the left
    words(pen, theme, width < 240 * scale ? number(target) : `−1/(K−1) = ${number(target)}`, x(target) + (room ? 5 : -5), 10, { size: large ? 12 : 9, align: room ? "left" : "right" });
  }
  words(pen, theme, number(low), left, base + 9 * scale, { size: large ? 12 : 9 });
  words(pen, theme, "cosine", (left + right) / 2, base + 9 * scale, { align: "center", size: large ? 12 : 9 });
  words(pen, theme, number(high), right, base + 9 * scale, { align: "right", size: large ? 12 : 9 });
  if (!both) ["old / old", "old / new", "new / new"].forEach((name, age) => {
    const at = scale * ((large ? 30 : 26) + 12 * age * (large ? 1.4 : 1));
    pen.fillStyle = hues[age]; pen.fillRect(right - (large ? 92 : 62) * scale, at - 4, 7, 7);
    words(pen, theme, name, right - (large ? 80 : 51) * scale, at, { size: large ? 12 : 9 });
  });
  const mean = (one) => {
    const pairs = one ? one.pairs.subarray(3 * step, 3 * step + 3) : [0, 0, 0], sum = pairs[0] + pairs[1] + pairs[2];
    return sum ? [0, 1, 2].reduce((a, age) => a + (pairs[age] ? one.means[3 * step + age] * pairs[age] : 0), 0) / sum : NaN;
  };
  return { value: joined(scene, (_, at) => number(mean(of[at]))), hint: "mean cosine", player };
}

// ---- cosine of stored and re-measured class means, a line per task -----------------------------------------------------

export function drift(scene) {
  const { runs, pen, theme, step, player } = scene, of = runs.map((run) => run.panels.drift), there = of.filter(Boolean), both = runs.length > 1;
  const low = Math.min(0.95, ...there.map((one) => one.low)), f = frame(scene, low, 1);
  const average = (one, s) => {
    const row = [...one.values.subarray(s * one.tasks, (s + 1) * one.tasks)].filter(Number.isFinite);
    return row.length ? row.reduce((a, b) => a + b, 0) / row.length : NaN;
  };
  const column = (one, task) => Array.from({ length: one.values.length / one.tasks }, (_, s) => one.values[s * one.tasks + task]);
  const whole = (one) => Array.from({ length: one.values.length / one.tasks }, (_, s) => average(one, s));
  unfold(scene, f, scene.keep("still", player.focusTask, (to) => {
    axes(to, scene, f, low, 1, number);
    of.forEach((one, run) => {
      if (!one) return;
      for (let task = 0; task < one.tasks; task++) {
        if (player.focusTask != null && player.focusTask !== task) continue;
        path(to, f, column(one, task), both ? theme.runs[run] : player.colour(task), { width: both ? 1 : 1.6, alpha: both ? 0.3 : 0.9 });
      }
      if (both) path(to, f, whole(one), theme.runs[run], { width: 2.4 });
    });
  }));
  of.forEach((one, run) => {
    const v = one && step < runs[run].steps.length ? average(one, step) : NaN;
    if (Number.isFinite(v)) dot(pen, theme, f.x(step), f.y(v), both ? theme.runs[run] : theme.ink);
  });
  return { value: joined(scene, (_, at) => (of[at] ? number(average(of[at], step)) : "–")), hint: "cosine to when learnt" };
}

// ---- accuracy of every task after every task ---------------------------------------------------------------------------

// From the ground of the page to a deep or a bright blue: dark is high on white, bright is high on black.
function ramp(theme, share) {
  const [from, to] = theme.dark ? [[28, 34, 46], [126, 190, 255]] : [[236, 240, 247], [11, 61, 145]];
  return `rgb(${from.map((a, at) => Math.round(a + (to[at] - a) * clamp(share, 0, 1))).join(",")})`;
}
const onRamp = (theme, share) => (theme.dark === (share > (theme.dark ? 0.56 : 0.66)) ? "#000000" : "#ffffff"); // a contrast of 4.5 and more

export function matrix(scene) {
  const { runs, pen, theme, step, large, width, height } = scene, each = width / runs.length;
  const write = (run) => (run.accuracy?.[step] ?? NaN) /* the number on the map */;
  runs.forEach((run, index) => {
    const { tasks, values } = run.panels.matrix, rows = run.steps.length, scale = theme.scale ?? 1, pad = (large ? 30 : 14) * scale;
    const x0 = index * each + pad, y0 = 4, w = (each - pad - 4) / tasks, h = (height - y0 - (large ? 30 : 14) * scale) / rows, gap = w > 6 && h > 6 ? 1 : 0;
    const still = scene.keep(`still-${index}`, rows, (to) => {
      for (let r = 0; r < rows; r++) for (let c = 0; c < tasks; c++) {
        const v = values[r * tasks + c];
        if (!Number.isFinite(v)) continue;
        to.fillStyle = ramp(theme, v); to.fillRect(x0 + c * w, y0 + r * h, w - gap, h - gap);
        const type = Math.min((large ? 12 : 8) * scale, h - 1);
        if (w > 19 && type >= 8) {
          to.fillStyle = onRamp(theme, v); to.font = `${type}px ${theme.font}`; to.textAlign = "center"; to.textBaseline = "middle";
          to.fillText(String(Math.round(100 * v)), x0 + (c + 0.5) * w, y0 + (r + 0.5) * h);
        }
      }
    });
    const bottom = y0 + (Math.min(step, rows - 1) + 1) * h;
    pen.save(); pen.beginPath(); pen.rect(index * each, 0, each, height); pen.clip();
    pen.globalAlpha = 0.22; pen.drawImage(still, 0, 0, width, height); pen.globalAlpha = 1;
    pen.beginPath(); pen.rect(index * each, 0, each, bottom); pen.clip(); pen.clearRect(index * each, 0, each, bottom); pen.drawImage(still, 0, 0, width, height);
    pen.restore();
    if (step < rows) {
      pen.strokeStyle = runs.length > 1 ? theme.runs[index] : theme.ink; pen.lineWidth = 1.6;
      pen.strokeRect(x0 - 1, y0 + step * h - 1, w * Math.min(tasks, run.steps[step].task + 1) + 1, h + 1);
    }
    words(pen, theme, "on task →", x0, height - (large ? 12 : 6) * scale, { size: large ? 12 : 9 });
    pen.save(); pen.translate(index * each + 6 * scale, height / 2); pen.rotate(-Math.PI / 2);
    words(pen, theme, "after task ↓", 0, 0, { align: "center", size: large ? 12 : 9 }); pen.restore();
  });
  return { value: joined(scene, (run) => percent(write(run))), hint: "all seen" };
}

// ---- what the method declares of itself --------------------------------------------------------------------------------

export function own(scene) {
  const { runs, pen, theme, step, large, player, width, height, chosen } = scene;
  const titles = [...new Set(runs.flatMap((run) => run.panels.own.map((one) => one.title)))], title = titles[chosen % titles.length];
  const owners = runs.filter((run) => run.panels.own.some((one) => one.title === title)), each = width / owners.length;
  let value = "", hint = "";
  owners.forEach((run, index) => {
    const one = run.panels.own.find((other) => other.title === title), now = step < one.steps.length ? one.steps[step] : null;
    const box = { x: index * each + (large ? 40 : 8), y: 8, w: each - (large ? 56 : 16), h: height - (large ? 44 : 20) };
    hint = large ? one.meaning : "";
    if (one.kind === "line") {
      const f = frame(scene, Math.min(one.low, 0), one.high), values = one.steps.map((s) => (s ? s.values[0] : NaN));
      unfold(scene, f, scene.keep("still", title + index, (to) => { axes(to, scene, f, Math.min(one.low, 0), one.high, number); path(to, f, values, theme.runs[0]); }));
      value = number(values[step]);
      return;
    }
    if (!now) return words(pen, theme, "not at this step", box.x + box.w / 2, height / 2, { align: "center", size: 11 });
    const known = [...now.values].filter(Number.isFinite);
    value = owners.length > 1 ? "" : known.length ? `${number(Math.min(...known))} to ${number(Math.max(...known))}` : "–";
    if (one.kind === "cells") cells(scene, box, one, now);
    else marks(scene, box, one, now, run, player);
  });
  return { title, value, hint };
}

// Rows by columns, one scale over all steps; a column that belongs to a task has its hue below.
function cells({ pen, theme, player, large }, box, one, { values, shape: [rows, columns] }) {
  const w = box.w / columns, h = box.h / rows, gap = w > 6 && h > 6 ? 1 : 0, span = one.high - one.low || 1;
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
    const v = values[r * columns + c], share = (v - one.low) / span;
    if (!Number.isFinite(v)) continue;
    pen.fillStyle = ramp(theme, share); pen.fillRect(box.x + c * w, box.y + r * h, w - gap, h - gap);
    if (w > 20 && h > 11) {
      pen.fillStyle = onRamp(theme, share); pen.font = `${large ? 12 : w > 30 ? 9 : 8}px ${theme.font}`; pen.textAlign = "center"; pen.textBaseline = "middle";
      const text = number(v);
      if (pen.measureText(text).width < w - 2) pen.fillText(text, box.x + (c + 0.5) * w, box.y + (r + 0.5) * h);
    }
  }
  if (columns <= player.data.tasks.length) for (let c = 0; c < columns; c++) {
    pen.fillStyle = player.colour(c); pen.fillRect(box.x + c * w, box.y + box.h + 3, w - gap - 1, 4);
  }
}

// A bar for every entry, or, one per class, a dot in the hue of its task.
function marks({ pen, theme, large }, box, one, { values }, run, player) {
  const low = Math.min(one.low, 0), span = Math.max(one.high, 0) - low || 1, y = (v) => box.y + box.h * (1 - (v - low) / span), n = values.length;
  rule(pen, theme, box.x, y(0), box.x + box.w, y(0), 0.3);
  const classes = one.kind === "classes", across = classes ? run.names.length : Math.max(...one.steps.map((s) => (s ? s.values.length : 0)));
  const w = box.w / across, tasks = n <= player.data.tasks.length;
  for (let i = 0; i < n; i++) {
    if (!Number.isFinite(values[i])) continue;
    pen.fillStyle = classes ? player.colour(run.meanTask[i]) : tasks ? player.colour(i) : theme.runs[0];
    if (!classes) { pen.fillRect(box.x + i * w, Math.min(y(0), y(values[i])), Math.max(w - 1, 0.8), Math.abs(y(values[i]) - y(0))); continue; }
    pen.beginPath(); pen.arc(box.x + (i + 0.5) * w, y(values[i]), large ? 4 : 2.3, 0, 6.2832); pen.fill();
  }
  words(pen, theme, number(Math.max(one.high, 0)), box.x, 6, { size: large ? 12 : 9 });
  if (classes || tasks) words(pen, theme, classes ? "class →" : "task →", box.x, box.y + box.h + (large ? 14 : 6), { size: large ? 12 : 9 });
}
