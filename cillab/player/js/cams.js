// Grad-CAM of one image, at the step before and now: what speaks for its class, for the answer, and for one against the
// other. All maps of an image share one scale over all steps, so a map that fades has really faded.

import { clamp, number } from "./dom.js";
import { touchedMaps } from "./mixer.js";

export const TARGETS = ["true", "predicted", "difference"];
const WORDS = { true: "its class", predicted: "the answer", difference: "difference" };

// The image that is looked at: the one under the pointer, else the chosen one, else one whose maps say something.
function looked({ player }) {
  const clearest = () => player.runs.find((one) => one.panels.cams?.maps)?.panels.cams.clearest ?? 0;
  const found = player.hover ?? player.picked ?? { run: 0, index: clearest() };
  const run = player.runs[found.run].panels.cams?.maps ? found.run : player.runs.findIndex((one) => one.panels.cams?.maps);
  if (run < 0 && player.touch?.mixer?.status?.state === "awake" && player.touch.mixer.alone) return { run: player.runs[0], index: found.index };
  return run < 0 ? null : { run: player.runs[run], index: found.index };
}

const value = (cams, images, step, target, image, cell, size) => {
  const at = (step * TARGETS.length + target) * images + image;
  return (cams.maps[at * size + cell] / 255) * cams.scales[at];
};

// The largest value over all steps and targets: the end of the scale.
function top(cams, images, image, steps) {
  let most = 0;
  const size = cams.grid[0] * cams.grid[1];
  for (let step = 0; step < steps; step++) for (let target = 0; target < TARGETS.length; target++) {
    for (let cell = 0; cell < size; cell++) {
      const v = value(cams, images, step, target, image, cell, size);
      if (v > most) most = v;
    }
  }
  return most;
}

// A map as a picture of its own cells, warm where evidence is; the browser smooths it over the image.
function warm(pen, [rows, columns], of) {
  const pixels = pen.createImageData(columns, rows);
  for (let cell = 0; cell < rows * columns; cell++) {
    const share = clamp(of(cell), 0, 1);
    pixels.data.set([255, Math.round(210 * share), Math.round(40 * (1 - share)), Math.round(235 * share ** 0.8)], 4 * cell);
  }
  pen.putImageData(pixels, 0, 0);
}

// Does a map stay below what 95 % of the maps of a random head do? Then it says nothing, and is not drawn.
const weak = (cams, images, step, target, image) => cams.scales[(step * TARGETS.length + target) * images + image] < cams.floors?.[step * TARGETS.length + target];

// The same of a map that was computed just now; the floor is in the unit of the learner's own scores.
const faint = (map, floor) => map && Math.max(...map) < floor;

// Words in lines that are no wider than `width`; of more lines than there may be, the last one ends in three dots.
function broken(pen, text, width, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (pen.measureText(longer).width <= width || !lines.at(-1)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.slice(0, most).map((line, at) => {
    let kept = line, cut = at === most - 1 && lines.length > most;
    while (kept && pen.measureText(cut ? `${kept}…` : kept).width > width) { kept = kept.slice(0, -1); cut = true; }
    return cut ? `${kept}…` : kept;
  });
}

function silence(pen, theme, x, y, side, large) {
  pen.fillStyle = theme.page; pen.globalAlpha = 0.72; pen.fillRect(x, y, side, side); pen.globalAlpha = 1;
  pen.font = `${large ? 12 : clamp(side / 6.5, 7, 10)}px ${theme.font}`; pen.fillStyle = theme.ink; pen.textAlign = "center"; pen.textBaseline = "middle";
  ["below its", "noise floor"].forEach((line, at) => pen.fillText(line, x + side / 2, y + side / 2 + (at - 0.5) * (large ? 16 : clamp(side / 5, 8, 12))));
}

export function cams(scene) {
  const { pen, theme, step, width, height, large, player } = scene, found = looked(scene);
  const say = (text) => {
    pen.font = `${12 * (theme.scale ?? 1)}px ${theme.font}`; pen.fillStyle = theme.ink; pen.globalAlpha = 0.62; pen.textAlign = "center"; pen.textBaseline = "middle";
    pen.fillText(text, width / 2, height / 2); pen.globalAlpha = 1;
    return { value: "", hint: "" };
  };
  if (!found && !player.runs[0].panels.cams && player.data.asks) return say("no maps were recorded: wake the learner, and they are computed for the image at the pointer");
  if (!found) return say("more maps than a page can hold: press twice for the page that has them");
  const { run, index } = found;
  if (player.panels) player.panels.looked = found;
  const data = run.panels.cams?.maps ? run.panels.cams : null, images = run.cls.length, now = Math.min(step, run.steps.length - 1);
  const steps = now > 0 && data ? [now - 1, now] : [now], tiles = 2 * TARGETS.length + 1;
  const side = large ? Math.min((width - 40) / 3, (height - 90) / 3) : Math.min((width - 8 * tiles - 12) / tiles, height - 32), gap = large ? 12 : 6;
  const place = (row, column) => (large ? [8 + column * (side + gap), 22 + row * (side + gap + 18)]
    : [4 + (row === 0 ? 0 : 1 + column + (row === 1 ? 0 : TARGETS.length)) * (side + gap) + (row ? 8 : 0) + (row === 2 ? 8 : 0), 16]);
  if (data && !data.tops?.has(index)) (data.tops ??= new Map()).set(index, top(data, images, index, run.steps.length));
  const most = data?.tops.get(index) ?? 0;
  player.touch?.mixer?.look(index);
  const touched = touchedMaps(player, run, index, now);
  const inside = (to, [x, y], paint) => { to.save(); to.beginPath(); to.roundRect(x, y, side, side, 5); to.clip(); to.imageSmoothingQuality = "high"; paint(to, x, y); to.restore(); };
  // What stays while the step changes: the image, in grey where maps lie over it, and words.
  const ground = (to, row, column, grey, label) => {
    inside(to, place(row, column), (_, x, y) => {
      if (!run.image?.naturalWidth) return;
      const { tile: size, columns } = run.sprites;
      to.globalAlpha = grey ? 0.75 : 1;
      if (grey) to.filter = "grayscale(1)";
      to.drawImage(run.image, (index % columns) * size, Math.floor(index / columns) * size, size, size, x, y, side, side);
    });
    const [x, y] = place(row, column);
    to.font = `${Math.min((large ? 12 : 9) * (theme.scale ?? 1), large ? 16 : side / 5)}px ${theme.font}`; to.fillStyle = theme.ink; to.globalAlpha = 0.66; to.textAlign = "left"; to.textBaseline = "middle";
    const lines = large || height - y - side < 26 ? 1 : 2, tall = 10 * (theme.scale ?? 1);
    broken(to, label, side + gap - 3, lines).forEach((part, at) => to.fillText(part, x, y + side + (large ? 10 : 8) + at * tall));
    to.globalAlpha = 1;
  };
  const still = scene.keep("still", [player.runs.indexOf(run), index, steps.length, Boolean(run.image?.naturalWidth)], (to) => {
    ground(to, 0, 0, false, run.names[run.cls[index]]);
    for (let row = 3 - steps.length; row < 3; row++) TARGETS.forEach((target, column) => ground(to, row, column, true, WORDS[target]));
  });
  pen.drawImage(still, 0, 0, width, height);
  const maps = (row, at) => {
    const fresh = touched && at === now, size = data && data.grid[0] * data.grid[1], grid = fresh ? touched.grid : data?.grid;
    const key = fresh ? `asked ${touched.at}` : [player.runs.indexOf(run), index, at];
    if (grid) TARGETS.forEach((name, target) => inside(pen, place(row, target), (to, x, y) => {
      const mine = fresh && touched.maps[name], of = fresh ? (cell) => (mine?.[cell] ?? 0) / (touched.most || 1)
        : (cell) => (most > 0 ? value(data, images, at, target, index, cell, size) / most : 0);
      if (fresh ? faint(mine, touched.floors[target]) : weak(data, images, at, target, index)) silence(to, theme, x, y, side, large);
      else to.drawImage(scene.keep(`${row} ${name}`, key, (picture) => warm(picture, grid, of), [grid[1], grid[0], 1]), x, y, side, side);
    }));
  };
  const head = (row, text) => {
    const [x, y] = place(row, 0);
    pen.font = `600 ${(large ? 13 : 10) * (theme.scale ?? 1)}px ${theme.font}`; pen.fillStyle = theme.ink; pen.textAlign = "left"; pen.textBaseline = "middle"; pen.fillText(text, x, y - 8);
  };
  steps.forEach((at, order) => {
    const row = order + 3 - steps.length; // now always stands last
    head(row, `${at === now ? (touched && player.touch.active ? `now, ${player.touch.title}: ` : player.touch?.active ? "now, as learned: " : "now: ") : ""}${run.steps[at].label.replace(/ of \d+/, "").toLowerCase()}`);
    maps(row, at);
  });
  const seen = run.task[index] <= run.steps[now].task, answer = run.shown[now * images + index];
  const floors = (touched ? touched.floors : [...(data?.floors ?? [])].slice(now * TARGETS.length, (now + 1) * TARGETS.length)).filter(Number.isFinite);
  const floor = floors.length ? `, noise floor ${number(Math.min(...floors))}` : "";
  const verdict = !seen ? "class still to come" : answer === run.cls[index] ? "✓ answered rightly" : `✗ ${run.names[answer] ?? "no answer"}`;
  const scale = touched ? `${data ? "now on a scale of its own" : "computed by the woken learner"}, ${touched.words}` : data ? `one scale, up to ${number(most)}` : "computing maps of this image …";
  return { value: verdict, hint: `${scale}${floor}` };
}
