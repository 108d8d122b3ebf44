// Lines of the last minutes, drawn as SVG.

import { svg, write } from "./dom.js";

// The last values of one quantity, oldest first. A second without a value is a gap and not a zero.
export class Series {
  constructor(length = 120) {
    this.length = length;
    this.values = [];
  }

  push(value) {
    this.values.push(value);
    if (this.values.length > this.length) this.values.shift();
  }

  get last() {
    return this.values.at(-1);
  }

  get top() {
    return Math.max(0, ...this.values.filter((value) => value !== null));
  }
}

// `floor` is the least height of the scale, so that noise near zero stays near zero.
export class Chart {
  constructor({ width = 120, height = 28, floor = 1, label, wide = false }) {
    Object.assign(this, { width, height, floor });
    this.area = svg("path", { class: "chart-area" });
    this.line = svg("path", { class: "chart-line" });
    this.title = svg("title");
    this.label = label;
    this.node = svg(
      "svg",
      { class: wide ? "chart wide" : "chart", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" },
      this.title, this.area, this.line,
    );
  }

  draw(series, format) {
    const top = Math.max(this.floor, series.top) * 1.1;
    const step = this.width / (series.length - 1);
    const left = this.width - (series.values.length - 1) * step;
    let line = "";
    let area = "";
    let begin = null;
    series.values.forEach((value, index) => {
      const x = (left + index * step).toFixed(1);
      if (value === null) {
        if (begin !== null) area += `L${x} ${this.height}L${begin} ${this.height}Z`;
        begin = null;
        return;
      }
      const y = (this.height - 1 - (value / top) * (this.height - 2)).toFixed(1);
      line += `${begin === null ? "M" : "L"}${x} ${y}`;
      area += begin === null ? `M${x} ${this.height}L${x} ${y}` : `L${x} ${y}`;
      begin ??= x;
    });
    if (begin !== null) area += `L${this.width} ${this.height}L${begin} ${this.height}Z`;
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
    write(this.title, `${this.label}: ${format(series.last)} now, at most ${format(series.top)} in the last ${series.length} s`);
  }
}
