// Clocks inside the page. Every function resolves with milliseconds from the action to what a person sees of it.
window.clocks = (() => {
  const all = (selector) => [document, ...[...document.querySelectorAll("*")].map((node) => node.shadowRoot).filter(Boolean)]
    .flatMap((root) => [...root.querySelectorAll(selector)]);  // components live in shadow roots
  const player = () => all("[data-step]")[0];
  const inside = (selector) => player().querySelector(selector);
  const key = (node, name) => node.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, composed: true }));
  // Work on this thread: the event itself, and the longest frame of the movement that follows.
  const work = async (act, wait) => {
    window.frames_ms.length = 0;
    const from = performance.now();
    window.tagging = true;
    act();
    window.tagging = false;
    const first = performance.now() - from;
    await new Promise((done) => setTimeout(done, wait));
    return Math.max(first, ...window.frames_ms);
  };
  const step = (name) => { const canvas = inside(".pane canvas"); canvas.focus(); return work(() => key(canvas, name), 700); };
  // The last of all drawings that follow, when nothing is drawn any more for `quiet` ms.
  const settled = async (act, quiet = 700, limit = 20000) => {
    let last = null;
    const main = document.querySelector(".stMain");
    const seen = new MutationObserver((changes) => {
      if (changes.some((c) => !(c.target.nodeType === 1 ? c.target : c.target.parentElement)?.closest?.("[data-step], .stSlider, [data-testid='stStatusWidget']"))) last = performance.now();
    });
    seen.observe(main, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["src", "d", "transform", "style"] });
    let from = performance.now();
    from = (await act()) ?? from;
    while (performance.now() - (last ?? from) < (last === null ? 3000 : quiet) && performance.now() - from < limit) await new Promise((r) => setTimeout(r, 20));
    seen.disconnect();
    if (last === null) throw new Error("nothing changed");
    return last - from;
  };
  const hover = async (x, y) => {
    const canvas = inside(".pane canvas"), card = inside(".card"), box = canvas.getBoundingClientRect();
    const took = await work(() => canvas.dispatchEvent(new PointerEvent("pointermove", {
      clientX: box.left + x * box.width, clientY: box.top + y * box.height, bubbles: true, pointerType: "mouse" })), 60);
    return card.hidden ? null : took;
  };
  // A real key press, which only the driver of the browser can make: the clock starts with it.
  const heard = (kind) => settled(() => new Promise((done) =>
    document.addEventListener(kind, () => done(performance.now()), { capture: true, once: true })));
  const pressed = () => heard("keydown"), clicked = () => heard("pointerdown");
  // Another head, or a fader of the mixture, until the answers (and the maps of the image) are drawn.
  const head = (name) => work(() => inside(`[data-head=${name}]`).click(), 120);
  const fader = async (value) => {
    const mixer = inside(".mixer"), input = mixer.querySelector("[data-term]"), before = mixer.dataset.answered, from = performance.now();
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    while (mixer.dataset.answered === before && performance.now() - from < 20000) await new Promise((r) => setTimeout(r, 4));
    return performance.now() - from;
  };
  const click = (selector, at) => settled(async () => { all(selector)[at].click(); });
  return { player, step, hover, pressed, clicked, click, head, fader };
})();
