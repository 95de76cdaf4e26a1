// One draw of the player with 2,000 points and 20 steps over 2,000 bare dots on a canvas of the same size, drawn in turn.
  () => {
  const N = 2000, T = 20, K = 100;
  const piece = new Uint8Array(2 ** 20); let end = 0;
  const big = (a) => { piece.set(new Uint8Array(a.buffer), end); end += a.byteLength; return [end - a.byteLength, a.byteLength]; };
  let x = 7; const r = () => (x = (x * 16807) % 2147483647) / 2147483647;
  const xy = Int16Array.from({length: N * T * 2}, () => (r() - 0.5) * 60000);
  const run = { title: "t", alt: "a", probe: "p", ids: [...Array(N).keys()].map(String), names: [...Array(K).keys()].map(String),
    steps: [...Array(T).keys()].map(i => ({label: "s" + i, task: i, note: ""})), unit: 1, shared: false, frame: {x: 0, y: 0, width: 60000, height: 60000},
    cls: big(Uint16Array.from({length: N}, (_, i) => i % K)), task: big(Uint16Array.from({length: N}, (_, i) => Math.floor((i % K) / 5))),
    xy: big(xy), predicted: big(Uint16Array.from({length: N * T}, () => r() * K)), margin: null, means: big(Int16Array.from({length: K * T * 2}, () => (r() - 0.5) * 60000)),
    meanTask: big(Uint16Array.from({length: K}, (_, i) => Math.floor(i / 5))), head: null, accuracy: null, sprites: null };
  const root = document.createElement("div"); root.style.width = "900px"; document.body.append(root);
  const style = document.createElement("style"); style.textContent = ".pane canvas { width: 850px; height: 500px; display: block; }"; document.head.append(style);
  const player = window.mount(root, {token: "t", step: T - 1, blob: {getChildAt: () => ({get: () => piece})}, runs: [run], tasks: run.steps.map((_, i) => ({label: String(i), title: ""})), colours: {light: ["#0072B2", "#E08E00"], dark: ["#0072B2", "#E08E00"]}}, () => {});
  const bare = document.createElement("canvas"), pen = bare.getContext("2d");
  bare.width = 850; bare.height = 500; document.body.append(bare);
  const dots = () => {
    pen.clearRect(0, 0, 850, 500);
    for (let i = 0; i < N; i++) { pen.beginPath(); pen.arc((i * 37) % 850, (i * 91) % 500, 4, 0, 7); pen.fill(); pen.stroke(); }
  };
  const timed = (act) => { const from = performance.now(); act(); return performance.now() - from; };
  const ratios = [];
  for (let i = 0; i < 40; i++) {
    player.t = (T - 2) + (i % 10) / 10;
    const floor = timed(dots);
    ratios.push(timed(() => player.draw()) / Math.max(floor, 0.05));
  }
  return ratios.sort((a, b) => a - b)[20];
}
