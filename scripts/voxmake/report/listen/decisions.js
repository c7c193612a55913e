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

// clips: id -> {verdict: {action, note}, text: {value, note}, speaker: {value, note, of}}, each part only if decided;
// `of` is the speaker of the runs that the value means, whatever it is called by now.
// speakers: rows {id, action, value, note} in the order of the file, where the order means something.
let decided = { clips: new Map(), speakers: [] };
let given = new Map(); // what the config's corrections.csv said of clips; the runs may show it already
let saved = ""; // the file as it was last saved or loaded
const past = []; // what undo goes back to

const of = (id) => decided.clips.get(id) ?? {};
const squash = (text) => text.replace(/\s+/g, " ").trim();

function remember(change) {
  // Parts and rows are never changed in place, so a copy of the containers is enough.
  past.push({ decided: { clips: new Map(decided.clips), speakers: [...decided.speakers] }, current: view.current });
  if (past.length > 500) past.shift();
  change();
  keep();
}

function setPart(id, part, value) {
  const { [part]: _, ...others } = of(id);
  const parts = value ? { ...others, [part]: value } : others;
  if (Object.keys(parts).length) decided.clips.set(id, parts);
  else decided.clips.delete(id);
}

const pack = () => JSON.stringify({ clips: [...decided.clips], speakers: decided.speakers, saved });

function unpack(text) {
  const kept = JSON.parse(text);
  return { decided: { clips: new Map(kept.clips), speakers: kept.speakers }, saved: kept.saved };
}

function keep() {
  try {
    localStorage.setItem(KEY, pack());
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

/** The speaker of the runs that is called so now; undefined for a new name. */
function speakerCalled(name) {
  const found = [...speakers.keys()].filter((one) => one && nameNow(one) === name);
  return found.find((one) => rowOf(one)?.action !== "merge") ?? found[0];
}

/** Where a clip was moved to. diarize moves clips last, so it is a name as it is after all other decisions. */
const movedTo = ({ value, of }) => (of === undefined ? value : nameNow(of) ?? of);

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
  const renamed = before?.action === "rename" && !speakers.has(before.value) ? before.value : null;
  let rows = decided.speakers
    .filter((row) => row.id !== name)
    .map((row) => (renamed !== null && row.action === "merge" && row.value === renamed ? { ...row, value: name } : row));
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
  remember(() => { decided.speakers = rows; });
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

function toCsv({ clips: found, speakers: decisions } = decided) {
  const rows = [HEADER];
  for (const id of [...found.keys()].sort()) {
    const { verdict, text, speaker } = found.get(id);
    if (verdict) rows.push(["clip", id, verdict.action, "", verdict.note]);
    if (text) rows.push(["clip", id, "text", text.value, text.note]);
    if (speaker) rows.push(["clip", id, "speaker", movedTo(speaker), speaker.note]);
  }
  for (const row of decisions) rows.push(["speaker", row.id, row.action, row.value, row.note]);
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
  const found = { clips: new Map(), speakers: [] };
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
    if (!found.clips.has(id)) found.clips.set(id, {});
    const parts = found.clips.get(id);
    if (action === "good" || action === "reject") parts.verdict = { action, note };
    else parts[action] = { value, note };
  }
  const fault = speakerFault(found.speakers);
  if (fault) throw new Error(fault);
  return found;
}

/** Put decisions on top of those there are; the new ones win. Returns the number of clips and speakers in them. */
function join(found) {
  const named = new Set(found.speakers.map((row) => row.id));
  const kept = decided.speakers.filter((row) => !named.has(row.id));
  decided.speakers = kept.length ? inOrder([...kept, ...found.speakers]) : found.speakers;
  for (const [id, parts] of found.clips) {
    const { speaker } = parts;
    const moved = speaker ? { speaker: { ...speaker, of: speaker.of ?? speakerCalled(speaker.value) } } : {};
    decided.clips.set(id, { ...of(id), ...parts, ...moved });
  }
  return found.clips.size + named.size;
}

function load(text, name) {
  let found;
  try {
    found = readCorrections(text);
  } catch (error) {
    notice("error", `${name}: ${error.message}`);
    return;
  }
  const fresh = !decided.clips.size && !decided.speakers.length;
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
