// A grid of probe images to choose from: one button per image, cut out of the atlas of atlas.js. Keys: tab in, arrows, enter.

const state = new WeakMap();

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".gallery");
  const same = state.get(root) === data.token;
  if (!same) {
    root.style.setProperty("--atlas", `var(--atlas-${data.atlas})`);
    state.set(root, data.token);
    root.replaceChildren(...data.items.map((item) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = item.title;
      button.setAttribute("aria-label", item.title);
      button.dataset.id = item.id;
      button.style.setProperty("--hue", item.colour);
      const picture = document.createElement("span");
      const column = item.at % data.columns, row = Math.floor(item.at / data.columns);
      picture.style.backgroundSize = `${100 * data.columns}% ${100 * data.rows}%`;
      picture.style.backgroundPosition = `${(100 * column) / Math.max(data.columns - 1, 1)}% ${(100 * row) / Math.max(data.rows - 1, 1)}%`;
      const mark = document.createElement("i");
      mark.textContent = item.mark;
      button.append(picture, mark);
      return button;
    }));
  }
  const choose = (id) => {
    for (const button of root.children) button.setAttribute("aria-pressed", String(button.dataset.id === id));
  };
  choose(data.picked);
  const tile = same ? null : root.querySelector('[aria-pressed="true"]');
  if (tile) { // the grid alone: scrollIntoView would scroll the page as well
    const view = root.getBoundingClientRect(), one = tile.getBoundingClientRect();
    root.scrollTop += Math.min(0, one.top - view.top) + Math.max(0, one.bottom - view.bottom);
  }
  root.onclick = (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    choose(button.dataset.id);
    setStateValue("picked", button.dataset.id);
  };
  root.onkeydown = (event) => {
    const all = [...root.children], at = all.indexOf(document.activeElement ?? null);
    const here = all.indexOf(event.target.closest("button"));
    const across = Math.max(1, Math.round(root.clientWidth / (all[0]?.offsetWidth || 1)));
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (!move) return;
    event.preventDefault();
    all[Math.min(all.length - 1, Math.max(0, (here < 0 ? at : here) + move))]?.focus();
  };
  return () => state.delete(root);
}
