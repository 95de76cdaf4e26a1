// The way to another page: one entry in the browser's history, whatever is in the address.
//
// Streamlit can change the page from the server, but not while an option of the page stands in the address, and it
// writes an entry for every change of the query, so that Back first walks through them. Here the address is set, and the
// browser says that it moved: Streamlit then opens the page that stands there, as it does for Back and Forward.
//
// A change of the query on the same page replaces the entry: Back leads to the page before.

let taken = null; // a component is told its data again whenever it is mounted

function keepOneEntryAPage() {
  if (history.pushState.onePage) return;
  const push = history.pushState;
  history.pushState = (state, unused, url) => {
    const same = url != null && new URL(url, location.href).pathname === location.pathname;
    return same ? history.replaceState(state, unused, url) : push.call(history, state, unused, url);
  };
  history.pushState.onePage = true;
}

// Lectures: Page Down and Page Up turn the stops, F fills the screen. What is typed into a field is nobody's order.
function listen() {
  if (document.documentElement.dataset.ways) return;
  document.documentElement.dataset.ways = "ready";
  document.addEventListener("keydown", (event) => {
    const [at] = event.composedPath();
    if (event.ctrlKey || event.metaKey || event.altKey || at?.matches?.("input:not([type=range]), textarea, [contenteditable]")) return;
    const turn = { PageDown: "next", PageUp: "back" }[event.key];
    const button = turn && document.querySelector(`.st-key-tour-${turn} button`);
    if (button) button.click();
    else if (event.key === "f" || event.key === "F") lecture();
    else return;
    event.preventDefault();
  });
  document.addEventListener("fullscreenchange", () => document.fullscreenElement || large(false));
  document.addEventListener("pointerover", (event) => keepCardsInSight(event.target.closest?.(".js-plotly-plot")));
}

// Plotly draws the card of a point inside its chart and cuts it there. The style sheet lets it stand out; here it is
// pushed back from the edge of the window.
function keepCardsInSight(chart) {
  const layers = chart && !chart.dataset.cards ? chart.querySelectorAll(".hoverlayer") : [];
  for (const layer of layers) {
    chart.dataset.cards = "kept";
    new MutationObserver(() => {
      for (const card of layer.querySelectorAll("g.hovertext")) {
        card.style.translate = "";
        const { left, right } = card.getBoundingClientRect(), room = document.documentElement.clientWidth - 4;
        const push = left < 4 ? 4 - left : right > room ? Math.max(room - right, 4 - left) : 0;
        if (push) card.style.translate = `${push}px 0`;
      }
    }).observe(layer, { childList: true, subtree: true });
  }
}

function lecture() {
  const on = !("lecture" in document.documentElement.dataset);
  large(on);
  if (on) document.documentElement.requestFullscreen?.().catch(() => {}); // large type helps without the full screen too
  else if (document.fullscreenElement) document.exitFullscreen();
}

function large(on) {
  if (on) document.documentElement.dataset.lecture = "";
  else delete document.documentElement.dataset.lecture;
  dispatchEvent(new Event("resize"));
}

// A browser that has just come fetches what draws HTML, and our style sheet, while it could already show headings.
function whenDressed(act) {
  const dressed = getComputedStyle(document.documentElement).getPropertyValue("--cillab-dressed");
  if (dressed) act();
  else requestAnimationFrame(() => whenDressed(act));
}

// The server draws figures and has to know how wide the window is: it is told on arrival, and when that changes.
const NARROW = matchMedia("(max-width: 700px)");
let tell = () => {};
NARROW.addEventListener("change", () => tell());

export default function ({ data, setTriggerValue }) {
  keepOneEntryAPage();
  listen();
  if ("ask" in data) tell = () => setTriggerValue("dressed", { narrow: NARROW.matches });
  if (data.ask) whenDressed(() => tell());
  const { to, here, token } = data;
  if (!token || token === taken) return;
  taken = token;
  // Pages are neighbours below the root of the app; on its first page the root may stand without its slash.
  const root = here ? new URL(".", location.href).pathname : location.pathname.replace(/\/?$/, "/");
  history.pushState({}, "", root + to);
  dispatchEvent(new PopStateEvent("popstate", { state: {} }));
}
