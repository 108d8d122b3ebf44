// The page as a whole: session, header, which daemon and watcher are looked at.

import * as api from "./api.js";
import { Keyed, attribute, el, everyFrame, write } from "./dom.js";
import { loginPage } from "./login.js";
import { Overview } from "./overview.js";
import { Store } from "./store.js";
import { WatcherPage } from "./watcher.js";

const app = document.getElementById("app");
const store = new Store();
let view = null;
let page = null;
// The first page of the daemon that is looked at, and how far down somebody was: who comes back finds it as it was.
let overview = null;
let down = 0;

function place() {
  const [daemon, watcher] = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  return { daemon: daemon ?? null, watcher: watcher ?? null };
}

// Kept in this browser only.
function theme(next) {
  if (next) localStorage.setItem("theme", next);
  const chosen = localStorage.getItem("theme");
  attribute(document.documentElement, "data-theme", chosen);
}

function switchTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.getAttribute("data-theme") ?? (dark ? "dark" : "light");
  theme(now === "dark" ? "light" : "dark");
}

function build() {
  const links = el("nav", { class: "daemons grow", "aria-label": "Daemons" });
  const daemons = new Keyed(links, (daemon) => daemon.id, (daemon) => {
    const dot = el("span", { class: "dot" });
    const name = el("span");
    const node = el("a", { href: `#/${encodeURIComponent(daemon.id)}`, title: [daemon.program, daemon.version, daemon.name, daemon.config].filter(Boolean).join(" ") || daemon.endpoint }, dot, name);
    return { node, update(now) {
      const current = now.id === store.current;
      attribute(dot, "class", `dot ${current ? store.state : now.state}`);
      write(name, now.endpoint);
      attribute(node, "aria-current", current ? "page" : null);
    } };
  });
  const notice = el("p", { class: "notice bad whole", role: "alert", hidden: true });
  const main = el("main", { id: "main", tabIndex: -1 }, notice);
  const readOnly = store.readOnly ? el("span", { class: "quiet" }, "read-only") : null;
  const out = store.session.csrf ? el("button", { type: "button", onclick: async () => {
    await api.logout().catch(() => {});
    location.reload();
  } }, "Log out") : null;
  app.replaceChildren(
    el("a", { class: "skip", href: "#main", onclick: (event) => {
      event.preventDefault();
      main.focus();
    } }, "Skip to the content"),
    el("header", { class: "bar" }, el("a", { class: "brand", href: "#/" }, el("img", { src: "/assets/icon.svg", alt: "" }), el("h1", {}, "circ")), links, readOnly, el("button", { type: "button", class: "icon", "aria-label": "Switch between dark and light", title: "Dark or light", onclick: switchTheme }, "◐"), out),
    main);
  return { main, notice, daemons, paint() {
    daemons.update(store.daemons);
    notice.hidden = store.state !== "down";
    write(notice, store.trouble);
    main.classList.toggle("stale", store.state === "down");
    page?.update();
    document.title = page instanceof WatcherPage ? `${page.name} · circ` : "circ";
  } };
}

function route() {
  const wanted = place();
  const daemon = wanted.daemon ?? store.daemons[0]?.id ?? null;
  if (daemon && daemon !== store.current) {
    store.look(daemon);
    page?.gone?.();
    page = null;
    overview = null;
    down = 0;
  }
  const name = page instanceof WatcherPage ? page.name : null;
  if (!page || name !== wanted.watcher) {
    const [first, away] = [!page, page === overview];
    if (away && !first) down = scrollY;
    page?.gone?.();
    page = wanted.watcher ? new WatcherPage(store, wanted.watcher) : (overview ??= new Overview(store));
    view.main.replaceChildren(view.notice, ...page.node);
    view.paint();
    // what had the focus has gone with its page
    if (!first) view.main.focus({ preventScroll: true });
    scrollTo(0, wanted.watcher ? 0 : down);
    return;
  }
  view.paint();
}

async function begin() {
  view = build();
  try {
    await store.refreshDaemons();
  } catch (refused) {
    store.lost(refused.message);
  }
  route();
  setInterval(() => store.refreshDaemons().catch(() => {}), 10000);
}

function locked() {
  store.leave();
  app.replaceChildren(loginPage((session) => {
    store.session = session;
    begin();
  }));
}

theme();
const paint = everyFrame(() => view?.paint());
store.addEventListener("change", () => paint());
store.addEventListener("locked", locked, { once: true });
window.addEventListener("hashchange", () => view && route());
document.addEventListener("visibilitychange", () => {
  // what nobody looks at costs the daemon nothing
  if (!view || !store.current) return;
  if (document.hidden) store.leave();
  else store.follow();
});

store.session = await api.session().catch((refused) => ({ authenticated: false, trouble: refused }));
if (store.session.authenticated) begin();
else locked();
