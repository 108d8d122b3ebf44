// Numbers as a person reads them.

export function bytes(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  let number = Number(value);
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(number) < 1024) return `${number < 10 && unit !== "B" ? number.toFixed(1) : Math.round(number)} ${unit}`;
    number /= 1024;
  }
  return `${number.toFixed(1)} TiB`;
}

export function percent(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function clock(time) {
  return new Date(time * 1000).toLocaleTimeString([], { hour12: false });
}

export function plural(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

// When the oldest process of a watcher began; NaN if none runs.
export function oldest(watcher) {
  const times = (watcher.processes ?? []).map((process) => process.started).filter(Boolean);
  return times.length ? Math.min(...times) : Number.NaN;
}

// The class of the dot that stands for the state of a watcher.
export function dotOf(watcher) {
  return `dot ${watcher.trouble ? "failed" : watcher.waiting ? "waiting" : watcher.status}`;
}

// How a watcher lost a process the last time, in a sentence.
export function lastExit({ pid, code, signal, lived, reason }) {
  if (reason) return `not started: ${reason}`;
  const how = signal ? `killed by signal ${signal}` : `exit code ${code}`;
  return `process ${pid}: ${how} after ${lived < 60 ? `${lived.toFixed(2)} s` : duration(lived)}`;
}

// What the web servers of a watcher have counted.
export function requests(front) {
  const classes = front.requests_total ?? {};
  const all = Object.values(classes).reduce((sum, count) => sum + count, 0);
  const failed = ["4xx", "5xx"].filter((kind) => classes[kind]).map((kind) => `, ${classes[kind]} ${kind}`).join("");
  return `${plural(all, "request")} answered${failed}; ${(front.requests_each_second ?? 0).toFixed(1)} a second; ${front.requests_in_flight} in flight, ${plural(front.connections, "connection")}`;
}
