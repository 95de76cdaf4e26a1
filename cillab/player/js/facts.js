// What the cockpit says under its map: the numbers of the step, what happened in words, what changed. Methods of `Player`.

import { changesLine } from "./changes.js";
import { element, percent } from "./dom.js";
import { numbers } from "./panels.js";
import { counted, touchedNumbers } from "./touch.js";

export const telling = {
  // The numbers of the step: of one run what happened, in words; of two both, and by how much they differ.
  tellFacts(step) {
    this.lit = null; // the names are written anew
    const touched = this.touch?.active, { heads, rows } = touched ? touchedNumbers(this, step) : numbers(this, step), two = touched || this.runs.length > 1;
    const cell = (tag, text, more = {}) => element(tag, more, text);
    const table = element("table", {}, element("tr", {}, cell("th", ""), ...heads.map((head) => cell("th", head, { scope: "col" }))),
      ...rows.map(([title, values, at]) => element("tr", { "data-run": String(at) }, cell("th", two ? title : "now", { scope: "row" }), ...values.map((value) => cell("td", value)))));
    const said = this.data.runs[0].sentences?.[step];
    this.facts.replaceChildren(table, ...(said && !two ? [element("p", {}, said)] : []),
      ...(this.panels && this.runs.length === 1 ? changesLine(this.runs[0], step, (cls) => this.light(cls)) : []), ...(this.data.warning ? [element("p", { class: "warning" }, this.data.warning)] : []));
  },

  // Accuracy on the test set as the learner answered, on the probe where something was touched.
  titleNumber(run, step) {
    if (!this.touch?.active) return run.accuracy ? percent(run.accuracy[step]) : "";
    if (step >= run.steps.length) return "";
    const { sum } = counted(run, step);
    return `${percent(sum.after / sum.all)} of ${sum.all} probe images`;
  },

  // The points of one class, everything else pale; null for none.
  light(cls) {
    this.lit = cls;
    this.drawMap();
  },

  // Something was touched: everything that shows answers is drawn anew.
  touched() {
    this.shell.dataset.head = this.touch.active ? (this.touch.mixer?.moved ? "mixture" : this.touch.head) : "learned";
    this.labelled = null;
    this.draw();
  },
};
