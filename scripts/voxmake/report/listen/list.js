// ---------------------------------------------------------------- the list

const LISTS = [
  { name: "suspects", title: "Suspects", has: (clip) => clip.lists.includes("suspects") },
  DATA.clips.some((clip) => clip.lists.includes("random"))
    ? { name: "random", title: "Drawn at random", has: (clip) => clip.lists.includes("random") }
    : { name: "samples", title: "Samples", has: (clip) => clip.lists.includes("samples") },
  { name: "speakers", title: "Speakers" },
  { name: "left_out", title: "Left out", has: (clip) => clip.lists.includes("left_out") },
  { name: "misheard", title: "Misheard", has: (clip) => clip.lists.includes("misheard") },
];
const view = {
  list: "speakers", page: 0, rows: [], current: null,
  sort: { suspects: { by: "rank", down: false }, misheard: { by: "values.similarity", down: false } }, // by list; without an entry, in the order of the runs
};
const sizes = new Map(); // list name -> its entries, unfiltered

const UNITS = { s: "s", db: "dB", hz: "Hz", lufs: "LUFS" };
function label(name) {
  const words = name.split("_");
  const unit = words.length > 1 ? UNITS[words.at(-1)] : undefined;
  if (words.at(-2) === "per") return words.join(" ");
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
  if (speaker) words.push([`moved to ${movedTo(speaker)}`, "changed"]);
  return words;
}

const textOf = (clip) => of(clip.id).text?.value ?? clip.text;
function speakerOf(clip) {
  const { speaker } = of(clip.id);
  return speaker ? movedTo(speaker) : nameNow(clip.speaker) ?? clip.speaker;
}

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
const USUAL = new Set(["duration_s", "level_db", "distance", "nearest", "score", "snr_db", "chars_per_s", "similarity"]);
const COLUMNS = [
  { name: "id", title: "Clip", value: (entry) => entry.clip.id, fixed: true },
  { name: "wave", title: "Loudness", value: (entry) => loudness(entry.clip), numeric: true, shown: true },
  { name: "verdict", title: "Verdict", value: (entry) => states(entry.clip.id).map(([word]) => word).join(", "), shown: true },
  { name: "role", title: "Role", value: (entry) => entry.role ?? "", shown: true, only: "speakers" },
  { name: "reasons", title: "Reasons", value: (entry) => entry.clip.reasons.join("; "), shown: true, long: true },
  { name: "text", title: "Text", value: (entry) => textOf(entry.clip), shown: true, long: true },
  { name: "rank", title: "Rank", value: (entry) => entry.clip.rank, numeric: true, shown: true, only: "suspects" },
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
  $("range").textContent = rows.length ? `${first + 1} to ${first + rows.length} of ${view.rows.length} rows` : "";
  $("previous").disabled = view.page === 0;
  $("next").disabled = first + PAGE >= view.rows.length;
  if (focused) focusRow();
}

function whyEmpty() {
  const stage = { speakers: "diarize", left_out: "prepare_dataset", misheard: "whisper_validate" }[view.list] ?? "quality_report";
  const missing = DATA.missing.some((one) => one.stage === stage);
  if (missing) return `There is no run of ${stage} yet: make it (make ${stage}), then make listen again.`;
  if (view.list === "suspects") return "The quality report suspects no clip.";
  if (view.list === "misheard") return "Every clip that was recognised passed.";
  return view.list === "left_out" ? "prepare_dataset left no clip out." : "The run holds none.";
}

function tableRow(entry, columns) {
  const row = el("tr", { className: entry.speaker ? "group" : "" });
  row.dataset.key = entry.key;
  const pick = el("button", { type: "button", className: "pick", onclick: () => pickEntry(entry) });
  if (entry.speaker) {
    const { name, clips: count, seconds } = entry.speaker;
    pick.append(el("span", { textContent: speakerTitle(name) }));
    const facts = el("small", { textContent: `${count} clips, ${(seconds / 60).toFixed(1)} min` });
    row.append(el("th", { scope: "rowgroup", colSpan: columns.length }, el("span", { className: "sticky" }, pick, facts, el("span"))));
  } else {
    pick.append(el("span", { textContent: entry.clip.id, title: entry.clip.id }));
    pick.setAttribute("aria-label", `Play ${entry.clip.id}`);
    row.append(...columns.map((column) => tableCell(entry.clip, column, pick)));
  }
  fill(row, entry, columns);
  return row;
}

function tableCell(clip, column, pick) {
  if (column.fixed) return el("th", { scope: "row" }, pick);
  const box = el("td", { className: column.long ? `long ${column.name}` : column.numeric && column.name !== "wave" ? "number" : "" });
  if (column.name === "text") setLanguage(box, clip);
  if (column.long) box.dir = "auto";
  if (column.name === "wave") {
    const canvas = el("canvas", { role: "img" });
    canvas.setAttribute("aria-label", `${loudness(clip).toFixed(0)} dBFS`);
    canvas.dataset.clip = clip.id;
    painter.observe(canvas);
    box.append(canvas);
  }
  return box;
}

/** What of a row can change: it is put into the cells that are there, so a click on a row never misses it. */
function fill(row, entry, columns) {
  mark(row);
  if (entry.speaker) {
    row.querySelector("small + span").replaceChildren(...speakerTag(entry.speaker.name));
    return;
  }
  columns.forEach((column, at) => {
    const box = row.cells[at];
    if (column.name === "verdict") box.replaceChildren(...states(entry.clip.id).map(([word, kind]) => el("span", { className: `tag ${kind}`, textContent: word })));
    else if (!column.fixed && column.name !== "wave") {
      box.textContent = shown(column.value(entry));
      if (column.long) box.title = box.textContent;
    }
  });
}

/** Whether a row is the chosen one, and whether it plays. */
function mark(row) {
  const current = row.dataset.key === view.current;
  row.classList.toggle("current", current);
  row.classList.toggle("playing", row.dataset.key === playing && !audio.paused);
  if (current) row.querySelector(".pick").setAttribute("aria-current", "true");
  else row.querySelector(".pick").removeAttribute("aria-current");
}

const markRows = () => [...$("table").tBodies[0].rows].forEach(mark);

function setLanguage(node, clip) {
  const language = clip.values.language;
  if (typeof language === "string" && /^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$/.test(language)) node.lang = language;
  else node.removeAttribute("lang");
}

function speakerTag(name) {
  const row = rowOf(name);
  if (!row) return [];
  const words = { rename: `renamed to ${row.value}`, merge: `merged into ${row.value}`, split: `to be split in ${row.value}`, reject: "rejected" }[row.action];
  return [el("span", { className: `tag ${row.action === "reject" ? "bad" : "changed"}`, textContent: words })];
}

/** After a decision: only what shows it is drawn anew, so rows stay where they are. */
function refresh() {
  const columns = columnsNow();
  [...$("table").tBodies[0].rows].forEach((row, at) => fill(row, view.rows[view.page * PAGE + at], columns));
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
  markRows();
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
