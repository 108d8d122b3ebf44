// The first page: figures, watchers, sockets, events.

import { Acts } from "./acts.js";
import { Chart } from "./chart.js";
import { addWatcher } from "./dialogs.js";
import { Keyed, attribute, el, write } from "./dom.js";
import { Feed } from "./feed.js";
import { bytes, dotOf, duration, oldest, percent, plural } from "./format.js";

const COLUMNS = [
  ["name", "Name", (w) => w.name],
  ["procs", "Processes", (w) => w.running],
  ["cpu", "CPU", (w) => w.cpu ?? -1],
  ["rss", "Memory", (w) => w.rss ?? -1],
  ["restarts", "Restarts", (w) => w.restarts ?? 0],
  ["up", "Up", (w) => -(oldest(w) || Infinity)],
];

const SOCKETS = ["Name", "Address", "Waiting", "Reads a second"];

class Figure {
  constructor(label, chart) {
    this.value = el("b");
    this.note = el("span", { class: "quiet" });
    this.chart = chart && new Chart({ label, floor: 1 });
    this.node = el("div", { class: "card figure" }, el("span", { class: "quiet" }, label), this.value, this.chart ? this.chart.node : this.note);
  }
}

class Row {
  constructor(store, watcher) {
    const link = `#/${encodeURIComponent(store.current)}/${encodeURIComponent(watcher.name)}`;
    this.dot = el("span", { class: "dot" });
    this.state = el("span");
    this.why = el("small");
    this.procs = el("td", { "data-label": "Processes" });
    this.cpuText = el("span");
    this.memText = el("span");
    this.cpuChart = new Chart({ label: `CPU of ${watcher.name}` });
    this.memChart = new Chart({ label: `Memory of ${watcher.name}`, floor: 1 << 20 });
    this.restarts = el("td", { "data-label": "Restarts" });
    this.up = el("td", { "data-label": "Up" });
    this.acts = new Acts(store, watcher);
    this.store = store;
    this.node = el("tr", {},
      el("td", { class: "name" }, el("a", { href: link }, watcher.name), " ", el("span", { class: "state quiet" }, this.dot, this.state), this.why),
      this.procs,
      el("td", { "data-label": "CPU" }, el("div", { class: "live" }, this.cpuText, this.cpuChart.node)),
      el("td", { "data-label": "Memory" }, el("div", { class: "live" }, this.memText, this.memChart.node)),
      this.restarts, this.up,
      el("td", { class: "actcell" }, store.readOnly ? null : this.acts.node));
    attribute(this.node, "data-watcher", watcher.name);
  }

  update(watcher) {
    const { store } = this;
    const series = store.series.get(watcher.name);
    attribute(this.dot, "class", dotOf(watcher));
    write(this.state, watcher.waiting ? "waits for a connection" : watcher.status);
    write(this.why, watcher.trouble ?? "");
    write(this.procs, `${watcher.running} / ${watcher.wanted}`);
    write(this.restarts, watcher.restarts ?? "–");
    write(this.up, duration(Date.now() / 1000 - oldest(watcher)));
    write(this.cpuText, percent(watcher.cpu));
    write(this.memText, bytes(watcher.rss));
    if (series) {
      this.cpuChart.draw(series.cpu, percent);
      this.memChart.draw(series.rss, bytes);
    }
    this.acts.update(watcher);
  }
}

export class Overview {
  constructor(store) {
    this.store = store;
    this.sort = { key: "name", down: false };
    this.figures = { watchers: new Figure("Watchers"), procs: new Figure("Processes"), cpu: new Figure("CPU", true), mem: new Figure("Memory", true) };
    const heads = COLUMNS.map(([key, label]) => el("th", { scope: "col", "data-key": key }, el("button", { type: "button", onclick: () => this.sortBy(key) }, label)));
    this.heads = heads;
    this.body = el("tbody");
    this.rows = new Keyed(this.body, (watcher) => watcher.name, (watcher) => new Row(store, watcher));
    this.bad = el("button", { type: "button", class: "link", hidden: true, "aria-pressed": "false", title: "Only those in trouble", onclick: () => {
      this.onlyBad = !this.onlyBad;
      this.update();
    } });
    this.figures.watchers.node.append(this.bad);
    this.filter = el("input", { type: "search", placeholder: "Filter", "aria-label": "Filter watchers by name", oninput: () => this.update() });
    this.none = el("p", { class: "quiet body" });
    const add = store.readOnly ? null : el("button", { type: "button", onclick: () => addWatcher(store.current) }, "Add a watcher");
    this.socketBody = el("tbody");
    this.socketRows = new Keyed(this.socketBody, (socket) => socket.name, (socket) => {
      const cells = SOCKETS.map((label) => el("td", { "data-label": label }));
      let [last, time, reads] = [null, 0, null];
      return { node: el("tr", {}, cells), socket, update: (now) => {
        // the daemon counts; here it is what came in a second, between two samples
        if (now !== last) {
          const at = Date.now() / 1000;
          reads = now.reads == null || last?.reads == null || at <= time ? null : Math.round(Math.max(0, now.reads - last.reads) / (at - time));
          [last, time] = [now, at];
        }
        const most = now.limit ?? now.backlog;
        const queue = now.waiting == null ? most : `${now.waiting} of ${most}${now.full ? ", full" : ""}`;
        attribute(cells[2], "class", now.full ? "bad" : null);
        [now.name, now.path ?? `${now.host}:${now.port}`, queue, reads].forEach((value, at) => write(cells[at], value ?? "–"));
      } };
    });
    this.sockets = el("section", { class: "card", "aria-label": "Sockets" }, el("header", {}, el("h2", {}, "Sockets")), el("table", { class: "stack" }, el("thead", {}, el("tr", {}, SOCKETS.map((label) => el("th", { scope: "col" }, label)))), this.socketBody));
    this.feed = new Feed();
    this.node = [
      el("div", { class: "figures whole" }, Object.values(this.figures).map((figure) => figure.node)),
      el("div", {}, el("section", { class: "card", "aria-label": "Watchers" }, el("header", {}, el("h2", { class: "grow" }, "Watchers"), this.filter, add), el("table", { class: "stack" }, el("thead", {}, el("tr", {}, heads, el("th", { scope: "col" }, el("span", { class: "hidden-label" }, "Actions")))), this.body), this.none), el("div", { class: "gap" }), this.sockets),
      this.feed.node,
    ];
  }

  sortBy(key) {
    this.sort = { key, down: this.sort.key === key ? !this.sort.down : !["name"].includes(key) };
    this.update();
  }

  update() {
    const { store, sort } = this;
    const all = [...store.watchers.values()];
    const running = all.reduce((sum, watcher) => sum + watcher.running, 0);
    const wanted = all.reduce((sum, watcher) => sum + (watcher.status === "stopped" ? 0 : watcher.wanted), 0);
    const bad = all.filter((watcher) => watcher.trouble).length;
    write(this.figures.watchers.value, all.length);
    this.onlyBad &&= bad > 0;
    this.bad.hidden = bad === 0;
    this.figures.watchers.note.hidden = bad > 0;
    write(this.figures.watchers.note, "all well");
    write(this.bad, `${bad} in trouble`);
    attribute(this.bad, "aria-pressed", String(Boolean(this.onlyBad)));
    write(this.figures.procs.value, running);
    write(this.figures.procs.note, `of ${plural(wanted, "wanted one", "wanted")}`);
    write(this.figures.cpu.value, percent(store.total.cpu.last));
    write(this.figures.mem.value, bytes(store.total.rss.last));
    this.figures.cpu.chart.draw(store.total.cpu, percent);
    this.figures.mem.chart.draw(store.total.rss, bytes);
    for (const head of this.heads) attribute(head, "aria-sort", head.dataset.key === sort.key ? (sort.down ? "descending" : "ascending") : null);
    const value = COLUMNS.find(([key]) => key === sort.key)[2];
    const word = this.filter.value.trim().toLowerCase();
    const shown = all.filter((watcher) => watcher.name.toLowerCase().includes(word) && (!this.onlyBad || watcher.trouble));
    shown.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return (x < y ? -1 : x > y ? 1 : a.name < b.name ? -1 : 1) * (sort.down ? -1 : 1);
    });
    this.rows.update(shown);
    this.none.hidden = shown.length > 0;
    write(this.none, all.length ? "No watcher has such a name." : store.state === "up" ? "This daemon has no watchers." : "");
    this.sockets.hidden = store.sockets.length === 0;
    this.socketRows.update(store.sockets);
    this.feed.update(store);
  }
}
