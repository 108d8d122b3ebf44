// What a person can do to a watcher. What ends work asks first.

import * as api from "./api.js";
import { confirm, toast } from "./dialogs.js";
import { el } from "./dom.js";

async function run(daemon, command, properties, done, button) {
  if (button) button.disabled = true;
  try {
    await api.command(daemon, command, properties);
    toast(done);
  } catch (refused) {
    toast(refused.message, true);
  }
  if (button) button.disabled = false;
}

const stopped = (watcher) => watcher.status === "stopped";

export const incr = (store, name, button) => run(store.current, "incr", { name, nb: 1 }, `${name}: one process more`, button);
export const start = (store, name, button) => run(store.current, "start", { name }, `${name}: starting`, button);
export const reload = (store, name, button) => run(store.current, "reload", { name }, `${name}: reloading, processes are replaced one set by the other`, button);

export async function decr(store, watcher, button) {
  if (watcher.wanted <= 1 && !(await confirm(`Take the last process of ${watcher.name} away?`, "Nobody does its work then.", "Take it away"))) return;
  await run(store.current, "decr", { name: watcher.name, nb: 1 }, `${watcher.name}: one process less`, button);
}

export async function stop(store, name, button) {
  if (await confirm(`Stop ${name}?`, "All its processes end, and it stays stopped until somebody starts it.", "Stop")) await run(store.current, "stop", { name }, `${name}: stopping`, button);
}

export async function restart(store, name, button) {
  if (await confirm(`Restart ${name}?`, "All its processes end before new ones begin. A reload replaces them without a gap.", "Restart")) await run(store.current, "restart", { name }, `${name}: restarting`, button);
}

export async function remove(store, name, button) {
  if (await confirm(`Remove ${name}?`, "Its processes end, and the daemon forgets it. The configuration file stays as it is.", "Remove")) await run(store.current, "rm", { name }, `${name}: removed`, button);
}

// The buttons of a watcher in a list.
export class Acts {
  constructor(store, watcher) {
    const { name } = watcher;
    this.watcher = watcher;
    const button = (label, sign, act) => el("button", { class: "icon", type: "button", "aria-label": `${label} ${name}`, title: label, onclick: (event) => act(event.currentTarget) }, sign);
    this.less = button("One process less of", "−", (self) => decr(store, this.watcher, self));
    this.more = button("One process more of", "+", (self) => incr(store, name, self));
    this.renew = button("Reload", "↻", (self) => reload(store, name, self));
    this.power = button("Stop", "■", (self) => (stopped(this.watcher) ? start(store, name, self) : stop(store, name, self)));
    this.node = el("div", { class: "acts" }, this.less, this.more, this.renew, this.power);
  }

  update(watcher) {
    this.watcher = watcher;
    const off = stopped(watcher);
    const verb = off ? "Start" : "Stop";
    if (this.power.title !== verb) {
      this.power.title = verb;
      this.power.textContent = off ? "▶" : "■";
      this.power.setAttribute("aria-label", `${verb} ${watcher.name}`);
    }
    this.less.disabled = watcher.wanted < 1;
    this.more.disabled = Boolean(watcher.singleton && watcher.wanted >= 1);
  }
}
