// The lines that two texts differ in, with three lines around them, as `diff -u` shows them.

const AROUND = 3;
// Beyond this many pairs of lines the middle is shown as taken out and put in.
const MOST = 4_000_000;

// Gives pairs of a kind (`head`, `plus`, `minus` or nothing) and a line.
export function unified(before, after) {
  const [a, b] = [lines(before), lines(after)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const steps = [...a.slice(0, start).map((line) => ["", line]), ...middle(a.slice(start, a.length - end), b.slice(start, b.length - end)), ...a.slice(a.length - end).map((line) => ["", line])];
  const near = steps.map((_, at) => steps.slice(Math.max(0, at - AROUND), at + AROUND + 1).some(([kind]) => kind));
  const shown = [];
  steps.forEach(([kind, line], at) => {
    if (near[at]) shown.push([kind, `${kind === "plus" ? "+" : kind === "minus" ? "-" : " "}${line}`]);
    else if (at && near[at - 1]) shown.push(["head", "…"]);
  });
  return shown;
}

const lines = (text) => (text ? text.replace(/\n$/, "").split("\n") : []);

// The longest common subsequence, by the usual table.
function middle(a, b) {
  const out = (line) => ["minus", line];
  const put = (line) => ["plus", line];
  if (a.length * b.length > MOST) return [...a.map(out), ...b.map(put)];
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      table[i * width + j] = a[i] === b[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  const steps = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      steps.push(["", a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && table[(i + 1) * width + j] >= table[i * width + j + 1])) {
      steps.push(out(a[i]));
      i += 1;
    } else {
      steps.push(put(b[j]));
      j += 1;
    }
  }
  return steps;
}
