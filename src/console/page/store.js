// What the page knows of the daemon it looks at, and how it keeps knowing it.

import * as api from "./api.js";
import { Series } from "./chart.js";

const FEED = 300;
// Events come in bursts; one look for all of them.
const SETTLE = 150;

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
    this.total = { cpu: new Series(), rss: new Series() };
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
    };
    const state = (now) => {
      if (now.state === "up") this.refresh();
      else this.lost(now.reason);
    };
    this.ends = [
      api.followEvents(daemon, { state, event: (event) => this.happened(event) }, up),
      api.followStats(daemon, { stats: (sample) => this.sampled(sample) }),
    ];
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
      this.seen(seen);
    } catch (refused) {
      if (daemon !== this.current) return;
      if (refused.status === 401) this.dispatchEvent(new Event("locked"));
      this.lost(refused.message);
    } finally {
      this.asking = false;
    }
    this.told();
  }

  // What there is now: of a question, or of a sample.
  seen({ watchers, sockets }) {
    this.watchers = new Map(watchers.map((watcher) => [watcher.name, watcher]));
    this.sockets = sockets ?? [];
    this.state = "up";
    this.trouble = "";
  }

  happened(event) {
    this.number = (this.number ?? 0) + 1;
    this.events.unshift({ ...event, number: this.number, time: event.payload?.time ?? Date.now() / 1000 });
    this.events.length = Math.min(this.events.length, FEED);
    this.soon ??= setTimeout(() => {
      this.soon = null;
      this.refresh();
    }, SETTLE);
    this.told();
  }

  sampled(sample) {
    this.seen(sample);
    const total = { cpu: 0, rss: 0 };
    for (const [name, now] of this.watchers) {
      if (!this.series.has(name)) this.series.set(name, { cpu: new Series(), rss: new Series() });
      for (const key of ["cpu", "rss"]) {
        total[key] += now[key] ?? 0;
        this.series.get(name)[key].push(now[key] ?? null);
      }
    }
    for (const name of this.series.keys()) if (!this.watchers.has(name)) this.series.delete(name);
    this.total.cpu.push(total.cpu);
    this.total.rss.push(total.rss);
    this.told();
  }
}
