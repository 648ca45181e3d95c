// The live page: reads the state about once a second, at once after a click, and shows what changed.
// A value whose birth has changed since the last look was killed in between, whoever refilled it.

const CALM = 1000;
const EAGER = 120;
const EAGER_ROUNDS = 8;

const element = (id) => document.getElementById(id);
const cards = new Map(
  [...document.querySelectorAll(".card")].map((card) => [card.dataset.key, card]),
);
const born = new Map();
const shown = new Map();
const killed = new Set();
let newest = null;
let eager = 0;
let timer = null;
let asked = 0;
let drawn = 0;

function make(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function field(card, name) {
  return card.querySelector(`[data-field="${name}"]`);
}

function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

function restart(target, className) {
  target.classList.remove(className);
  void target.offsetWidth;
  target.classList.add(className);
}

function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 10000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

function age(seconds) {
  if (seconds < 1) return "just made";
  if (seconds < 60) return `${Math.floor(seconds)} s old`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min old`;
  return `${Math.floor(seconds / 3600)} h old`;
}

// Beside a stale value stands the true one, row by row: rows have the same name, or are alone.
function beside(rows, truth) {
  const names = [...new Set([...rows, ...truth].map(([name]) => name))];
  const cached = new Map(rows);
  const actual = new Map(truth);
  return names.map((name) =>
    cached.get(name) === actual.get(name)
      ? [name, cached.get(name)]
      : [name, cached.get(name) ?? "–", actual.get(name) ?? "–"],
  );
}

function drawRows(card, value) {
  const body = field(card, "rows");
  const before = shown.get(value.key);
  const text = JSON.stringify([value.rows, value.truth]);
  if (before && before.text === text) return;
  const rows = value.truth ? beside(value.rows, value.truth) : value.rows;
  const lines = rows.map((row, index) => {
    const line = document.createElement("tr");
    row.forEach((content, column) => {
      const old = before && before.rows[index] && before.rows[index][column];
      line.append(make("td", content, before && old !== content ? "changed" : ""));
    });
    if (row.length === 3) {
      line.children[1].className = "wrong";
      line.children[2].className = "true";
    } else if (value.truth) {
      line.lastChild.colSpan = 2;
    }
    return line;
  });
  if (!lines.length) {
    const line = document.createElement("tr");
    line.append(make("td", "nothing", before ? "none changed" : "none"));
    lines.push(line);
  }
  body.replaceChildren(...lines);
  field(card, "columns").hidden = !value.truth;
  shown.set(value.key, { text, rows });
}

function drawValue(value) {
  const card = cards.get(value.key);
  if (!card) return;
  const known = born.get(value.key);
  // What was computed and not kept was not in the cache, so nothing can have killed it.
  const kept = value.kept ? value.made : known && known.kept;
  const died = Boolean(known && known.kept && kept !== known.kept);
  drawRows(card, value);
  card.dataset.fresh = String(value.fresh);
  field(card, "fresh").textContent = value.fresh ? "fresh" : "STALE";
  const deaths = (known ? known.deaths : 0) + (died ? 1 : 0);
  card.dataset.deaths = String(deaths);
  const read = field(card, "read");
  read.dataset.read = value.hit ? "hit" : "miss";
  read.textContent = value.hit ? "hit" : value.kept ? "miss, refilled" : "computed";
  if (deaths) field(card, "deaths").textContent = `, killed ${deaths}×`;
  born.set(value.key, { kept, deaths, at: performance.now() - value.age * 1000 });
  if (died) {
    restart(card, "died");
    killed.add(value.key);
  }
}

function drawKilled() {
  const place = element("killed");
  const text = [...killed].join(" ");
  if (place.dataset.keys === text) return;
  place.dataset.keys = text;
  const keys = [...killed].flatMap((key) => [make("code", key), ", "]).slice(0, -1);
  place.replaceChildren(...(keys.length ? ["Killed and refilled: ", ...keys] : []));
}

function drawAges() {
  for (const [key, { at }] of born) {
    const text = age((performance.now() - at) / 1000);
    const place = field(cards.get(key), "age");
    if (place.textContent !== text) place.textContent = text;
  }
}

// TRUNCATE, and more rows than are told apart, name no rows: any row may have changed.
function moved({ rows, changes, keys }) {
  const known = rows === null ? keys : `${count(rows, "row")}, ${keys}`;
  return changes > (rows ?? 1) ? `${known}, ${count(changes, "change")}` : known;
}

function drawDeleted(deleted) {
  if (!deleted) return [];
  const { keys, more, tokens } = deleted;
  const parts = keys.map((key) => make("code", key));
  if (more) parts.push(`${more} more`);
  if (tokens) parts.push(count(tokens, "token"));
  if (!parts.length) return [make("p", "deleted nothing", "nudge-deleted")];
  const line = make("p", "deleted ", "nudge-deleted");
  line.append(...parts.flatMap((part) => [part, ", "]).slice(0, -1));
  return [line];
}

function drawNudge(nudge, isNew) {
  const item = document.createElement("li");
  item.dataset.number = nudge.number;
  item.dataset.kind = nudge.kind;
  const head = make("p", "", "nudge-head");
  const when = make("time", new Date(nudge.at * 1000).toLocaleTimeString());
  when.dateTime = new Date(nudge.at * 1000).toISOString();
  if (nudge.kind === "resync") {
    head.append(make("strong", "Resync"), when);
    item.append(head, make("p", `${nudge.reason}: every cached value is new`, "nudge-table"));
  } else {
    head.append(make("strong", milliseconds(nudge.ms)), when);
    item.append(head);
    for (const table of nudge.tables) {
      const line = make("p", "", "nudge-table");
      line.append(make("code", table.name), " ", make("span", moved(table)));
      item.append(line);
    }
    item.append(...drawDeleted(nudge.deleted));
  }
  if (isNew) item.classList.add("new");
  return item;
}

function drawNudges(nudges) {
  const top = nudges.length ? nudges[0].number : 0;
  if (top === newest) return;
  const fresh = nudges.filter((nudge) => newest !== null && nudge.number > newest);
  element("nudges").replaceChildren(
    ...nudges.map((nudge) => drawNudge(nudge, fresh.includes(nudge))),
  );
  element("no-nudges").hidden = nudges.length > 0;
  if (fresh.length) restart(element("path"), "moving");
  newest = top;
  const times = nudges.map((nudge) => nudge.ms).filter((ms) => typeof ms === "number");
  element("figure-last").textContent = milliseconds(times[0]);
  const sorted = [...times].sort((one, other) => one - other);
  element("figure-median").textContent = milliseconds(sorted[Math.floor(sorted.length / 2)]);
  element("figure-median-of").textContent =
    times.length > 1 ? `median of the last ${times.length}` : "median";
}

function drawDaemon(daemon) {
  let state = daemon.connected ? "live" : "gone";
  let word = daemon.connected ? "runnudge is reading" : "runnudge is not connected";
  if (daemon.paused) {
    state = "paused";
    word = "runnudge is paused";
  }
  element("daemon").dataset.daemon = state;
  element("daemon-word").textContent = word;
  const slot = daemon.connected
    ? `PostgreSQL ${daemon.server.split(" ")[0]} · ${daemon.plugin} · ${daemon.state} · ${daemon.slot}`
    : "No replication slot of its own is on the server.";
  element("daemon-detail").textContent = daemon.paused
    ? "Writes still commit, keys no longer die: see what gets stale."
    : slot;
  const form = element("daemon-form");
  form.hidden = !daemon.supervised;
  form.action = daemon.paused ? form.dataset.resume : form.dataset.pause;
  element("daemon-button").textContent = daemon.paused ? "Let runnudge go on" : "Pause runnudge";
}

function draw(state) {
  state.values.forEach(drawValue);
  drawKilled();
  drawAges();
  drawNudges(state.nudges);
  drawDaemon(state.daemon);
  const good = state.values.filter((value) => value.fresh).length;
  const figure = element("figure-fresh");
  figure.textContent = `${good} of ${state.values.length}`;
  figure.className = good === state.values.length ? "" : "bad";
}

function offline() {
  element("daemon").dataset.daemon = "offline";
  element("daemon-word").textContent = "The site does not answer";
  element("daemon-detail").textContent = "Is the demo still running? This page tries again.";
}

async function look() {
  clearTimeout(timer);
  const number = ++asked;
  try {
    const response = await fetch(document.body.dataset.stateUrl, { cache: "no-store" });
    if (!response.ok) throw new Error(response.statusText);
    const state = await response.json();
    // Two looks may overlap around a click; an older answer must not overwrite a newer one.
    if (number > drawn) {
      drawn = number;
      draw(state);
    }
  } catch {
    offline();
  }
  eager = Math.max(0, eager - 1);
  clearTimeout(timer);
  timer = setTimeout(look, eager ? EAGER : CALM);
}

function say(text, bad) {
  element("said-text").textContent = text;
  element("said").classList.toggle("bad", Boolean(bad));
}

async function submit(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const button = form.querySelector("button");
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  killed.clear();
  drawKilled();
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
    });
    if (!response.ok) throw new Error(`the site said ${response.status}`);
    say((await response.json()).said);
  } catch (error) {
    say(`That did not work: ${error.message}.`, true);
  } finally {
    button.removeAttribute("aria-busy");
  }
  eager = EAGER_ROUNDS;
  look();
}

async function copy() {
  try {
    await navigator.clipboard.writeText(element("psql").textContent);
    element("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(element("psql"));
    element("copy").textContent = "Selected: copy it by hand";
  }
}

element("copy").hidden = false;
element("copy").addEventListener("click", copy);
document.querySelectorAll("form").forEach((form) => form.addEventListener("submit", submit));
draw(JSON.parse(element("first-state").textContent));
setInterval(drawAges, 250);
timer = setTimeout(look, CALM);
