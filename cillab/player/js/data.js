// What the package sends: facts as JSON, and all arrays and pictures of all runs in one piece of bytes.

import { bytes } from "./dom.js";

export const NONE_U16 = 65535; // "no prediction" in `predicted`
export const ABSENT = -32768; // "this class has no mean yet" in `means` and `head`

// The piece comes as base64 or as the one cell of an Arrow table (`getChildAt`).
export const pieceOf = (blob) => (typeof blob === "string" ? bytes(blob) : blob.getChildAt(0).get(0));

// `shown` are the answers that are drawn: those of the learner until another head or mixture is asked. `moved` are the places
// of the points under another mixture, of one step.
export function unpack(run, piece) {
  const found = arrays(run, piece);
  return { ...found, shown: found.predicted, moved: null };
}

// Where the points lie at a step, or between two: coordinates, and the places in them of point i now and next.
export function placed(run, { left, right, share }) {
  if (run.moved?.step === left && share === 0) return { xy: run.moved.xy, spot: (i) => [2 * i, 2 * i] };
  const n = run.cls.length;
  return { xy: run.xy, spot: (i) => [2 * (left * n + i), 2 * (right * n + i)] };
}

function arrays(run, piece) {
  const cut = ([offset, length]) => piece.slice(offset, offset + length);
  const decode = (place, Type) => (place ? new Type(cut(place).buffer) : null);
  return {
    ...run,
    image: run.sprites ? picture(cut(run.sprites.at), run.sprites.kind) : null,
    xy: decode(run.xy, Int16Array),
    cls: decode(run.cls, Uint16Array),
    task: decode(run.task, Uint16Array),
    predicted: decode(run.predicted, Uint16Array), // as the learner answered
    margin: decode(run.margin, Int16Array),
    meanTask: decode(run.meanTask, Uint16Array),
    means: decode(run.means, Int16Array),
    head: decode(run.head, Int16Array),
    etf: decode(run.etf, Int16Array),
    panels: run.panels ? measures(run.panels, decode) : null,
  };
}

function picture(content, type) {
  const image = new Image(), url = URL.createObjectURL(new Blob([content], { type }));
  image.addEventListener("load", () => URL.revokeObjectURL(url));
  image.src = url;
  return image;
}

// The arrays of the panels, in place of where they lie in the piece.
function measures(panels, decode) {
  const floats = (place) => decode(place, Float32Array);
  const all = (record, names) => record && { ...record, ...Object.fromEntries(names.map((name) => [name, floats(record[name])])) };
  return {
    tips: panels.tips,
    accuracy: all(panels.accuracy, Object.keys(panels.accuracy)),
    collapse: panels.collapse.map((one) => ({ ...one, lines: one.lines.map((line) => all(line, ["values"])) })),
    angles: all(panels.angles, ["shares", "pairs", "means", "target"]),
    drift: all(panels.drift, ["values"]),
    matrix: all(panels.matrix, ["values"]),
    own: panels.own.map((one) => ({ ...one, steps: one.steps.map((step) => step && { ...step, values: floats(step.at) }) })),
    cams: panels.cams && { ...panels.cams, maps: decode(panels.cams.maps, Uint8Array), scales: floats(panels.cams.scales), floors: floats(panels.cams.floors) },
    frame: panels.frame && { ...panels.frame, ...Object.fromEntries(["means", "head", "corners"].map((name) => [name, decode(panels.frame[name], Int16Array)])) },
    heads: panels.heads.map((one) => ({ ...one, predicted: decode(one.predicted, Uint16Array) })),
  };
}

// The box that each run's map shows, in its own units: of the same size for all, in lengths of their features, so that
// the run that moves more looks as if it did. Runs in one plane share its place as well.
export function framed(runs) {
  const shared = runs.every((run) => run.shared);
  const edges = runs.map(({ frame, unit }) => [frame.x - frame.width / 2, frame.x + frame.width / 2, frame.y - frame.height / 2, frame.y + frame.height / 2].map((v) => v * unit));
  const [left, right, low, high] = [0, 1, 2, 3].map((at) => (at % 2 ? Math.max : Math.min)(...edges.map((edge) => edge[at])));
  const width = shared ? right - left : Math.max(...edges.map((edge) => edge[1] - edge[0]));
  const height = shared ? high - low : Math.max(...edges.map((edge) => edge[3] - edge[2]));
  return new Map(runs.map((run) => [run, { x: shared ? (left + right) / 2 / run.unit : run.frame.x, y: shared ? (low + high) / 2 / run.unit : run.frame.y,
    width: width / run.unit, height: height / run.unit }]));
}
