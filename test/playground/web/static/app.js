// The figures of the playground, drawn anew with every state that the server sends.
import { areas, line } from "./plot.js";
import { element, vector, text } from "./draw.js";

const byId = (id) => document.getElementById(id);
const places = ["local", "eci", "aci", "waiting"];
const names = { local: "Local nodes", eci: "Alibaba Cloud ECI", aci: "Azure ACI", waiting: "Waiting" };
const maxSamples = 900;
const samples = [];

const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const money = (v, digits) => v.toFixed(digits);
const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });

function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

const podsOf = (node) => node.running + node.starting;

function sampleOf(state) {
  const s = { time: state.time, local: 0, eci: 0, aci: 0, waiting: state.waiting.pods, perHour: {} };
  for (const n of state.local) s.local += podsOf(n);
  for (const n of state.virtual) {
    s[n.provider === "eci" ? "eci" : "aci"] += podsOf(n);
    if (n.bill?.currency) s.perHour[n.bill.currency] = (s.perHour[n.bill.currency] ?? 0) + n.bill.perHour;
  }
  return s;
}

// remember keeps one sample a second.
function remember(sample) {
  const last = samples.at(-1);
  if (last && Date.parse(sample.time) - Date.parse(last.time) < 1000) return;
  samples.push(sample);
  while (samples.length > maxSamples) samples.shift();
}

// tile puts figures in place, so that nothing flickers and readers keep their place.
function tile(id, place, name, value, note) {
  let box = byId(id);
  if (!box) {
    box = element("div", { id, class: `tile ${place}` }, element("dt", {}, name), element("dd"), element("dd", { class: "note" }));
    byId("tiles").append(box);
  }
  text(box.children[1], value);
  text(box.children[2], note);
}

function showTiles(state) {
  const s = sampleOf(state);
  let cpu = 0, all = 0;
  for (const n of state.local) { cpu += n.requestedCPU; all += n.allocatableCPU; }
  tile("tile-local", "local", names.local, s.local, `${+cpu.toFixed(1)} of ${+all.toFixed(1)} CPU`);
  for (const place of ["eci", "aci"]) {
    const starting = state.virtual.filter((n) => (n.provider === "eci") === (place === "eci")).reduce((sum, n) => sum + n.starting, 0);
    tile(`tile-${place}`, place, names[place], s[place], starting ? `${starting} starting or ending` : "pods");
  }
  tile("tile-waiting", "waiting", names.waiting, s.waiting, s.waiting ? `oldest ${span(state.waiting.oldestSeconds)}` : "pods");
  for (const n of state.virtual) {
    if (!n.bill?.currency) continue;
    tile(`tile-bill-${n.name}`, `bill ${n.provider}`, `Bill of ${n.name}`, `${n.bill.currency} ${money(n.bill.spent, 4)}`, `+${money(n.bill.perHour, 2)} per hour`);
  }
}

// bar is a track with what runs and what begins, as shares of the whole.
function bar(cell, kind, full, starting, label) {
  let svg = cell.querySelector("svg");
  if (!svg) {
    svg = vector("svg", { class: "bar", viewBox: "0 0 100 12", preserveAspectRatio: "none", role: "img" },
      vector("rect", { class: "track", width: 100, height: 12, rx: 2 }), vector("rect", { height: 12 }), vector("rect", { height: 12 }));
    cell.append(svg);
  }
  svg.setAttribute("aria-label", label);
  const [, first, second] = svg.children;
  first.setAttribute("class", `fill-${kind}`);
  first.setAttribute("width", Math.min(100, full * 100));
  second.setAttribute("class", `fill-${kind} starting`);
  second.setAttribute("x", Math.min(100, full * 100));
  second.setAttribute("width", Math.max(0, Math.min(100 - full * 100, starting * 100)));
}

// rows keeps one table row for each key, in order.
function rows(body, keys, fill) {
  const known = new Map([...body.children].map((r) => [r.dataset.key, r]));
  keys.forEach((key, i) => {
    let row = known.get(key);
    known.delete(key);
    if (!row) {
      row = element("tr", { "data-key": key }, ...[0, 1, 2, 3].map(() => element("td")));
    }
    if (body.children[i] !== row) body.insertBefore(row, body.children[i] ?? null);
    fill(row, i);
  });
  for (const row of known.values()) row.remove();
}

function showNodes(state) {
  const all = [...state.local, ...state.virtual];
  const most = Math.max(10, ...state.virtual.map(podsOf));
  rows(byId("nodes").tBodies[0], all.map((n) => n.name), (row, i) => {
    const n = all[i], pods = podsOf(n), [name, filling, count, figure] = row.cells;
    const flags = [n.ready ? "" : "not ready", n.cordoned ? "cordoned" : "", n.noCapacity ? "no capacity" : ""].filter(Boolean).join(", ");
    const mark = `${n.name}\n${flags}`;
    if (name.dataset.mark !== mark) {
      name.dataset.mark = mark;
      name.replaceChildren(element("span", { class: `${n.provider || "local"}-ink` }, n.name), ...(flags ? [element("span", { class: "flag" }, flags)] : []));
    }
    if (n.provider) {
      bar(filling, n.provider, n.running / most, n.starting / most, `${plural(n.running, "pod")} running, ${n.starting} starting or ending`);
      text(figure, n.bill?.currency ? `${n.bill.currency} ${money(n.bill.spent, 4)}` : "nothing billed yet");
    } else {
      const share = n.allocatableCPU ? n.requestedCPU / n.allocatableCPU : 0;
      const running = pods ? (share * n.running) / pods : 0;
      bar(filling, "local", running, share - running, `${Math.round(share * 100)} percent of the CPU is asked for`);
      text(figure, `${+n.requestedCPU.toFixed(1)} of ${+n.allocatableCPU.toFixed(1)} CPU`);
    }
    text(count, pods);
  });
}

function showLimits(state) {
  byId("no-limits").hidden = state.limits.length > 0;
  byId("limits").hidden = state.limits.length === 0;
  const keys = state.limits.map((l) => [l.policy, l.target ?? "", l.resource].join(" "));
  rows(byId("limits").tBodies[0], keys, (row, i) => {
    const l = state.limits[i], [name, share, used, max] = row.cells;
    text(name, `${l.policy.split(" ").at(-1)}${l.target ? ` → ${l.target}` : ""}`);
    bar(share, l.share >= 1 ? "full" : "limit", Math.min(1, l.share), 0, `${Math.round(l.share * 100)} percent used`);
    text(used, l.used);
    text(max, `${l.max} ${l.resource}`);
  });
}

let shownEvents = "";

function showEvents(state) {
  const key = JSON.stringify(state.events);
  if (key === shownEvents) return;
  shownEvents = key;
  const list = [...state.events].reverse().map((e) =>
    element("li", {}, element("time", { datetime: e.time }, clock(e.time)),
      element("span", {}, element("strong", { class: e.warning ? "warning" : e.place ? `${e.place}-ink` : "" }, e.object), e.message)));
  byId("events").replaceChildren(...(list.length ? list : [element("li", {}, element("time", {}, "–"), element("span", {}, "none yet"))]));
}

function showAlarm(state) {
  const message = state.trouble ? `The figures may be old: ${state.trouble.split("\n")[0]}` : state.stopped ? "All bursting is stopped by an operator." : "";
  const alarm = byId("alarm");
  alarm.hidden = !message;
  if (alarm.textContent !== message) alarm.textContent = message;
}

const podsPlot = areas(byId("plot-pods"), places.map((p) => ({ key: p, name: names[p], hatch: p === "waiting" })));
const costPlots = new Map();

function drawPlots(state) {
  podsPlot(samples);
  for (const n of state.virtual) {
    const currency = n.bill?.currency;
    if (!currency) continue;
    if (!costPlots.has(currency)) {
      const box = element("div", { class: "plot" });
      byId("plot-cost").append(box);
      costPlots.set(currency, line(box, currency, n.provider));
    }
  }
  for (const [currency, draw] of costPlots) draw(samples.map((s) => ({ time: s.time, value: s.perHour[currency] ?? 0 })));
  let none = byId("no-cost");
  if (!costPlots.size && !none) byId("plot-cost").append(element("p", { id: "no-cost", class: "quiet" }, "Nothing is billed yet."));
  if (costPlots.size && none) none.remove();
}

function show(state) {
  remember(sampleOf(state));
  text(byId("up"), `up ${span((Date.parse(state.time) - Date.parse(state.since)) / 1000)}`);
  showAlarm(state);
  showTiles(state);
  showNodes(state);
  showLimits(state);
  showEvents(state);
  drawPlots(state);
  document.documentElement.dataset.shown = state.time;
}

function link(live) {
  const badge = byId("link");
  badge.className = `badge ${live ? "live" : "dead"}`;
  text(badge, live ? "live" : "no connection");
}

const about = await (await fetch("api/about")).json();
byId("lines").textContent = about.commands.join("\n");
for (const s of await (await fetch("api/history")).json()) remember(s);

// Frames that nobody sees are not drawn.
let newest, scheduled = false;
function schedule() {
  if (scheduled || document.hidden || !newest) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; show(newest); });
}
document.addEventListener("visibilitychange", schedule);
addEventListener("resize", schedule);
const events = new EventSource("api/events");
events.onopen = () => link(true);
events.onerror = () => link(false);
events.onmessage = (e) => {
  newest = JSON.parse(e.data);
  remember(sampleOf(newest));
  schedule();
};
