// The door: a password, and nothing of the daemon before it.

import * as api from "./api.js";
import { el } from "./dom.js";

export function loginPage(done) {
  const password = el("input", { type: "password", name: "password", autocomplete: "current-password", required: true, id: "password" });
  const error = el("p", { class: "notice bad", role: "alert", hidden: true });
  const go = el("button", { class: "main" }, "Log in");
  const form = el("form", {
    class: "card",
    onsubmit: async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        done(await api.login(password.value));
      } catch (refused) {
        error.textContent = refused.status === 401 ? "That is not the password." : refused.message;
        error.hidden = false;
        password.select();
      }
      go.disabled = false;
    },
  }, el("h1", {}, "circ"), el("label", { class: "field", for: "password" }, "Password", password), error, go);
  queueMicrotask(() => password.focus());
  return el("main", { class: "login" }, form);
}
