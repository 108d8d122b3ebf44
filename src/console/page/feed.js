// What happens, newest first.

import { Keyed, el } from "./dom.js";
import { clock } from "./format.js";

const BAD = new Set(["reap", "hook_failure"]);

function text({ watcher, action, payload: data = {} }) {
  const who = data.process_pid ?? data.pid;
  const of = who ? ` (pid ${who})` : "";
  switch (action) {
    case "spawn": return `${watcher}: a process started${of}`;
    case "reap": return `${watcher}: a process ended${of}${data.exit_code === undefined || data.exit_code === null ? "" : Number(data.exit_code) < 0 ? `, signal ${-data.exit_code}` : `, exit code ${data.exit_code}`}`;
    case "kill": return `${watcher}: a process was told to go${of}`;
    case "start": return `${watcher}: started`;
    case "stop": return `${watcher}: stopped`;
    case "updated": return `${watcher}: options changed`;
    default: return `${watcher}: ${action}${of}`;
  }
}

export class Feed {
  // Only of one watcher if `name` is given.
  constructor(name = null) {
    this.name = name;
    this.list = el("ol", { class: "feed", tabIndex: 0, "aria-label": "Events, newest first" });
    this.empty = el("p", { class: "quiet body" }, "Nothing has happened since this page was opened.");
    this.node = el("section", { class: "card", "aria-label": "Events" }, el("header", {}, el("h2", {}, "Events")), this.empty, this.list);
    this.keyed = new Keyed(this.list, (event) => event.number, (event) => {
      const bad = BAD.has(event.action) && event.payload?.exit_code;
      return { node: el("li", { class: bad ? "bad" : "" }, el("time", { dateTime: new Date(event.time * 1000).toISOString() }, clock(event.time)), el("span", {}, text(event))), update() {} };
    });
  }

  update(store) {
    const shown = this.name ? store.events.filter((event) => event.watcher === this.name) : store.events;
    this.empty.hidden = shown.length > 0;
    this.keyed.update(shown.slice(0, 200));
  }
}
