// The page of one watcher: its charts, processes, log, options and events.

import * as acts from "./acts.js";
import * as api from "./api.js";
import { Chart, Series } from "./chart.js";
import { editOptions, plain, sendSignal } from "./dialogs.js";
import { Keyed, LongList, attribute, el, write } from "./dom.js";
import { Feed } from "./feed.js";
import { bytes, clock, duration, percent } from "./format.js";

const TABS = [["processes", "Processes"], ["log", "Log"], ["options", "Options"], ["events", "Events"]];
const LINES = 2000;

class Processes {
  constructor(store, name) {
    const head = el("div", { class: "process-head", "aria-hidden": "true" }, ["pid", "id", "CPU", "memory", "age"].map((label, at) => el("span", { class: at === 1 || at === 4 ? "wide-only" : "" }, label)), el("span", { class: "wide-only" }, "command"), el("span"));
    this.list = new LongList((process) => process.pid, (process) => {
      const cells = ["", "wide-only", "", "", "wide-only", "wide-only"].map((kind) => el("span", { class: kind, role: "cell" }));
      const button = store.readOnly ? el("span") : el("button", { class: "icon", type: "button", "aria-label": `Send a signal to process ${process.pid}`, onclick: () => sendSignal(store.current, name, process.pid) }, "⚡");
      const node = el("div", { class: "process", role: "row", "data-pid": String(process.pid) }, cells, button);
      return { node, update: (now) => [now.pid, now.wid ?? "", percent(now.cpu), bytes(now.mem), duration(now.age), now.cmdline ?? ""].forEach((value, at) => write(cells[at], value)) };
    }, 36, `Processes of ${name}`);
    this.node = el("div", {}, head, this.list.node);
    this.store = store;
    this.name = name;
  }

  update(watcher) {
    const live = this.store.live.get(this.name)?.processes ?? {};
    const now = Date.now() / 1000;
    this.list.update((watcher.processes ?? []).map((process) => ({ ...process, ...live[process.pid], age: process.started ? now - process.started : process.age })));
  }

  gone() {
    this.list.gone();
  }
}

class Log {
  constructor(store, name) {
    this.text = el("pre", { class: "log", tabIndex: 0, role: "log", "aria-label": `Output of ${name}` });
    this.note = el("p", { class: "quiet body" }, "Reading …");
    this.node = el("div", {}, this.note, this.text);
    this.end = api.followLog(store.current, name, 200, {
      line: (line) => this.add(line),
      note: (note) => write(this.note, note.text),
    }, (there) => write(this.note, there ? "Following; scroll up to hold still." : "The connection was lost; trying again …"));
  }

  add({ text, stream }) {
    const held = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight > 40;
    this.text.append(el("span", { class: stream === "stderr" ? "err" : "" }, `${text}\n`));
    while (this.text.childElementCount > LINES) this.text.firstElementChild.remove();
    if (!held) this.text.scrollTop = this.text.scrollHeight;
  }

  update() {}

  gone() {
    this.end();
  }
}

class Options {
  constructor(store, name) {
    this.body = el("tbody");
    this.rows = new Keyed(this.body, ([key]) => key, ([key]) => {
      const value = el("td");
      const edit = store.readOnly ? null : el("button", { class: "icon", type: "button", "aria-label": `Change ${key}`, onclick: () => editOptions(store.current, this.watcher, Object.keys(this.watcher.options), key) }, "✎");
      return { node: el("tr", {}, el("td", {}, key), value, el("td", { class: "right" }, edit)), update: ([, now]) => write(value, plain(now)) };
    });
    const change = store.readOnly ? null : el("div", { class: "body" }, el("button", { type: "button", onclick: () => editOptions(store.current, this.watcher, Object.keys(this.watcher.options)) }, "Change options"));
    this.node = el("div", {}, change, el("table", { class: "options" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Option"), el("th", { scope: "col" }, "Value"), el("th"))), this.body));
    this.name = name;
  }

  update(watcher) {
    this.watcher = { ...watcher, options: watcher.options ?? {} };
    this.rows.update(Object.entries(this.watcher.options).sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}

export class WatcherPage {
  constructor(store, name) {
    Object.assign(this, { store, name, tab: null });
    const button = (label, act, kind = "") => (store.readOnly ? null : el("button", { type: "button", class: kind, onclick: (event) => act(event.currentTarget) }, label));
    this.dot = el("span", { class: "dot" });
    this.state = el("span");
    this.buttons = new acts.Acts(store, { name, status: "active", numprocesses: 1 });
    this.last = el("div", { class: "notice bad", hidden: true });
    this.cpu = new Chart({ label: "CPU", width: 600, height: 90, wide: true });
    this.mem = new Chart({ label: "Memory", width: 600, height: 90, wide: true, floor: 1 << 20 });
    this.cpuText = el("b");
    this.memText = el("b");
    this.panel = el("div", { role: "tabpanel", id: "panel" });
    this.tabs = TABS.map(([key, label]) => el("button", { type: "button", role: "tab", id: `tab-${key}`, "aria-controls": "panel", "data-key": key, onclick: () => this.open(key) }, label));
    const tablist = el("div", { class: "tabs grow", role: "tablist", "aria-label": "What to see", onkeydown: (event) => this.arrow(event) }, this.tabs);
    this.gone_ = el("p", { class: "notice whole", hidden: true }, "The daemon has no such watcher (any more).");
    this.card = el("section", { class: "card whole", "aria-label": name },
      el("header", {}, el("a", { href: `#/${encodeURIComponent(store.current)}`, "aria-label": "Back to all watchers" }, "←"), el("h1", {}, name), el("span", { class: "state grow" }, this.dot, this.state),
        store.readOnly ? null : this.buttons.node,
        button("Restart", (self) => acts.restart(store, name, self)), button("Signal", () => sendSignal(store.current, name)), button("Remove", (self) => acts.remove(store, name, self), "danger")),
      el("div", { class: "body" }, this.last, el("div", { class: "charts" }, el("div", {}, el("span", { class: "quiet" }, "CPU "), this.cpuText, this.cpu.node), el("div", {}, el("span", { class: "quiet" }, "Memory "), this.memText, this.mem.node))),
      el("header", {}, tablist), this.panel);
    this.node = [this.gone_, this.card];
    this.open("processes");
  }

  open(key) {
    if (this.shown === key) return;
    this.shown = key;
    this.tab?.gone?.();
    for (const tab of this.tabs) {
      attribute(tab, "aria-selected", String(tab.dataset.key === key));
      tab.tabIndex = tab.dataset.key === key ? 0 : -1;
    }
    const made = { processes: Processes, log: Log, options: Options }[key];
    this.tab = made ? new made(this.store, this.name) : new Feed(this.name);
    this.panel.setAttribute("aria-labelledby", `tab-${key}`);
    this.panel.replaceChildren(this.tab.node);
    this.update();
  }

  arrow(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = TABS.findIndex(([key]) => key === this.shown);
    const next = (at + step + TABS.length) % TABS.length;
    this.open(TABS[next][0]);
    this.tabs[next].focus();
  }

  update() {
    const { store } = this;
    const watcher = store.watchers.get(this.name);
    this.gone_.hidden = Boolean(watcher) || store.state !== "up";
    this.card.hidden = !watcher;
    if (!watcher) return;
    const series = store.series.get(this.name) ?? { cpu: new Series(), mem: new Series() };
    attribute(this.dot, "class", `dot ${watcher.trouble ? "failed" : watcher.status}`);
    write(this.state, `${watcher.status}, ${watcher.running} of ${watcher.numprocesses} running${watcher.trouble ? `: ${watcher.trouble}` : ""}`);
    const last = watcher.last_exit;
    this.last.hidden = !last;
    if (last) write(this.last, `Last loss at ${clock(last.time)}: ${last.text}${last.stderr?.length ? ` — ${last.stderr.join(" ⏎ ")}` : ""}`);
    write(this.cpuText, percent(series.cpu.last));
    write(this.memText, bytes(series.mem.last));
    this.cpu.draw(series.cpu, percent);
    this.mem.draw(series.mem, bytes);
    this.buttons.update(watcher);
    this.tab.update(this.tab instanceof Feed ? store : watcher);
  }

  gone() {
    this.tab?.gone?.();
  }
}
