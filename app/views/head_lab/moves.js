// Changes charts that plotly has drawn, instead of having them drawn anew: where shapes and words called "cursor" stand,
// and the values of lines whose axes stay as they are: straight ones, with or without points, and outlines of steps.
//
// What is written is what plotly keeps (the figure, and the figure with defaults), so that zooming, resizing, pointing
// and the camera button go on from the new values; and the path on screen, which plotly would only write again together
// with the whole figure. A chart that is not there yet, or that was mounted anew, is found at the next look.
const LOOK_MS = 250;

const axis = (full, letter, name) => full[(name || letter).split(" ")[0].replace(letter, `${letter}axis`)];

function outline(shape, full, old) {
  const x = axis(full, "x", shape.xref), y = axis(full, "y", shape.yref);
  const [x0, x1] = [shape.x0, shape.x1].map((value) => x._offset + x.r2p(value));
  if (shape.type === "line") { // over the whole height of its panel, wherever it stands
    const [from, to] = old.slice(1).split("L").map((end) => end.split(",")[1]);
    return `M${x0},${from}L${x1},${to}`;
  }
  const [y0, y1] = [shape.y0, shape.y1].map((value) => y._offset + y.r2p(value));
  return `M${x0},${y0}H${x1}V${y1}H${x0}Z`;
}

function place(plot, full, cursor) {
  const said = JSON.stringify(cursor);
  full.shapes.forEach((shape, index) => {
    const drawn = plot.querySelector(`.shapelayer path[data-index="${index}"]`);
    if (shape.name !== "cursor" || !drawn || drawn.cillabAt === said) return;
    Object.assign(shape, cursor);
    Object.assign(plot.layout.shapes[index], cursor);
    drawn.setAttribute("d", outline(shape, full, drawn.getAttribute("d")));
    drawn.cillabAt = said; // of this very path: plotly makes a new one when it draws the figure again
  });
}

function carry(plot, full, x0) {
  (full.annotations || []).forEach((note, index) => {
    const words = plot.querySelector(`.annotation[data-index="${index}"] .annotation-text-g > g`);
    if (note.name !== "cursor" || !words || note.x === x0) return;
    const x = axis(full, "x", note.xref), [, left, top] = words.getAttribute("transform").match(/\(([-\d.e]+),\s*([-\d.e]+)\)/);
    words.setAttribute("transform", `translate(${Number(left) + x.r2p(x0) - x.r2p(note.x)},${top})`);
    words.style.display = x0 < x.range[0] || x0 > x.range[1] ? "none" : "";
    note.x = plot.layout.annotations[index].x = x0;
  });
}

// Halfway to the next point, and there up or down to its height: what plotly calls "hvh".
const stairs = (places) => places.map(([x, y], at) => (at ? `H${(places[at - 1][0] + x) / 2}V${y}` : `M${x},${y}`)).join("")
  + `H${places.at(-1)[0]}`;

function bend(plot, full, index, values) {
  const trace = plot._fullData?.[index], points = plot.calcdata?.[index], said = JSON.stringify(values);
  const drawn = trace && plot.querySelector(`.scatterlayer .trace${trace.uid}`), line = drawn?.querySelector(".js-line");
  if (!line || points?.length !== values.length || line.cillabAt === said) return;
  const x = axis(full, "x", trace.xaxis), y = axis(full, "y", trace.yaxis), marks = drawn.querySelectorAll(".points .point");
  plot.data[index].y = trace.y = values;
  const places = points.map((point, at) => {
    point.y = values[at];
    const place = [x.c2p(point.x), y.c2p(point.y)];
    marks[at]?.setAttribute("transform", `translate(${place})`);
    return place;
  });
  const path = trace.line.shape === "hvh" ? stairs(places) : `M${places.join("L")}`;
  line.setAttribute("d", path);
  drawn.querySelector(".js-fill")?.setAttribute("d", `${path}L${places.at(-1)[0]},${y.c2p(0)}L${places[0][0]},${y.c2p(0)}Z`);
  line.cillabAt = said;
}

function move({ figure, cursor, lines, sentence }) {
  const chart = document.querySelector(`.${CSS.escape(figure)} .stPlotlyChart`), plot = chart?.querySelector(".js-plotly-plot");
  const full = plot?._fullLayout;
  if (!full?.xaxis || !plot.layout) return;
  if (chart.getAttribute("aria-label") !== sentence) chart.setAttribute("aria-label", sentence);
  if (cursor) {
    place(plot, full, cursor);
    carry(plot, full, cursor.x0);
  }
  for (const [index, values] of lines || []) bend(plot, full, index, values);
}

const looking = new WeakMap();

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".moves"), look = () => data.moves.forEach(move);
  clearInterval(looking.get(root));
  looking.set(root, setInterval(look, LOOK_MS));
  look();
  return () => clearInterval(looking.get(root));
}
