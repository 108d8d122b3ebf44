// The page of one watcher: its charts, processes, log, options and events.

import * as acts from "./acts.js";
import * as api from "./api.js";
import { Chart, Series } from "./chart.js";
import { editOptions, plain, sendSignal } from "./dialogs.js";
import { Keyed, LongList, attribute, el, write } from "./dom.js";
import { Feed } from "./feed.js";
import { bytes, clock, dotOf, duration, lastExit, percent, plural, requests } from "./format.js";

const TABS = [["processes", "Processes"], ["log", "Log"], ["options", "Options"], ["events", "Events"]];
// Characters of output that are kept in the page.
const LONGEST = 300000;

class Processes {
  constructor(store, name) {
    const head = el("div", { class: "process-head", "aria-hidden": "true" }, ["pid", "id", "CPU", "memory", "age"].map((label, at) => el("span", { class: at === 1 || at === 4 ? "wide-only" : "" }, label)), el("span", { class: "wide-only" }, "holds"), el("span"));
    this.list = new LongList((process) => process.pid, (process) => {
      const cells = ["", "wide-only", "", "", "wide-only", "wide-only"].map((kind) => el("span", { class: kind, role: "cell" }));
      const button = store.readOnly ? null : el("button", { class: "icon", type: "button", "aria-label": `Send a signal to process ${process.pid}`, onclick: () => sendSignal(store.current, name, process.pid) }, "⚡");
      const node = el("div", { class: "process", role: "row", "data-pid": String(process.pid) }, cells, el("span", { role: "cell" }, button));
      return { node, update: (now) => [now.pid, now.wid ?? "", percent(now.cpu), bytes(now.rss), now.started ? duration(Date.now() / 1000 - now.started) : "–", now.leaving ? "is going" : [now.threads === null ? "" : plural(now.threads, "thread"), now.fds === null ? "" : plural(now.fds, "file")].filter(Boolean).join(", ") || "–"].forEach((value, at) => write(cells[at], value)) };
    }, 36, `Processes of ${name}`);
    this.node = el("div", {}, head, this.list.node);
    this.store = store;
    this.name = name;
  }

  update(watcher) {
    this.list.update(watcher.processes ?? []);
  }

  gone() {
    this.list.gone();
  }
}

class Log {
  constructor(store, name) {
    Object.assign(this, { store, name });
    this.text = el("pre", { class: "log", tabIndex: 0, role: "log", "aria-label": `Output of ${name}` });
    this.note = el("span", { class: "quiet" });
    this.output = el("select", { "aria-label": "Which output", onchange: () => this.follow() }, ["stdout", "stderr"].map((value) => el("option", { value }, value)));
    this.node = el("div", {}, el("div", { class: "body" }, this.output, " ", this.note), this.text);
    this.follow();
  }

  follow() {
    this.end?.();
    this.text.replaceChildren();
    this.text.hidden = false;
    write(this.note, "Reading …");
    this.end = api.followLog(this.store.current, this.name, this.output.value, 200, {
      log: ({ text }) => this.add(text),
      end: ({ reason }) => {
        write(this.note, reason);
        this.text.hidden = !this.text.hasChildNodes();
      },
    }, (there) => {
      // a stream that begins again tells its last lines again
      if (there) this.text.replaceChildren();
      write(this.note, there ? "Following; scroll up to hold still." : "The connection was lost; trying again …");
    });
  }

  add(text) {
    const held = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight > 40;
    this.text.append(el("span", {}, text));
    while (this.text.textContent.length > LONGEST && this.text.childElementCount > 1) this.text.firstElementChild.remove();
    if (!held) this.text.scrollTop = this.text.scrollHeight;
  }

  update() {}

  gone() {
    this.end();
  }
}

class Options {
  constructor(store, name) {
    Object.assign(this, { store, name, options: {} });
    this.body = el("tbody");
    const edit = (first) => editOptions(store.current, { name, options: this.options }, first, () => this.read());
    this.rows = new Keyed(this.body, ([key]) => key, ([key]) => {
      const value = el("td");
      const button = store.readOnly ? null : el("button", { class: "icon", type: "button", "aria-label": `Change ${key}`, onclick: () => edit(key) }, "✎");
      return { node: el("tr", {}, el("td", {}, key), value, el("td", { class: "right" }, button)), update: ([, now]) => write(value, plain(now)) };
    });
    this.note = el("p", { class: "notice bad", hidden: true });
    const change = store.readOnly ? null : el("button", { type: "button", onclick: () => edit() }, "Change options");
    this.node = el("div", {}, el("div", { class: "body" }, change, this.note), el("table", { class: "options" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Option"), el("th", { scope: "col" }, "Value"), el("th", { scope: "col" }, el("span", { class: "hidden-label" }, "Change")))), this.body));
    this.read();
  }

  async read() {
    try {
      this.options = (await api.watcher(this.store.current, this.name)).options ?? {};
      this.note.hidden = true;
    } catch (refused) {
      write(this.note, refused.message);
      this.note.hidden = false;
    }
    this.rows.update(Object.entries(this.options).sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  update() {
    // an option changes with an event, and not once a second
    const last = this.store.events.find((event) => event.watcher === this.name)?.number;
    if (last !== this.last) this.read();
    this.last = last;
  }
}

export class WatcherPage {
  constructor(store, name) {
    Object.assign(this, { store, name, tab: null });
    const button = (label, act, kind = "") => (store.readOnly ? null : el("button", { type: "button", class: kind, onclick: (event) => act(event.currentTarget) }, label));
    this.dot = el("span", { class: "dot" });
    this.state = el("span");
    this.buttons = new acts.Acts(store, { name, status: "active", wanted: 1 });
    this.last = el("div", { class: "notice bad lines", hidden: true });
    this.cpu = new Chart({ label: "CPU", width: 600, height: 90, wide: true });
    this.mem = new Chart({ label: "Memory", width: 600, height: 90, wide: true, floor: 1 << 20 });
    this.cpuText = el("b");
    this.memText = el("b");
    this.web = el("p", { class: "quiet", hidden: true });
    this.cpuTop = el("span", { class: "quiet" });
    this.memTop = el("span", { class: "quiet" });
    this.panel = el("div", { role: "tabpanel", id: "panel" });
    this.tabs = TABS.map(([key, label]) => el("button", { type: "button", role: "tab", id: `tab-${key}`, "aria-controls": "panel", "data-key": key, onclick: () => this.open(key) }, label));
    const tablist = el("div", { class: "tabs grow", role: "tablist", "aria-label": "What to see", onkeydown: (event) => this.arrow(event) }, this.tabs);
    this.gone_ = el("p", { class: "notice whole", hidden: true }, "The daemon has no such watcher (any more).");
    this.card = el("section", { class: "card whole", "aria-label": name },
      el("header", {}, el("a", { href: `#/${encodeURIComponent(store.current)}`, "aria-label": "Back to all watchers" }, "←"), el("h1", {}, name), el("span", { class: "state grow" }, this.dot, this.state),
        store.readOnly ? null : this.buttons.node,
        button("Restart", (self) => acts.restart(store, name, self)), button("Signal", () => sendSignal(store.current, name)), button("Remove", (self) => acts.remove(store, name, self), "danger")),
      el("div", { class: "body" }, this.last, el("div", { class: "charts" }, el("div", {}, el("span", { class: "quiet" }, "CPU "), this.cpuText, this.cpuTop, this.cpu.node), el("div", {}, el("span", { class: "quiet" }, "Memory "), this.memText, this.memTop, this.mem.node)), this.web),
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
    const series = store.series.get(this.name) ?? { cpu: new Series(), rss: new Series() };
    attribute(this.dot, "class", dotOf(watcher));
    write(this.state, `${watcher.status}, ${watcher.running} of ${watcher.wanted} running${watcher.trouble ? `: ${watcher.trouble}` : ""}`);
    const last = watcher.last_exit;
    this.last.hidden = !last;
    if (last) write(this.last, `Last loss at ${clock(last.time)}, ${lastExit(last)}${last.stderr?.length ? `\n${last.stderr.join("\n")}` : ""}`);
    write(this.cpuText, percent(series.cpu.last));
    write(this.memText, bytes(series.rss.last));
    this.web.hidden = !watcher.front;
    if (watcher.front) write(this.web, requests(watcher.front));
    const most = (one, format) => (one.values.length > 1 ? `, at most ${format(one.top)} in the last ${duration(one.values.length)}` : "");
    write(this.cpuTop, most(series.cpu, percent));
    write(this.memTop, most(series.rss, bytes));
    this.cpu.draw(series.cpu, percent);
    this.mem.draw(series.rss, bytes);
    this.buttons.update(watcher);
    this.tab.update(this.tab instanceof Feed ? store : watcher);
  }

  gone() {
    this.tab?.gone?.();
  }
}
