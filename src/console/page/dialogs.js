// Questions to the person: confirmations, a new watcher, changed options with what they would change.

import * as api from "./api.js";
import { unified } from "./diff.js";
import { el } from "./dom.js";

export function toast(text, bad = false) {
  const node = el("div", { class: bad ? "toast bad" : "toast" }, text);
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), bad ? 9000 : 4000);
}

function open(dialog) {
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
  return dialog;
}

// Resolves to true if the person agrees. The safe answer has the focus.
export function confirm(question, detail, verb) {
  return new Promise((resolve) => {
    const no = el("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Cancel");
    const yes = el("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, verb);
    const dialog = open(el("dialog", { "aria-label": question }, el("form", { method: "dialog" }, el("h2", {}, question), detail && el("p", { class: "quiet" }, detail), el("div", { class: "foot" }, no, yes))));
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
    no.focus();
  });
}

const field = (label, input, hint) => el("label", { class: "field" }, label, input, hint && el("small", { class: "quiet" }, hint));

// A form in a dialog: `send(form)` is awaited; what it throws is shown and the dialog stays.
function ask(title, fields, verb, send, extra = []) {
  const error = el("p", { class: "notice bad", role: "alert", hidden: true });
  const go = el("button", { class: "main" }, verb);
  const form = el("form", { onsubmit: submit }, el("h2", {}, title), ...fields, error, el("div", { class: "foot" }, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), ...extra, go));
  const dialog = open(el("dialog", { "aria-label": title }, form));
  async function submit(event) {
    event.preventDefault();
    go.disabled = true;
    error.hidden = true;
    try {
      if ((await send(form)) !== false) dialog.close();
    } catch (refused) {
      error.textContent = refused.message;
      error.hidden = false;
    }
    go.disabled = false;
  }
  return { dialog, form, go };
}

// A new watcher: what `add` needs.
export function addWatcher(daemon) {
  const name = el("input", { name: "name", required: true, autocomplete: "off", spellcheck: false });
  const cmd = el("input", { name: "cmd", required: true, autocomplete: "off", spellcheck: false, class: "mono", placeholder: "python3 -m http.server 8000" });
  const count = el("input", { name: "count", type: "number", min: 1, value: 1 });
  const start = el("input", { name: "start", type: "checkbox", checked: true });
  ask("New watcher", [field("Name", name), field("Command", cmd), field("Processes", count), el("label", {}, start, " start it now"), el("p", { class: "quiet" }, "It lives in the daemon only: the file stays as it is, and a restart of the daemon forgets it.")], "Add", async () => {
    const options = { numprocesses: Number(count.value) };
    await api.command(daemon, "add", { name: name.value, cmd: cmd.value, start: start.checked, options });
    toast(`${name.value} was added`);
  });
}

export function sendSignal(daemon, name, pid) {
  const signal = el("select", { name: "signal" }, ["HUP", "INT", "TERM", "USR1", "USR2", "CONT", "STOP", "QUIT", "KILL"].map((value) => el("option", { value }, value)));
  const what = pid ? `process ${pid} of ${name}` : `all processes of ${name}`;
  ask(`Send a signal to ${what}`, [field("Signal", signal)], "Send", async () => {
    const to = pid ? { name, pid, signum: signal.value } : { name, signum: signal.value };
    await api.command(daemon, "signal", to);
    toast(`${signal.value} was sent to ${what}`);
  });
}

// What a report of `circ state` would change, coloured.
function reportView(report) {
  const lines = report.diff.flatMap((part) => {
    if (part.prepared !== undefined) return part.prepared.trimEnd().split("\n").map((line) => ["plus", line]);
    return [["head", `--- ${part.before_header}`], ["head", `+++ ${part.after_header}`], ...unified(part.before, part.after)];
  });
  return el("pre", { class: "diff", tabIndex: 0, "aria-label": "What would change" }, lines.map(([kind, line]) => el("span", { class: kind }, line || " ")));
}

// Options of a watcher: first what would change is shown, then it is applied.
export function editOptions(daemon, watcher, first, done) {
  const list = el("datalist", { id: "known-options" }, Object.keys(watcher.options).map((key) => el("option", { value: key })));
  const rows = el("div", { class: "card-rows" });
  const shown = el("div", { "aria-live": "polite" });
  let seen = null;
  const row = (key = "", value = "") => {
    const name = el("input", { list: "known-options", value: key, "aria-label": "Option", placeholder: "option", class: "mono", spellcheck: false, autocomplete: "off" });
    const input = el("input", { value: String(value ?? ""), "aria-label": "Value", placeholder: "value", class: "mono", spellcheck: false, autocomplete: "off" });
    name.addEventListener("change", () => {
      if (!input.value && watcher.options[name.value] !== undefined) input.value = plain(watcher.options[name.value]);
    });
    const node = el("div", { class: "pair" }, name, input, el("button", { type: "button", class: "icon", "aria-label": "Leave this option out", onclick: () => node.remove() }, "✕"));
    rows.append(node);
  };
  const wanted = () => Object.fromEntries([...rows.querySelectorAll(".pair")].map((pair) => [...pair.querySelectorAll("input")].map((input) => input.value)).filter(([key]) => key));
  row(first, first ? plain(watcher.options[first]) : "");
  const { form, go } = ask(`Options of ${watcher.name}`, [list, rows, el("div", {}, el("button", { type: "button", onclick: () => row() }, "One more option")), shown], "Show what would change", async () => {
    const options = wanted();
    if (seen !== JSON.stringify(options)) {
      const plan = await api.preview(daemon, watcher.name, options);
      shown.replaceChildren(plan.changed ? reportView(plan) : el("p", {}, "Nothing would change."), ...(plan.warnings || []).map((text) => el("p", { class: "notice" }, text)));
      seen = plan.changed ? JSON.stringify(options) : null;
      if (plan.changed) go.textContent = "Apply";
      return false;
    }
    const report = await api.change(daemon, watcher.name, options);
    toast(report?.msg || `${watcher.name}: changed`);
    done?.();
    return true;
  });
  form.addEventListener("input", () => {
    seen = null;
    go.textContent = "Show what would change";
  });
}

export const plain = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
