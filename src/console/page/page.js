// Lists the watchers of every daemon.

const get = async (path) => {
  const answer = await fetch(path);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
};

const element = (name, text) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
};

const row = (name, cells) => {
  const made = element("tr");
  made.append(...cells.map((cell) => element(name, cell)));
  return made;
};

const show = async () => {
  const main = document.getElementById("daemons");
  const { daemons } = await get("/api/v1/daemons");
  const parts = [];
  for (const daemon of daemons) {
    parts.push(element("h2", daemon.name ?? daemon.endpoint));
    if (daemon.state !== "up") {
      parts.push(element("p", daemon.reason));
      continue;
    }
    const told = await get(`/api/v1/daemons/${encodeURIComponent(daemon.id)}/watchers`);
    const table = element("table");
    table.append(row("th", ["Name", "Status", "Running", "Wanted"]));
    for (const watcher of told.watchers) {
      table.append(row("td", [watcher.name, watcher.status, watcher.running, watcher.wanted]));
    }
    parts.push(table);
  }
  main.replaceChildren(...parts);
};

show().catch((error) => {
  document.getElementById("daemons").replaceChildren(element("p", error.message));
});
