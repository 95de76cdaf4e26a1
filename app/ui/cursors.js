// Moves the cursor of charts that plotly has drawn, instead of having them drawn anew: the shapes called "cursor".
//
// What is written is what plotly keeps of a shape (its layout, and the layout with defaults), so that zooming, resizing
// and the camera button go on from the new place; and the path on screen, which plotly would only write again together
// with the whole figure. A chart that is not there yet, or that was mounted anew, is found at the next look.
const LOOK_MS = 250;

function path(shape, full, old) {
  const x = full[shape.xref.split(" ")[0].replace("x", "xaxis")], y = full[shape.yref.split(" ")[0].replace("y", "yaxis")];
  const [x0, x1] = [shape.x0, shape.x1].map((value) => x._offset + x.r2p(value));
  if (shape.type === "line") { // over the whole height of its panel, wherever it stands
    const [from, to] = old.slice(1).split("L").map((end) => end.split(",")[1]);
    return `M${x0},${from}L${x1},${to}`;
  }
  const [y0, y1] = [shape.y0, shape.y1].map((value) => y._offset + y.r2p(value));
  return `M${x0},${y0}H${x1}V${y1}H${x0}Z`;
}

function move({ figure, cursor, sentence }) {
  const chart = document.querySelector(`.${CSS.escape(figure)} .stPlotlyChart`), plot = chart?.querySelector(".js-plotly-plot");
  const full = plot?._fullLayout, said = JSON.stringify(cursor);
  if (!full?.shapes || !plot.layout?.shapes) return;
  if (chart.getAttribute("aria-label") !== sentence) chart.setAttribute("aria-label", sentence);
  full.shapes.forEach((shape, index) => {
    const drawn = plot.querySelector(`.shapelayer path[data-index="${index}"]`);
    if (shape.name !== "cursor" || !drawn || drawn.cillabAt === said) return;
    Object.assign(shape, cursor);
    Object.assign(plot.layout.shapes[index], cursor);
    drawn.setAttribute("d", path(shape, full, drawn.getAttribute("d")));
    drawn.cillabAt = said; // of this very path: plotly makes a new one when it draws the figure again
  });
}

const looking = new WeakMap();

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".cursors"), look = () => data.moves.forEach(move);
  clearInterval(looking.get(root));
  looking.set(root, setInterval(look, LOOK_MS));
  look();
  return () => clearInterval(looking.get(root));
}
