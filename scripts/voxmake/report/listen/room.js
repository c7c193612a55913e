// ---------------------------------------------------------------- keys

function goTo(list) {
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
  ArrowLeft: () => step(-1), ArrowRight: () => step(1),
  " ": toggleCurrent,
  g: () => verdict("good"), b: () => verdict("reject"),
  t: () => currentEntry() && focusField(onSpeaker() ? "rename" : "text"),
  m: () => currentEntry() && focusField(onSpeaker() ? "merge" : "speaker"),
  n: () => {
    if (currentEntry()) focusField(onSpeaker() ? "speaker-note" : "note");
  },
  u: undo, s: save,
  1: () => goTo(LISTS[0].name), 2: () => goTo(LISTS[1].name), 3: () => goTo(LISTS[2].name), 4: () => goTo(LISTS[3].name), 5: () => goTo(LISTS[4].name),
  "/": () => focusField("filter-text"),
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || document.querySelector("dialog[open]")) return;
  if (target.matches("textarea, select, input:not([type=checkbox], [type=range])")) {
    if (key === "Escape") leaveField(target, true);
    if (key === "Enter" && target.closest("#detail")) {
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
  if (key === " " && target.matches("button, input[type=checkbox], a")) return;
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
  $("runs").textContent = DATA.runs.join(", ");
  if (DATA.missing.length) {
    const lacks = DATA.missing.map(({ stage, lacks }) => `${stage} (${lacks})`).join("; ");
    notice("", `Not made yet: ${lacks}. Run make ${DATA.missing[0].stage}, and so on, then make listen again.`);
  }
  for (const [at, { name, title }] of LISTS.entries()) {
    const tab = el("button", { type: "button", id: `tab-${name}`, role: "tab", onclick: () => goTo(name) }, title, el("small", { ariaHidden: "true" }), el("span", { className: "hidden" }));
    tab.dataset.list = name;
    tab.setAttribute("aria-controls", "panel");
    tab.setAttribute("aria-keyshortcuts", at + 1);
    $("tabs").append(tab);
    sizes.set(name, entriesOf(name).length);
  }
  view.list = LISTS.find(({ name }) => sizes.get(name))?.name ?? "suspects";
  $("filter-column").append(el("option", { value: "", textContent: "any" }), ...COLUMNS.map(({ name, title }) => el("option", { value: name, textContent: title })));
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
    ({ decided, saved } = unpack(event.newValue));
    refresh();
    showTally();
  });
}

/** The decisions to start with: this browser's, or those of the corrections.csv that the config names. */
function begin() {
  let kept = null;
  let earlier = [];
  try {
    if (localStorage.getItem(KEY)) kept = unpack(localStorage.getItem(KEY));
    earlier = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX) && key !== KEY);
  } catch {
    notice("error", "What this browser kept for this page can't be read; load corrections.csv instead.");
  }
  if (DATA.corrections) {
    const found = readCorrections(DATA.corrections);
    given = new Map(found.clips);
    join(found);
  }
  saved = toCsv();
  if (kept) ({ decided, saved } = kept);
  for (const key of earlier) offer(key);
}

/** Verdicts on earlier runs of this project that were never saved can be taken over. */
function offer(key) {
  const old = unpack(localStorage.getItem(key));
  if (toCsv(old.decided) === old.saved) return;
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

start();
