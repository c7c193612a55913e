"use strict";
// The listening room: lists clips and speakers, plays them, and keeps what a person decides.
// All data stands in the page. Texts come from outside: they reach the document as text, never as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const HEADER = ["target", "id", "action", "value", "note"]; // COLUMNS of scripts/voxmake/review.py
const CLIP_ACTIONS = ["good", "reject", "text", "speaker"];
const SPEAKER_ACTIONS = ["rename", "merge", "split", "reject"];
const PAGE = 100; // rows of one page of the list
const PREFIX = `voxmake.listen/${DATA.project}/`;
const KEY = PREFIX + DATA.key;

const clips = new Map(DATA.clips.map((clip) => [clip.id, clip]));
const speakers = new Map(DATA.speakers.map((speaker) => [speaker.name, speaker]));

function el(tag, facts = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const say = (text) => { $("live").textContent = text; };

function notice(kind, text, ...buttons) {
  const line = el("div", { className: `notice ${kind}`, role: kind === "error" ? "alert" : "note" }, el("span", { textContent: text }));
  line.append(...buttons, el("button", { type: "button", textContent: "Close", onclick: () => line.remove() }));
  $("notices").append(line);
  return line;
}

// ---------------------------------------------------------------- what was decided

// clips: id -> {verdict: {action, note}, text: {value, note}, speaker: {value, note}}, each part only if decided.
// speakers: rows {id, action, value, note} in the order of the file, where the order means something.
let decided = { clips: {}, speakers: [] };
let saved = ""; // the file as it was last saved or loaded
const history = [];

const copy = (value) => JSON.parse(JSON.stringify(value));
const of = (id) => decided.clips[id] ?? {};

function remember(change) {
  history.push(copy({ decided, current: view.current }));
  if (history.length > 500) history.shift();
  change();
  keep();
}

function setPart(id, part, value) {
  const parts = { ...of(id) };
  if (value) parts[part] = value;
  else delete parts[part];
  if (Object.keys(parts).length) decided.clips[id] = parts;
  else delete decided.clips[id];
}

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify({ decided, saved }));
  } catch {
    if (!keep.told) notice("error", "This browser keeps nothing for this page (storage is off or full): save corrections.csv before you leave.");
    keep.told = true;
  }
  showTally();
}

const unsaved = () => toCsv() !== saved;

/** What a speaker of the runs is called after the decisions; null when all its clips are rejected. */
function nameNow(name) {
  for (const row of decided.speakers) {
    if (row.id !== name || row.action === "split") continue;
    if (row.action === "reject") return null;
    name = row.value;
  }
  return name;
}

const rowOf = (name) => decided.speakers.find((row) => row.id === name);

/** Rows in an order in which each still means what it says: what goes into a speaker comes before what happens to it. */
function inOrder(rows) {
  const out = new Set();
  const begun = new Set();
  const put = (row) => {
    if (begun.has(row)) return;
    begun.add(row);
    rows.filter((other) => (other.action === "merge" || other.action === "rename") && other.value === row.id).forEach(put);
    out.add(row);
  };
  rows.forEach(put);
  return [...out];
}

/** Decide on a speaker; action null takes the decision back. Returns what is wrong with it, or "". */
function decideSpeaker(name, action, value, note) {
  const before = rowOf(name);
  // A name that only a rename gave stands for the speaker itself, whether the rename stays or not.
  const given = before?.action === "rename" && !speakers.has(before.value) ? before.value : null;
  let rows = decided.speakers
    .filter((row) => row.id !== name)
    .map((row) => (given !== null && row.action === "merge" && row.value === given ? { ...row, value: name } : row));
  const others = Object.values(decided.clips);
  const follow = (from, to) => others.forEach((parts) => { if (parts.speaker?.value === from) parts.speaker.value = to; });
  if (action === "rename") {
    if (!value) return "Type the new name first.";
    if (value === name) return `It is called ${name} already.`;
    if (speakers.has(value) || rows.some((row) => row.action === "rename" && row.value === value)) return `There is a speaker ${value} already: merge the two instead.`;
  }
  if (action === "split" && !(/^\d+$/.test(value) && Number(value) >= 2)) return "Split needs a number of voices, 2 or more.";
  if (action) rows.push({ id: name, action, value, note });
  rows = inOrder(rows);
  const fault = speakerFault(rows);
  if (fault) return fault;
  remember(() => {
    decided.speakers = rows;
    if (given !== null) follow(given, name);
  });
  return "";
}

/** Speakers that `name` can be merged into: not itself, none that is going, none that goes into it. */
function mergeTargets(name) {
  const leadsHere = (other) => {
    for (let row = rowOf(other), steps = 0; row?.action === "merge" && steps < 1000; row = rowOf(row.value), steps += 1) {
      if (row.value === name) return true;
    }
    return false;
  };
  return [...speakers.keys()].filter((other) => other && other !== name && !["merge", "reject"].includes(rowOf(other)?.action) && !leadsHere(other));
}

/** The check of scripts/voxmake/review.py on rows of speakers. */
function speakerFault(rows) {
  const gone = new Set();
  for (const row of rows) {
    if (gone.has(row.id)) return `${row.id} is renamed, merged or rejected by an earlier row: use its new name.`;
    if (row.action !== "split") gone.add(row.id);
    gone.delete(row.value);
  }
  return "";
}

// ---------------------------------------------------------------- corrections.csv

const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function toCsv() {
  const rows = [HEADER];
  for (const id of Object.keys(decided.clips).sort()) {
    const { verdict, text, speaker } = decided.clips[id];
    if (verdict) rows.push(["clip", id, verdict.action, "", verdict.note]);
    if (text) rows.push(["clip", id, "text", text.value, text.note]);
    if (speaker) rows.push(["clip", id, "speaker", speaker.value, speaker.note]);
  }
  for (const row of decided.speakers) rows.push(["speaker", row.id, row.action, row.value, row.note]);
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

/** Rows of a CSV file (RFC 4180), each with the number of its first line. Empty lines are left out. */
function parseCsv(text) {
  const rows = [];
  let row = [], field = "", quoted = false, wasQuoted = false, line = 1, begins = 1;
  const endRow = () => {
    row.push(field);
    if (row.length > 1 || row[0] !== "" || wasQuoted) rows.push({ line: begins, cells: row });
    row = []; field = ""; wasQuoted = false;
  };
  text = text.replace(/^\uFEFF/, "");
  for (let at = 0; at < text.length; at += 1) {
    const sign = text[at];
    if (sign === "\n") line += 1;
    if (quoted) {
      if (sign !== '"') field += sign;
      else if (text[at + 1] === '"') { field += '"'; at += 1; }
      else quoted = false;
    } else if (sign === '"' && field === "") { quoted = true; wasQuoted = true; }
    else if (sign === ",") { row.push(field); field = ""; }
    else if (sign === "\n" || sign === "\r") {
      if (sign === "\r" && text[at + 1] === "\n") { at += 1; line += 1; }
      endRow();
      begins = line;
    } else field += sign;
  }
  if (quoted) throw new Error(`line ${begins}: a quote is not closed`);
  if (field !== "" || row.length) endRow();
  return rows;
}

/** Decisions of a corrections.csv; throws an Error that names the line, as review.py does. */
function readCorrections(text) {
  const [head, ...rows] = parseCsv(text);
  if (!head || head.cells.join() !== HEADER.join()) throw new Error(`line 1: the first line must be ${HEADER.join()}`);
  const found = { clips: {}, speakers: [] };
  for (const { line, cells } of rows) {
    if (cells.length !== HEADER.length) throw new Error(`line ${line}: needs ${HEADER.length} columns; quote a text that holds a comma`);
    const [target, id, action, value, note] = cells.map((text) => text.trim());
    const actions = { clip: CLIP_ACTIONS, speaker: SPEAKER_ACTIONS }[target];
    if (!actions) throw new Error(`line ${line}: target ${target}: must be clip or speaker`);
    if (!actions.includes(action)) throw new Error(`line ${line}: action ${action}: must be one of ${actions.join(", ")}`);
    if (!id) throw new Error(`line ${line}: has no id`);
    if (["text", "speaker", "rename", "merge", "split"].includes(action) && !value) throw new Error(`line ${line}: ${action} needs a value`);
    if (action === "split" && !(/^\d+$/.test(value) && Number(value) >= 2)) throw new Error(`line ${line}: split needs a number of speakers, 2 or more, not ${value}`);
    if (target === "speaker") { found.speakers.push({ id, action, value, note }); continue; }
    const parts = Object.hasOwn(found.clips, id) ? found.clips[id] : (found.clips[id] = {});
    if (action === "good" || action === "reject") parts.verdict = { action, note };
    else parts[action] = { value, note };
  }
  const fault = speakerFault(found.speakers);
  if (fault) throw new Error(fault);
  return found;
}

/** Put decisions on top of those there are; the new ones win. Returns the number of clips and speakers in them. */
function join(found) {
  for (const [id, parts] of Object.entries(found.clips)) decided.clips[id] = { ...of(id), ...parts };
  const named = new Set(found.speakers.map((row) => row.id));
  const kept = decided.speakers.filter((row) => !named.has(row.id));
  decided.speakers = kept.length ? inOrder([...kept, ...found.speakers]) : found.speakers;
  return Object.keys(found.clips).length + named.size;
}

function load(text, name) {
  let found;
  try {
    found = readCorrections(text);
  } catch (error) {
    notice("error", `${name}: ${error.message}`);
    return;
  }
  const fresh = toCsv() === `${HEADER.join()}\n`;
  let count = 0;
  remember(() => {
    count = join(found);
    if (fresh) saved = toCsv();
  });
  render();
  say(`${count} clips and speakers loaded from ${name}`);
}

function save() {
  const text = toCsv();
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  el("a", { href: address, download: "corrections.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  saved = text;
  keep();
  $("notices").querySelectorAll(".after-save").forEach((line) => line.remove());
  notice("", `Saved as a download. Put it at ${DATA.corrections_path}, name that in the config (review: {corrections: ${DATA.corrections_path}}), and make diarize and prepare_dataset again.`).classList.add("after-save");
  say("corrections.csv saved");
}

// ---------------------------------------------------------------- the list

const LISTS = [
  { name: "suspects", title: "Suspects", has: (clip) => clip.lists.includes("suspects") },
  DATA.clips.some((clip) => clip.lists.includes("random"))
    ? { name: "random", title: "Drawn at random", has: (clip) => clip.lists.includes("random") }
    : { name: "samples", title: "Samples", has: (clip) => clip.lists.includes("samples") },
  { name: "speakers", title: "Speakers" },
];
const view = {
  list: "speakers", page: 0, rows: [], current: null,
  sort: { suspects: { by: "rank", down: false }, samples: null, random: null, speakers: null },
};
const sizes = new Map(); // list name -> its entries, unfiltered

const UNITS = { s: "s", db: "dB", hz: "Hz", lufs: "LUFS" };
function label(name) {
  const words = name.split("_");
  const unit = words.length > 1 ? UNITS[words.at(-1)] : undefined;
  return unit ? `${words.slice(0, -1).join(" ")}, ${unit}` : words.join(" ");
}

function shown(value) {
  if (value === undefined || value === "") return "";
  if (typeof value === "string") return value;
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}

/** What was decided on a clip, in words: [word, class of its tag]. */
function states(id) {
  const { verdict, text, speaker } = of(id);
  const words = [];
  if (verdict) words.push(verdict.action === "good" ? ["good", "good"] : ["bad", "bad"]);
  if (text) words.push(["text fixed", "changed"]);
  if (speaker) words.push([`moved to ${speaker.value}`, "changed"]);
  return words;
}

const textOf = (clip) => of(clip.id).text?.value ?? clip.text;
const speakerOf = (clip) => of(clip.id).speaker?.value ?? nameNow(clip.speaker) ?? clip.speaker;
const speakerTitle = (name) => name || "no speaker (noise)";

const waves = new Map();
function waveOf(clip) {
  if (!waves.has(clip.id)) waves.set(clip.id, Int8Array.from(atob(clip.wave), (sign) => sign.charCodeAt(0)));
  return waves.get(clip.id);
}

/** Level of the whole clip in dBFS RMS, from the waveform. */
function loudness(clip) {
  const wave = waveOf(clip);
  let power = 0;
  for (let bin = 0; bin < DATA.bins; bin += 1) power += (wave[2 * DATA.bins + bin] / 127) ** 2;
  return 10 * Math.log10(power / DATA.bins + 1e-6);
}

// name, title, value of an entry, whether it is a number, whether it is shown at first
const USUAL = new Set(["duration_s", "level_db", "distance", "nearest", "score", "snr_db", "chars_per_s"]);
const COLUMNS = [
  { name: "id", title: "Clip", value: (entry) => entry.clip.id, fixed: true },
  { name: "wave", title: "Loudness", value: (entry) => loudness(entry.clip), numeric: true, shown: true },
  { name: "verdict", title: "Verdict", value: (entry) => states(entry.clip.id).map(([word]) => word).join(", "), shown: true },
  { name: "role", title: "Role", value: (entry) => entry.role ?? "", shown: true, only: "speakers" },
  { name: "rank", title: "Rank", value: (entry) => entry.clip.rank, numeric: true, shown: true, only: "suspects" },
  { name: "reasons", title: "Reasons", value: (entry) => entry.clip.reasons.join("; "), shown: true, long: true },
  { name: "text", title: "Text", value: (entry) => textOf(entry.clip), shown: true, long: true },
  { name: "speaker", title: "Speaker", value: (entry) => speakerTitle(speakerOf(entry.clip)), shown: true },
  { name: "split", title: "Split", value: (entry) => entry.clip.split, shown: true },
  ...DATA.columns.map(({ name, numeric }) => ({
    name: `values.${name}`, title: label(name), value: (entry) => entry.clip.values[name] ?? "", numeric, shown: USUAL.has(name),
  })),
];
const columnsNow = () => COLUMNS.filter((column) => column.fixed || (column.shown && (!column.only || column.only === view.list)));

function entriesOf(list) {
  if (list !== "speakers") {
    const { has } = LISTS.find(({ name }) => name === list);
    return DATA.clips.filter(has).map((clip) => ({ key: clip.id, clip }));
  }
  return DATA.speakers.flatMap((speaker) => [
    { key: `speaker/${speaker.name}`, speaker },
    ...speaker.samples.map(([id, role]) => ({ key: id, clip: clips.get(id), role, of: speaker })),
  ]);
}

function matcher(column, text) {
  text = text.trim().toLowerCase();
  if (!text) return () => true;
  if (column?.numeric) {
    const bound = /^([<>]=?)\s*(-?[\d.]+)$/.exec(text);
    const range = /^(-?[\d.]+)\s*\.\.\s*(-?[\d.]+)$/.exec(text);
    const test = bound
      ? { "<": (x) => x < bound[2], "<=": (x) => x <= bound[2], ">": (x) => x > bound[2], ">=": (x) => x >= bound[2] }[bound[1]]
      : range && ((x) => x >= range[1] && x <= range[2]);
    if (test) return (entry) => typeof column.value(entry) === "number" && test(column.value(entry));
  }
  const searched = column ? [column] : COLUMNS.filter((one) => !one.numeric);
  return (entry) => searched.some((one) => shown(one.value(entry)).toLowerCase().includes(text));
}

function verdictFits(clip) {
  const wanted = $("filter-verdict").value;
  const { verdict, text, speaker } = of(clip.id);
  return { "": true, open: !verdict && !text && !speaker, good: verdict?.action === "good", bad: verdict?.action === "reject", text: Boolean(text), moved: Boolean(speaker) }[wanted];
}

/** Filter and sort: fills view.rows. In the list of speakers, clips stay below their speaker. */
function arrange() {
  const column = COLUMNS.find(({ name }) => name === $("filter-column").value);
  const fits = matcher(column, $("filter-text").value);
  const all = entriesOf(view.list);
  const found = new Set(all.filter((entry) => entry.clip && fits(entry) && verdictFits(entry.clip)));
  const filtered = $("filter-text").value.trim() || $("filter-verdict").value;
  const withClips = new Set([...found].map((entry) => entry.of));
  const rows = all.filter((entry) => found.has(entry) || (entry.speaker && (!filtered || withClips.has(entry.speaker))));
  const sort = view.sort[view.list];
  const by = sort && COLUMNS.find(({ name }) => name === sort.by);
  if (by) {
    const place = new Map(all.map((entry, at) => [entry, at]));
    const compare = (a, b) => {
      const [x, y] = [by.value(a), by.value(b)];
      if (x === y) return place.get(a) - place.get(b);
      if (x === "" || y === "") return x === "" ? 1 : -1; // empty cells last, both ways
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
      return sort.down ? -order : order;
    };
    const group = (entry) => DATA.speakers.indexOf(entry.of ?? entry.speaker);
    rows.sort((a, b) => group(a) - group(b) || Boolean(a.clip) - Boolean(b.clip) || (a.clip ? compare(a, b) : 0));
  }
  view.rows = rows;
}

function render() {
  arrange();
  view.page = Math.max(0, Math.min(view.page, Math.ceil(view.rows.length / PAGE) - 1));
  renderTabs();
  renderTable();
  renderDetail();
}

function renderTabs() {
  for (const tab of $("tabs").children) {
    const chosen = tab.dataset.list === view.list;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) $("panel").setAttribute("aria-labelledby", tab.id);
  }
}

function renderTable() {
  const table = $("table");
  const columns = columnsNow();
  const list = LISTS.find(({ name }) => name === view.list);
  const sort = view.sort[view.list];
  const focused = table.contains(document.activeElement);
  table.caption.textContent = `${list.title}; the button at the head of a column sorts by it`;
  table.tHead.replaceChildren(el("tr", {}, ...columns.map((column) => {
    const direction = sort?.by === column.name ? (sort.down ? "descending" : "ascending") : "none";
    const head = el("th", { scope: "col", className: column.numeric && column.name !== "wave" ? "number" : "" },
      el("button", { type: "button", textContent: column.title, onclick: () => sortBy(column) }));
    head.setAttribute("aria-sort", direction);
    head.dataset.column = column.name;
    return head;
  })));
  const first = view.page * PAGE;
  const rows = view.rows.slice(first, first + PAGE);
  painter.disconnect();
  table.tBodies[0].replaceChildren(...rows.map((entry) => tableRow(entry, columns)));
  table.hidden = !rows.length;
  $("empty").hidden = Boolean(rows.length);
  $("empty").textContent = sizes.get(view.list) ? "No clip fits the filter." : whyEmpty();
  $("pager").hidden = view.rows.length <= PAGE;
  $("range").textContent = `${first + 1} to ${first + rows.length} of ${view.rows.length}`;
  $("previous").disabled = view.page === 0;
  $("next").disabled = first + PAGE >= view.rows.length;
  if (focused) focusRow();
}

function whyEmpty() {
  const stage = view.list === "speakers" ? "diarize" : "quality_report";
  const missing = DATA.missing.some((one) => one.stage === stage);
  if (missing) return `There is no run of ${stage} yet: make it (make ${stage}), then make listen again.`;
  return view.list === "suspects" ? "The quality report suspects no clip." : "The run holds none.";
}

function tableRow(entry, columns) {
  const row = el("tr", { className: entry.key === view.current ? "current" : "" });
  row.dataset.key = entry.key;
  const pick = el("button", { type: "button", className: "pick", onclick: () => pickEntry(entry) });
  if (entry.key === view.current) pick.setAttribute("aria-current", "true");
  if (entry.speaker) {
    const { name, clips: count, seconds } = entry.speaker;
    row.classList.add("group");
    pick.append(el("span", { textContent: speakerTitle(name) }));
    const facts = el("small", { textContent: `${count} clips, ${(seconds / 60).toFixed(1)} min` });
    const tag = speakerTag(name);
    row.append(el("th", { scope: "rowgroup", colSpan: columns.length }, el("span", { className: "sticky" }, pick, facts, " ", ...(tag ? [tag] : []))));
    return row;
  }
  row.classList.toggle("playing", playing === entry.clip.id && !audio.paused);
  for (const column of columns) {
    if (column.fixed) {
      pick.append(el("span", { textContent: entry.clip.id, title: entry.clip.id }));
      pick.setAttribute("aria-label", `Play ${entry.clip.id}`);
      row.append(el("th", { scope: "row" }, pick));
      continue;
    }
    const box = el("td", { className: column.long ? "long" : column.numeric && column.name !== "wave" ? "number" : "" });
    if (column.name === "wave") {
      const canvas = el("canvas", { role: "img" });
      canvas.setAttribute("aria-label", `${loudness(entry.clip).toFixed(0)} dBFS`);
      canvas.dataset.clip = entry.clip.id;
      painter.observe(canvas);
      box.append(canvas);
    } else if (column.name === "verdict") {
      box.append(...states(entry.clip.id).map(([word, kind]) => el("span", { className: `tag ${kind}`, textContent: word })));
    } else {
      box.textContent = shown(column.value(entry));
      if (column.long) { box.title = box.textContent; box.dir = "auto"; }
      if (column.name === "text") setLanguage(box, entry.clip);
    }
    row.append(box);
  }
  return row;
}

function setLanguage(node, clip) {
  const language = clip.values.language;
  if (typeof language === "string" && /^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$/.test(language)) node.lang = language;
  else node.removeAttribute("lang");
}

function speakerTag(name) {
  const row = rowOf(name);
  if (!row) return null;
  const words = { rename: `renamed to ${row.value}`, merge: `merged into ${row.value}`, split: `to be split in ${row.value}`, reject: "rejected" }[row.action];
  return el("span", { className: `tag ${row.action === "reject" ? "bad" : "changed"}`, textContent: words });
}

/** After a decision: only what shows it is drawn anew, so rows stay where they are. */
function refresh() {
  const columns = columnsNow();
  const focused = $("table").contains(document.activeElement);
  for (const row of $("table").tBodies[0].rows) {
    const entry = view.rows.find(({ key }) => key === row.dataset.key);
    row.replaceWith(tableRow(entry, columns));
  }
  if (focused) focusRow();
  renderDetail();
}

function sortBy(column) {
  const before = view.sort[view.list];
  view.sort[view.list] = { by: column.name, down: before?.by === column.name ? !before.down : false };
  view.page = 0;
  arrange();
  renderTable();
  $("table").tHead.querySelector(`[data-column="${CSS.escape(column.name)}"] button`).focus();
  say(`sorted by ${column.title}, ${view.sort[view.list].down ? "descending" : "ascending"}`);
}

const currentEntry = () => view.rows.find(({ key }) => key === view.current);

function focusRow() {
  const row = $("table").tBodies[0].querySelector("tr.current");
  if (!row) return;
  row.querySelector(".pick").focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function choose(key, focus) {
  view.current = key;
  const at = view.rows.findIndex((entry) => entry.key === key);
  const page = Math.floor(at / PAGE);
  if (at >= 0 && page !== view.page) {
    view.page = page;
    renderTable();
  }
  for (const row of $("table").tBodies[0].rows) {
    const current = row.dataset.key === key;
    row.classList.toggle("current", current);
    if (current) row.querySelector(".pick").setAttribute("aria-current", "true");
    else row.querySelector(".pick").removeAttribute("aria-current");
  }
  renderDetail();
  if (focus) focusRow();
}

function pickEntry(entry) {
  const again = entry.key === view.current;
  choose(entry.key, true);
  if (entry.clip) toggle(entry.clip.id);
  else if (again) playSamples(entry.speaker);
}

function move(step) {
  if (!view.rows.length) return;
  const at = view.rows.findIndex(({ key }) => key === view.current);
  const to = at < 0 ? (step > 0 ? view.page * PAGE : view.rows.length - 1) : at + step;
  if (to < 0 || to >= view.rows.length) {
    say(step > 0 ? "end of the list" : "top of the list");
    return;
  }
  choose(view.rows[to].key, !$("detail").contains(document.activeElement));
  if (view.rows[to].clip && $("autoplay").checked) play(view.rows[to].clip.id);
}

// ---------------------------------------------------------------- the clip or speaker that is chosen

function renderDetail() {
  const entry = currentEntry();
  for (const id of ["player", "clip-form", "speaker-form", "why", "measured"]) $(id).hidden = true;
  if (!entry) {
    $("detail-name").textContent = "Nothing chosen";
    $("detail-facts").textContent = "Choose a row: click it, or press j.";
    return;
  }
  $("player").hidden = false;
  if (entry.speaker) renderSpeaker(entry.speaker);
  else renderClip(entry);
  showPlaying();
}

function renderClip({ clip, role }) {
  const { verdict, text, speaker } = of(clip.id);
  $("detail-name").textContent = clip.id;
  $("detail-facts").textContent = [speakerTitle(speakerOf(clip)), role, clip.split, `${clip.seconds.toFixed(2)} s`, `${loudness(clip).toFixed(1)} dBFS`].filter(Boolean).join(" · ");
  $("clip-form").hidden = false;
  $("good").setAttribute("aria-pressed", verdict?.action === "good");
  $("bad").setAttribute("aria-pressed", verdict?.action === "reject");
  $("clear").disabled = !(verdict || text || speaker);
  $("text").value = textOf(clip);
  setLanguage($("text"), clip);
  const was = [];
  if (text) was.push(`was: ${clip.text || "(empty)"}`);
  else if (clip.normalised && clip.normalised !== clip.text) was.push(`normalised: ${clip.normalised}`);
  $("text-was").textContent = was.join(" ");
  $("speaker").value = speakerOf(clip);
  $("note").value = verdict?.note ?? "";
  $("reasons").replaceChildren(...clip.reasons.map((reason) => el("li", { textContent: reason })));
  $("why").hidden = !clip.reasons.length;
  const numbers = DATA.columns.filter(({ name }) => clip.values[name] !== undefined);
  $("numbers").replaceChildren(...numbers.map(({ name }) =>
    el("div", {}, el("dt", { textContent: label(name) }), el("dd", { textContent: shown(clip.values[name]), title: String(clip.values[name]) }))));
  $("measured").hidden = !numbers.length;
}

function renderSpeaker(speaker) {
  const { name } = speaker;
  $("detail-name").textContent = speakerTitle(name);
  $("detail-facts").textContent = `${speaker.clips} clips · ${(speaker.seconds / 60).toFixed(1)} min · ${speaker.samples.length} samples to hear`;
  if (!name) return;
  $("speaker-form").hidden = false;
  const row = rowOf(name);
  const tag = speakerTag(name);
  $("speaker-decision").replaceChildren(...(tag ? [tag] : []));
  $("rename").value = row?.action === "rename" ? row.value : name;
  $("merge").replaceChildren(...mergeTargets(name).map((other) => {
    const now = nameNow(other);
    return el("option", { value: other, textContent: now === other ? other : `${other} (${now})`, selected: row?.action === "merge" && row.value === other });
  }));
  $("merge-do").disabled = !$("merge").options.length;
  $("split").value = row?.action === "split" ? row.value : 2;
  $("speaker-note").value = row?.note ?? "";
  $("speaker-note").disabled = !row;
  $("speaker-reject").setAttribute("aria-pressed", row?.action === "reject");
  $("speaker-clear").disabled = !row;
}

function showTally() {
  const count = { good: 0, bad: 0, texts: 0, moved: 0 };
  for (const { verdict, text, speaker } of Object.values(decided.clips)) {
    if (verdict) count[verdict.action === "good" ? "good" : "bad"] += 1;
    if (text) count.texts += 1;
    if (speaker) count.moved += 1;
  }
  const words = Object.entries({ ...count, speakers: decided.speakers.length }).flatMap(([word, number]) => [el("b", { textContent: number }), ` ${word} · `]);
  const state = unsaved() ? el("span", { className: "unsaved", textContent: "not saved" }) : el("span", { className: "muted", textContent: "saved" });
  $("tally").replaceChildren(...words, state);
  $("undo").disabled = !history.length;
  for (const tab of $("tabs").children) {
    const entries = entriesOf(tab.dataset.list).filter((entry) => (tab.dataset.list === "speakers" ? entry.speaker : entry.clip));
    const open = entries.filter((entry) => (entry.clip ? !states(entry.clip.id).length : entry.speaker.name && !rowOf(entry.speaker.name))).length;
    tab.querySelector("small").textContent = tab.dataset.list === "speakers" ? entries.length : `${open} open of ${entries.length}`;
  }
}

// ---------------------------------------------------------------- decisions

function verdict(action) {
  const entry = currentEntry();
  if (entry?.speaker) {
    if (action === "reject") speakerDo("reject", "");
    return;
  }
  if (!entry) return;
  const { id } = entry.clip;
  const again = of(id).verdict?.action === action;
  remember(() => setPart(id, "verdict", again ? null : { action, note: action === "reject" ? of(id).verdict?.note ?? "" : "" }));
  refresh();
  const word = again ? "verdict taken back" : action === "good" ? "good" : "bad";
  if (!again && $("advance").checked) move(1);
  const next = currentEntry()?.clip;
  say(`${id}: ${word}${next && next.id !== id ? `; now ${next.id}` : ""}`);
}

function clearClip() {
  const entry = currentEntry();
  if (!entry?.clip || !decided.clips[entry.clip.id]) return;
  remember(() => { delete decided.clips[entry.clip.id]; });
  refresh();
  say(`${entry.clip.id}: all taken back`);
}

function fixText() {
  const clip = currentEntry()?.clip;
  const value = $("text").value.replace(/\s+/g, " ").trim();
  if (!clip || value === textOf(clip)) return;
  if (!value) {
    renderDetail();
    say("a text can't be empty; mark the clip bad instead");
    return;
  }
  remember(() => setPart(clip.id, "text", value === clip.text ? null : { value, note: of(clip.id).text?.note ?? "" }));
  refresh();
  say(`${clip.id}: ${value === clip.text ? "text as it was" : "text fixed"}`);
}

function moveSpeaker() {
  const clip = currentEntry()?.clip;
  const value = $("speaker").value.trim();
  if (!clip || value === speakerOf(clip)) return;
  const home = !value || value === clip.speaker || value === nameNow(clip.speaker);
  remember(() => setPart(clip.id, "speaker", home ? null : { value, note: of(clip.id).speaker?.note ?? "" }));
  refresh();
  const known = speakers.has(value) || [...speakers.keys()].some((name) => nameNow(name) === value);
  say(home ? `${clip.id}: speaker as it was` : `${clip.id}: moved to ${value}${known ? "" : ", a new speaker"}`);
}

function setNote() {
  const clip = currentEntry()?.clip;
  const note = $("note").value.replace(/\s+/g, " ").trim();
  if (!clip || note === (of(clip.id).verdict?.note ?? "")) return;
  remember(() => setPart(clip.id, "verdict", { action: of(clip.id).verdict?.action ?? "reject", note }));
  refresh();
  say(`${clip.id}: ${of(clip.id).verdict.action === "good" ? "good" : "bad"}, ${note || "no note"}`);
}

function speakerDo(action, value) {
  const name = currentEntry()?.speaker?.name;
  if (!name) return;
  const again = action === "reject" && rowOf(name)?.action === "reject";
  const fault = decideSpeaker(name, again ? null : action, value, again ? "" : rowOf(name)?.note ?? "");
  if (fault) {
    notice("error", fault);
    return;
  }
  refresh();
  say(`${name}: ${speakerTag(name)?.textContent ?? "decision taken back"}`);
}

function setSpeakerNote() {
  const row = rowOf(currentEntry()?.speaker?.name);
  const note = $("speaker-note").value.replace(/\s+/g, " ").trim();
  if (!row || note === row.note) return;
  remember(() => { row.note = note; });
  refresh();
  say(`${row.id}: note kept`);
}

function undo() {
  const before = history.pop();
  if (!before) {
    say("nothing to undo");
    return;
  }
  decided = before.decided;
  keep();
  refresh();
  if (before.current !== null && view.rows.some(({ key }) => key === before.current)) {
    choose(before.current, !$("detail").contains(document.activeElement));
  }
  say(`undone; ${before.current ?? "list"} as it was`);
}

// ---------------------------------------------------------------- playing

const audio = new Audio();
let playing = null; // id of the clip that is loaded
let queue = []; // clips to play after it

function play(id) {
  if (playing !== id) {
    audio.src = clips.get(id).file;
    playing = id;
  }
  audio.play().catch((error) => {
    if (error.name !== "AbortError") notice("error", `${clips.get(id).file} can't be played: ${error.message}`);
  });
}

function toggle(id) {
  queue = [];
  if (playing === id && !audio.paused) audio.pause();
  else play(id);
}

function playSamples(speaker) {
  if (!audio.paused) {
    queue = [];
    audio.pause();
    return;
  }
  queue = speaker.samples.map(([id]) => id);
  play(queue.shift());
}

function toggleCurrent() {
  const entry = currentEntry();
  if (!entry) move(1);
  const chosen = currentEntry();
  if (chosen?.clip) toggle(chosen.clip.id);
  else if (chosen) playSamples(chosen.speaker);
}

function seek(to) {
  const entry = currentEntry();
  const clip = entry?.clip ?? clips.get(playing);
  if (!clip) return;
  to = Math.max(0, Math.min(clip.seconds, to));
  if (playing !== clip.id) {
    audio.src = clip.file;
    playing = clip.id;
  }
  audio.currentTime = to;
  showPlaying();
}

/** The clip whose waveform the player shows: the chosen one, or the sample of the chosen speaker that plays. */
function playerClip() {
  const entry = currentEntry();
  if (entry?.clip) return entry.clip;
  const ids = (entry?.speaker.samples ?? []).map(([id]) => id);
  return clips.get(ids.includes(playing) ? playing : ids[0]);
}

function showPlaying() {
  const clip = playerClip();
  if (!clip) return;
  const here = playing === clip.id;
  const at = here ? Math.min(audio.currentTime, clip.seconds) : 0;
  const running = here && !audio.paused;
  $("play").textContent = running ? "Pause" : "Play";
  $("seek").max = clip.seconds;
  $("seek").value = at;
  $("seek").setAttribute("aria-valuetext", `${at.toFixed(1)} of ${clip.seconds.toFixed(1)} seconds`);
  const name = currentEntry()?.speaker ? `${clip.id} · ` : "";
  $("time").textContent = `${name}${at.toFixed(2)} / ${clip.seconds.toFixed(2)} s`;
  paint($("wave").querySelector("canvas"), waveOf(clip), clip.seconds ? at / clip.seconds : 0);
  for (const row of $("table").tBodies[0].rows) row.classList.toggle("playing", row.dataset.key === playing && !audio.paused);
  if (running) requestAnimationFrame(showPlaying);
}

for (const event of ["play", "pause", "seeked", "loadeddata"]) audio.addEventListener(event, showPlaying);
audio.addEventListener("ended", () => {
  showPlaying();
  if (queue.length) play(queue.shift());
});

// ---------------------------------------------------------------- waveforms

let inks = null;
function ink(name) {
  inks ??= getComputedStyle(document.documentElement);
  return inks.getPropertyValue(name);
}

/** Full scale is the height of the canvas for every clip, so that loud and quiet ones look it. */
function paint(canvas, wave, played) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (!width) return;
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  const middle = height / 2;
  const y = (level) => middle - (level / 127) * (middle - 1);
  pen.fillStyle = ink("--line");
  pen.fillRect(0, middle, width, 1);
  for (let x = 0; x < width; x += 1) {
    const from = Math.floor((x * DATA.bins) / width);
    const to = Math.max(from + 1, Math.floor(((x + 1) * DATA.bins) / width));
    let low = 127, high = -127, body = 0;
    for (let bin = from; bin < to; bin += 1) {
      low = Math.min(low, wave[bin]);
      high = Math.max(high, wave[DATA.bins + bin]);
      body = Math.max(body, wave[2 * DATA.bins + bin]);
    }
    pen.fillStyle = ink(high === 127 || low === -127 ? "--wave-clip" : "--wave");
    pen.fillRect(x, y(high), 1, Math.max(1, y(low) - y(high)));
    pen.fillStyle = ink("--wave-body");
    pen.fillRect(x, y(body), 1, y(-body) - y(body));
  }
  if (played > 0) {
    pen.globalAlpha = 0.16;
    pen.fillStyle = ink("--ink");
    pen.fillRect(0, 0, Math.round(played * width), height);
    pen.globalAlpha = 1;
  }
}

const painter = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    painter.unobserve(target);
    paint(target, waveOf(clips.get(target.dataset.clip)), 0);
  }
});

// ---------------------------------------------------------------- keys

function goTo(list) {
  if (!LISTS.some(({ name }) => name === list)) return;
  view.list = list;
  view.page = 0;
  $("table").tBodies[0].replaceChildren();
  render();
  $("scroll").scrollTop = 0;
  say(`${LISTS.find(({ name }) => name === list).title}, ${view.rows.length} rows`);
}

function focusField(id) {
  const field = $(id);
  field.focus();
  if (field.select) field.select();
}

const onSpeaker = () => Boolean(currentEntry()?.speaker);
const KEYS = {
  j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
  ArrowLeft: () => seek((playing ? audio.currentTime : 0) - 1), ArrowRight: () => seek((playing ? audio.currentTime : 0) + 1),
  " ": toggleCurrent,
  g: () => verdict("good"), b: () => verdict("reject"),
  t: () => currentEntry() && focusField(onSpeaker() ? "rename" : "text"),
  m: () => currentEntry() && focusField(onSpeaker() ? "merge" : "speaker"),
  n: () => {
    if (currentEntry()) focusField(onSpeaker() ? "speaker-note" : "note");
  },
  u: undo, s: save,
  1: () => goTo(LISTS[0].name), 2: () => goTo(LISTS[1].name), 3: () => goTo(LISTS[2].name),
  "/": () => focusField("filter-text"),
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || document.querySelector("dialog[open]")) return;
  if (target.matches("textarea, select, input:not([type=checkbox])")) {
    if (key === "Escape") leaveField(target, true);
    if (key === "Enter" && target.closest("#detail") && target.id !== "seek") {
      event.preventDefault();
      enterField(target);
    }
    return;
  }
  if (target.closest("[role=tablist]") && (key === "ArrowLeft" || key === "ArrowRight")) {
    const at = LISTS.findIndex(({ name }) => name === view.list) + (key === "ArrowRight" ? 1 : LISTS.length - 1);
    goTo(LISTS[at % LISTS.length].name);
    $("tabs").querySelector('[aria-selected="true"]').focus();
    event.preventDefault();
    return;
  }
  // A key that the focused control understands itself stays its own.
  if (key === " " && target.matches("button, input, summary, a")) return;
  if (!$("keys-on").checked && key.length === 1 && key !== " ") return;
  const act = Object.hasOwn(KEYS, key) ? KEYS[key] : null;
  if (!act) return;
  event.preventDefault();
  act();
});

const COMMITS = { text: fixText, speaker: moveSpeaker, note: setNote, "speaker-note": setSpeakerNote };

/** Enter keeps what was typed and goes back to the list. */
function enterField(field) {
  if (field.id === "rename") speakerDo("rename", field.value.trim());
  else if (field.id === "merge") speakerDo("merge", field.value);
  else if (field.id === "split") speakerDo("split", field.value.trim());
  else COMMITS[field.id]?.();
  leaveField(field, false);
}

/** Escape forgets what was typed. Either way the keys work again. */
function leaveField(field, forget) {
  if (forget && field.closest("#detail")) renderDetail();
  field.blur();
  focusRow();
}

// ---------------------------------------------------------------- start

function start() {
  $("project").textContent = DATA.project;
  $("runs").textContent = DATA.runs.join("  ");
  for (const { stage, lacks } of DATA.missing) {
    notice("", `No run of ${stage}: ${lacks}. To have it: make ${stage}, then make listen again.`);
  }
  for (const [at, { name, title }] of LISTS.entries()) {
    const tab = el("button", { type: "button", id: `tab-${name}`, role: "tab", onclick: () => goTo(name) }, title, el("small"));
    tab.dataset.list = name;
    tab.setAttribute("aria-controls", "panel");
    tab.setAttribute("aria-keyshortcuts", at + 1);
    $("tabs").append(tab);
    sizes.set(name, entriesOf(name).length);
  }
  view.list = LISTS.find(({ name }) => sizes.get(name))?.name ?? "suspects";
  $("filter-column").append(el("option", { value: "", textContent: "any" }), ...COLUMNS.map(({ name, title }) => el("option", { value: name, textContent: title })));
  $("speaker-names").append(...[...speakers.keys()].filter(Boolean).map((name) => el("option", { value: name })));
  $("columns-list").append(...COLUMNS.filter(({ fixed }) => !fixed).map((column) => {
    const box = el("input", { type: "checkbox", checked: Boolean(column.shown), onchange: () => { column.shown = box.checked; renderTable(); } });
    return el("label", { className: "check" }, box, column.title);
  }));
  connect();
  begin();
  render();
  showTally();
}

function connect() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  for (const [id, act] of Object.entries({
    undo, save, good: () => verdict("good"), bad: () => verdict("reject"), clear: clearClip, play: toggleCurrent,
    load: () => $("load-file").click(), "help-open": () => $("help").showModal(), "columns-open": () => $("columns").showModal(),
    previous: () => { view.page -= 1; renderTable(); }, next: () => { view.page += 1; renderTable(); },
    "rename-do": () => speakerDo("rename", $("rename").value.trim()), "merge-do": () => speakerDo("merge", $("merge").value),
    "split-do": () => speakerDo("split", $("split").value.trim()), "speaker-reject": () => speakerDo("reject", ""), "speaker-clear": () => speakerDo(null, ""),
  })) on(id, "click", act);
  for (const [id, commit] of Object.entries(COMMITS)) on(id, "change", commit);
  const refilter = () => { view.page = 0; arrange(); renderTable(); say(`${view.rows.length} rows`); };
  for (const id of ["filter-column", "filter-text", "filter-verdict"]) on(id, "input", refilter);
  on("filters", "submit", (event) => { event.preventDefault(); $("scroll").focus(); });
  on("seek", "input", () => seek(Number($("seek").value)));
  on("load-file", "change", async () => {
    const [file] = $("load-file").files;
    if (file) load(await file.text(), file.name);
    $("load-file").value = "";
  });
  on("table", "click", ({ target }) => { // anywhere in a row chooses it; its button plays it
    const row = target.closest("tbody tr");
    if (row && !target.closest("button")) choose(row.dataset.key, true);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { inks = null; renderTable(); showPlaying(); });
  window.addEventListener("resize", showPlaying);
  window.addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });
  window.addEventListener("storage", (event) => { // the same page in another tab
    if (event.key !== KEY || !event.newValue) return;
    ({ decided, saved } = JSON.parse(event.newValue));
    refresh();
    showTally();
  });
}

/** The decisions to start with: this browser's, or those of the corrections.csv that the config names. */
function begin() {
  let kept = null;
  let earlier = [];
  try {
    kept = JSON.parse(localStorage.getItem(KEY));
    earlier = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX) && key !== KEY);
  } catch {
    notice("error", "What this browser kept for this page can't be read; load corrections.csv instead.");
  }
  if (DATA.corrections) decided = readCorrections(DATA.corrections);
  saved = toCsv();
  if (kept) ({ decided, saved } = kept);
  for (const key of earlier) offer(key);
}

/** Verdicts on earlier runs of this project that were never saved can be taken over. */
function offer(key) {
  let old;
  try {
    old = JSON.parse(localStorage.getItem(key));
  } catch {
    return;
  }
  const mine = decided;
  decided = old.decided;
  const lost = unsavedAgainst(old.saved);
  decided = mine;
  if (!lost) {
    localStorage.removeItem(key);
    return;
  }
  const forget = () => { localStorage.removeItem(key); line.remove(); };
  const take = () => {
    remember(() => join(old.decided));
    forget();
    refresh();
    say("verdicts taken over");
  };
  const line = notice("", "This browser holds verdicts on earlier runs of this project that were not saved.",
    el("button", { type: "button", textContent: "Take them over", onclick: take }), el("button", { type: "button", textContent: "Forget them", onclick: forget }));
}

const unsavedAgainst = (text) => toCsv() !== text;

start();
