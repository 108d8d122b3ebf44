// What the page knows of the daemon it looks at, and how it keeps knowing it.

import * as api from "./api.js";
import { Series } from "./chart.js";

const FEED = 300;
// Events come in bursts; one look for all of them.
const SETTLE = 150;
const POLL = 5000;

export class Store extends EventTarget {
  constructor() {
    super();
    this.daemons = [];
    this.current = null;
    this.session = {};
    this.forget();
  }

  forget() {
    this.watchers = new Map();
    this.sockets = [];
    this.series = new Map();
    this.total = { cpu: new Series(), mem: new Series() };
    this.live = new Map();
    this.events = [];
    this.state = "connecting";
    this.trouble = "";
  }

  told() {
    this.dispatchEvent(new Event("change"));
  }

  get readOnly() {
    return Boolean(this.session.read_only);
  }

  async refreshDaemons() {
    this.daemons = await api.daemons();
    this.told();
  }

  // Looks at another daemon from now on.
  look(daemon) {
    this.forget();
    this.current = daemon;
    this.follow();
  }

  // Begins to listen, or listens again after `leave`; what was known stays.
  follow() {
    this.leave();
    const daemon = this.current;
    const up = (there) => {
      if (!there) this.lost("The connection to the console was lost; trying again …");
      else this.refresh();
    };
    this.ends = [
      api.followEvents(daemon, {
        event: (event) => this.happened(event),
        state: (state) => (state.up ? this.refresh() : this.lost(state.reason)),
      }, up),
      api.followStats(daemon, { stats: (sample) => this.sampled(sample) }),
    ];
    const poll = setInterval(() => this.refresh(), POLL);
    this.ends.push(() => clearInterval(poll));
    this.refresh();
    this.told();
  }

  leave() {
    for (const end of this.ends ?? []) end();
    this.ends = [];
    clearTimeout(this.soon);
    this.soon = null;
  }

  lost(reason) {
    this.state = "down";
    this.trouble = reason || "The daemon does not answer; trying again …";
    this.told();
  }

  async refresh() {
    const daemon = this.current;
    if (!daemon || this.asking) return;
    this.asking = true;
    try {
      const seen = await api.watchers(daemon);
      if (daemon !== this.current) return;
      this.watchers = new Map(seen.watchers.map((watcher) => [watcher.name, watcher]));
      this.sockets = seen.sockets ?? [];
      this.state = "up";
      this.trouble = "";
    } catch (refused) {
      if (daemon !== this.current) return;
      if (refused.status === 401) this.dispatchEvent(new Event("locked"));
      this.lost(refused.message);
    } finally {
      this.asking = false;
    }
    this.told();
  }

  happened(event) {
    this.events.unshift({ ...event, number: (this.count = (this.count ?? 0) + 1) });
    this.events.length = Math.min(this.events.length, FEED);
    this.soon ??= setTimeout(() => {
      this.soon = null;
      this.refresh();
    }, SETTLE);
    this.told();
  }

  sampled(sample) {
    let cpu = 0;
    let mem = 0;
    this.live = new Map(Object.entries(sample.watchers ?? {}));
    for (const [name, now] of this.live) {
      if (!this.series.has(name)) this.series.set(name, { cpu: new Series(), mem: new Series() });
      cpu += now.cpu ?? 0;
      mem += now.mem ?? 0;
    }
    for (const [name, series] of this.series) {
      const now = this.live.get(name);
      if (!now && !this.watchers.has(name)) this.series.delete(name);
      else {
        series.cpu.push(now?.cpu ?? null);
        series.mem.push(now?.mem ?? null);
      }
    }
    this.total.cpu.push(cpu);
    this.total.mem.push(mem);
    this.told();
  }
}
