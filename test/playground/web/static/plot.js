// Two plots over time as SVG: stacked areas, and one line. Both can be read with the
// mouse and, once they have the focus, with the arrow keys.
import { element, vector, text } from "./draw.js";

const margin = { top: 8, right: 12, bottom: 24, left: 46 };

// ticks are about n round numbers from 0 to at least max.
function ticks(max, n) {
  const rough = Math.max(max, 1e-9) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
  const out = [];
  for (let v = 0; ; v += step) {
    out.push(v);
    if (v >= max) return out;
  }
}

function ago(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return s === 0 ? "now" : `${s} s ago`;
  return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s ago` : `${s / 60} min ago`;
}

// frame is what both plots share: axes, and a cross that is moved along the samples.
function frame(box, height, label, describe) {
  const legend = element("div", { class: "legend" });
  const back = vector("g"), marks = vector("g"), front = vector("g");
  const svg = vector("svg", { height, tabindex: 0, role: "slider", "aria-roledescription": "plot", "aria-label": label, "aria-valuemin": 0 }, back, marks, front);
  box.append(legend, svg);
  let data = [], at = null, x = () => 0;

  function point() {
    front.replaceChildren();
    const i = at === null ? data.length - 1 : Math.min(at, data.length - 1);
    if (i < 0) return;
    if (at !== null) front.append(vector("line", { class: "cross", x1: x(i), x2: x(i), y1: margin.top, y2: height - margin.bottom }));
    const when = ago((Date.parse(data.at(-1).time) - Date.parse(data[i].time)) / 1000);
    svg.setAttribute("aria-valuemax", data.length - 1);
    svg.setAttribute("aria-valuenow", i);
    svg.setAttribute("aria-valuetext", describe(legend, data[i], when));
  }

  svg.addEventListener("pointermove", (e) => {
    const left = svg.getBoundingClientRect().left;
    let best = 0;
    for (let i = 1; i < data.length; i++) if (Math.abs(x(i) + left - e.clientX) < Math.abs(x(best) + left - e.clientX)) best = i;
    at = best;
    point();
  });
  svg.addEventListener("pointerleave", () => { at = null; point(); });
  svg.addEventListener("blur", () => { at = null; point(); });
  svg.addEventListener("keydown", (e) => {
    const last = data.length - 1;
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -last, End: last }[e.key];
    if (e.key === "Escape") at = null;
    else if (step === undefined) return;
    else at = Math.max(0, Math.min(last, (at ?? last) + step));
    e.preventDefault();
    point();
  });

  return function draw(fresh, max, format, paint) {
    data = fresh;
    const width = Math.max(160, box.clientWidth);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const end = data.length ? Date.parse(data.at(-1).time) : 0;
    const begin = Math.min(end - 60000, data.length ? Date.parse(data[0].time) : 0);
    const across = (t) => margin.left + ((t - begin) / (end - begin || 1)) * (width - margin.left - margin.right);
    x = (i) => across(Date.parse(data[i].time));
    const levels = ticks(max, 4), top = levels.at(-1);
    const y = (v) => height - margin.bottom - (v / top) * (height - margin.top - margin.bottom);
    back.replaceChildren();
    for (const v of levels) {
      back.append(vector("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(v), y2: y(v) }),
        vector("text", { class: "axis", x: margin.left - 8, y: y(v) + 4, "text-anchor": "end" }, format(v)));
    }
    const seconds = (end - begin) / 1000;
    const step = [10, 15, 30, 60, 120, 180, 300].find((s) => seconds / s <= Math.max(2, width / 110)) ?? 600;
    for (let s = 0; s <= seconds + 0.5; s += step) {
      back.append(vector("text", { class: "axis", x: across(end - s * 1000), y: height - 6, "text-anchor": s === 0 ? "end" : "middle" }, ago(s)));
    }
    marks.replaceChildren(...paint(x, y));
    point();
  };
}

function swatch(key, hatch) {
  const s = vector("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, vector("rect", { class: `fill-${key}`, width: 12, height: 12, rx: 2 }));
  if (hatch) s.append(vector("path", { class: "hatch", d: "M0 12L12 0M-3 9L3 3M9 15L15 9" }));
  return s;
}

// areas draws the series of each sample upon each other, as steps: pods come at once.
export function areas(box, series) {
  const values = new Map();
  const draw = frame(box, 240, "Where the pods are, over time", (legend, sample, when) => {
    if (!legend.children.length) {
      for (const s of series) {
        const value = element("strong");
        values.set(s.key, value);
        legend.append(element("span", {}, swatch(s.key, s.hatch), `${s.name} `, value));
      }
      legend.append(element("span", { class: "when" }));
    }
    for (const s of series) text(values.get(s.key), sample[s.key]);
    text(legend.lastChild, when);
    return `${when}: ${series.map((s) => `${s.name} ${sample[s.key]}`).join(", ")}`;
  });
  return (samples) => {
    const total = (s) => series.reduce((sum, one) => sum + s[one.key], 0);
    draw(samples, Math.max(4, ...samples.map(total)), (v) => String(v), (x, y) => {
      const below = samples.map(() => 0);
      const out = [];
      for (const s of series) {
        let top = "", bottom = "";
        samples.forEach((sample, i) => {
          const from = below[i], to = from + sample[s.key];
          below[i] = to;
          const left = x(i), right = x(Math.min(i + 1, samples.length - 1));
          top += `L${left} ${y(to)}L${right} ${y(to)}`;
          bottom = `L${right} ${y(from)}L${left} ${y(from)}` + bottom;
        });
        if (!top) continue;
        const d = `M${top.slice(1)}${bottom}Z`;
        out.push(vector("path", { class: `fill-${s.key}`, d }));
        if (s.hatch) out.push(vector("path", { d, fill: "url(#hatch)" }));
      }
      out.push(vector("defs", {}, vector("pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        vector("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 7 }))));
      return out;
    });
  };
}

// line draws one value a sample.
export function line(box, currency, kind) {
  const value = element("strong");
  const draw = frame(box, 120, `${currency} per hour, over time`, (legend, sample, when) => {
    if (!legend.children.length) legend.append(element("span", {}, swatch(kind), `${currency} per hour `, value), element("span", { class: "when" }));
    text(value, sample.value.toFixed(2));
    text(legend.lastChild, when);
    return `${when}: ${currency} ${sample.value.toFixed(2)} per hour`;
  });
  return (samples) => {
    const most = Math.max(0.01, ...samples.map((s) => s.value));
    draw(samples, most, (v) => String(+v.toPrecision(3)), (x, y) => {
      let d = "";
      samples.forEach((s, i) => {
        d += `L${x(i)} ${y(s.value)}L${x(Math.min(i + 1, samples.length - 1))} ${y(s.value)}`;
      });
      if (!d) return [];
      const path = `M${d.slice(1)}`;
      return [
        vector("path", { class: `area fill-${kind}`, d: `${path}L${x(samples.length - 1)} ${y(0)}L${x(0)} ${y(0)}Z` }),
        vector("path", { class: `cost-line stroke-${kind}`, d: path }),
      ];
    });
  };
}
