// The one door to the server. Paths, headers and errors are known here and nowhere else.

const BASE = "/api/v1";
let csrf = "";

// What the server said when it refused: `status` is HTTP's number, the message is for a person.
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (method !== "GET" && csrf) headers["X-Circ-Csrf"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(BASE + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw new Refused(0, "The console's server does not answer.");
  }
  const text = await answer.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    value = null;
  }
  if (!answer.ok) throw new Refused(answer.status, value?.report?.msg || value?.detail || value?.title || `HTTP ${answer.status}`);
  return value;
}

const daemonPath = (daemon) => `/daemons/${encodeURIComponent(daemon)}`;
const watcherPath = (daemon, name) => `${daemonPath(daemon)}/watchers/${encodeURIComponent(name)}`;

// Who is logged in and what may be done; keeps the token that changes need.
export async function session() {
  const value = await ask("GET", "/session");
  csrf = value.csrf || "";
  return value;
}

export async function login(password) {
  const value = await ask("POST", "/login", { password });
  csrf = value.csrf || "";
  return value;
}

export const logout = () => ask("POST", "/logout");
export const daemons = async () => (await ask("GET", "/daemons")).daemons;
export const watchers = (daemon) => ask("GET", `${daemonPath(daemon)}/watchers`);
export const watcher = (daemon, name) => ask("GET", watcherPath(daemon, name));
export const preview = (daemon, name, options) => ask("POST", `${watcherPath(daemon, name)}/preview`, { options });
export const change = (daemon, name, options) => ask("PUT", `${watcherPath(daemon, name)}/options`, { options });

// A command of the Circus protocol. A reply with the status "error" is a refusal as well.
export async function command(daemon, name, properties = {}) {
  const reply = await ask("POST", `${daemonPath(daemon)}/commands/${name}`, properties);
  if (reply?.status === "error") throw new Refused(422, reply.reason || "The daemon refused.");
  return reply;
}

// A stream of server-sent events; it reconnects by itself. Returns what ends it. `end` is the server's last word.
function stream(path, listeners, state) {
  const source = new EventSource(BASE + path);
  source.onopen = () => state?.(true);
  source.onerror = () => state?.(false);
  for (const [name, listen] of Object.entries(listeners)) {
    source.addEventListener(name, (message) => {
      try {
        listen(JSON.parse(message.data));
      } catch (error) {
        console.warn("an event that is no JSON", error);
      }
    });
  }
  source.addEventListener("end", () => source.close());
  return () => source.close();
}

export const followEvents = (daemon, listeners, state) => stream(`${daemonPath(daemon)}/events`, listeners, state);
export const followStats = (daemon, listeners, state) => stream(`${daemonPath(daemon)}/stats`, listeners, state);
export const followLog = (daemon, name, output, tail, listeners, state) => stream(`${watcherPath(daemon, name)}/log?tail=${tail}&follow=true&stream=${output}`, listeners, state);
