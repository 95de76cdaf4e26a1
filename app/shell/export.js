// PNG and SVG of the figure on screen, drawn by plotly in the browser: the same action as its camera button.
const FORMATS = [["PNG", "png"], ["SVG", "svg"]];

export default function ({ parentElement, data }) {
  const root = parentElement.querySelector(".export");
  const say = document.createElement("p");
  say.setAttribute("role", "status");
  say.hidden = true;
  const save = (format) => {
    const plot = document.querySelector(`.${CSS.escape(data.figure)} .js-plotly-plot`);
    const camera = plot?.querySelector(".modebar-btn[data-attr='toImage'], .modebar-btn[data-title^='Download']");
    say.hidden = Boolean(camera);
    if (!camera) {
      say.textContent = "The figure is not on screen: scroll to it and try again.";
      return;
    }
    plot._context.toImageButtonOptions = { format, filename: data.name, scale: format === "png" ? 2 : 1 };
    camera.click();
  };
  const buttons = FORMATS.map(([label, format]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => save(format));
    return button;
  });
  root.replaceChildren(...buttons, say);
}
