// What the package sends: facts as JSON, and all arrays and pictures of all runs in one piece of bytes.

import { bytes } from "./dom.js";

export const NONE_U16 = 65535; // "no prediction" in `predicted`
export const ABSENT = -32768; // "this class has no mean yet" in `means` and `head`

// The piece comes as base64 or as the one cell of an Arrow table (`getChildAt`).
export const pieceOf = (blob) => (typeof blob === "string" ? bytes(blob) : blob.getChildAt(0).get(0));

export function unpack(run, piece) {
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
    accuracy: all(panels.accuracy, Object.keys(panels.accuracy)),
    collapse: panels.collapse.map((one) => ({ ...one, lines: one.lines.map((line) => all(line, ["values"])) })),
    angles: all(panels.angles, ["shares", "pairs", "means", "target"]),
    drift: all(panels.drift, ["values"]),
    matrix: all(panels.matrix, ["values"]),
    own: panels.own.map((one) => ({ ...one, steps: one.steps.map((step) => step && { ...step, values: floats(step.at) }) })),
    cams: panels.cams && { ...panels.cams, maps: decode(panels.cams.maps, Uint8Array), scales: floats(panels.cams.scales) },
  };
}
