// Layout shift as the Web Vitals count it: the largest sum within windows of at most 5 s without a gap of 1 s, and who moved.
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    const name = (node) => {
      const at = node?.nodeType === 1 ? node : node?.parentElement;
      return at ? `${at.tagName.toLowerCase()}.${String(at.className?.baseVal ?? at.className).slice(0, 60)} ${at.textContent.slice(0, 30)}` : "gone";
    };
    window.shifts.push({
      value: entry.value, at: entry.startTime,
      who: entry.sources.map((s) => `${name(s.node)} ${[s.previousRect, s.currentRect].map((r) => [r.x, r.y, r.width, r.height].map(Math.round))}`),
    });
  }
}).observe({ type: "layout-shift", buffered: true });

window.layoutShift = () => {
  let worst = 0, sum = 0, first = -Infinity, last = -Infinity;
  for (const { value, at } of window.shifts) {
    if (at - last > 1000 || at - first > 5000) [sum, first] = [0, at];
    [sum, last] = [sum + value, at];
    worst = Math.max(worst, sum);
  }
  return worst;
};
