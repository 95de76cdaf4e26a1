// What changed at a step: the classes whose answers on the probe got worse or better since the step before, counted in the
// browser from the answers that are drawn. A name lights up the points of its class.

import { NONE_U16 } from "./data.js";
import { element } from "./dom.js";

const SHOWN = 2; // names on either side, so that they fit into a line

// By class: how many of its probe images were right before and are now, and what most of the new mistakes are taken for.
export function changes(run, step) {
  if (!(step > 0) || step >= run.steps.length) return [];
  const n = run.cls.length, old = run.steps[step - 1].task, found = new Map();
  for (let i = 0; i < n; i++) {
    if (run.task[i] > old) continue; // not to be answered before
    const c = run.cls[i], before = run.shown[(step - 1) * n + i], now = run.shown[step * n + i];
    if (before === NONE_U16 || now === NONE_U16) continue;
    if (!found.has(c)) found.set(c, { cls: c, all: 0, before: 0, now: 0, taken: new Map() });
    const one = found.get(c);
    one.all += 1; one.before += before === c; one.now += now === c;
    if (now !== c && now !== before) one.taken.set(now, (one.taken.get(now) ?? 0) + 1);
  }
  return [...found.values()].filter((one) => one.before !== one.now)
    .map((one) => ({ ...one, rival: [...one.taken].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null }))
    .sort((a, b) => Math.abs(b.now - b.before) - Math.abs(a.now - a.before) || a.cls - b.cls);
}

// A line of names; `light(cls)` shows the points of a class as long as it is pointed at or focused, or until pressed again.
export function changesLine(run, step, light) {
  const all = changes(run, step), worse = all.filter((one) => one.now < one.before), better = all.filter((one) => one.now > one.before);
  if (step === 0) return [];
  if (!all.length) return [element("p", { class: "changes" }, "No class gained or lost an answer at this step.")];
  const chip = (one) => {
    const text = `${one.before} → ${one.now} ${run.names[one.cls]}`, rival = one.rival == null ? "" : `, now taken for ${run.names[one.rival]}`;
    const title = `${run.names[one.cls]}: ${one.before} of ${one.all} right before, ${one.now} now${rival}`;
    return element("button", { type: "button", class: "toggle", title, "aria-label": `${title}: light up its points`, "data-lit": one.cls,
      onpointerenter: () => light(one.cls), onpointerleave: () => light(null), onfocus: () => light(one.cls), onblur: () => light(null) }, text);
  };
  const part = (word, some) => (some.length ? [element("span", { class: "name" }, `${some.length} ${some.length > 1 ? "classes" : "class"} ${word}`), ...some.slice(0, SHOWN).map(chip)] : []);
  return [element("p", { class: "changes" }, ...part("lost answers", worse), ...part(worse.length ? "gained" : "gained answers", better))];
}
