// ---------------------------------------------------------------- the clip or speaker that is chosen

function renderDetail() {
  const entry = currentEntry();
  for (const id of ["player", "clip-form", "speaker-form", "heard", "why", "measured"]) $(id).hidden = true;
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
  const names = new Set([...speakers.keys()].map(nameNow).filter(Boolean));
  $("speaker-names").replaceChildren(...[...names].map((name) => el("option", { value: name })));
  $("note").value = verdict?.note ?? "";
  $("heard").hidden = !clip.diff.length;
  const tags = { both: "span", text: "del", heard: "ins" };
  $("diff").replaceChildren(...clip.diff.flatMap(([side, words]) => [el(tags[side], { textContent: words }), " "]));
  $("diff").title = clip.heard;
  setLanguage($("diff"), clip);
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
  $("speaker-decision").replaceChildren(...speakerTag(name));
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
  for (const { verdict, text, speaker } of decided.clips.values()) {
    if (verdict) count[verdict.action === "good" ? "good" : "bad"] += 1;
    if (text) count.texts += 1;
    if (speaker) count.moved += 1;
  }
  const words = Object.entries({ ...count, speakers: decided.speakers.length }).flatMap(([word, number]) => [el("b", { textContent: number }), ` ${word} · `]);
  const state = unsaved() ? el("span", { className: "unsaved", textContent: "not saved" }) : el("span", { className: "muted", textContent: "saved" });
  $("tally").replaceChildren(...words, state);
  $("undo").disabled = !past.length;
  for (const tab of $("tabs").children) {
    const entries = entriesOf(tab.dataset.list).filter((entry) => (tab.dataset.list === "speakers" ? entry.speaker?.name : entry.clip));
    const open = entries.filter((entry) => (entry.clip ? !states(entry.clip.id).length : !rowOf(entry.speaker.name))).length;
    tab.querySelector("small").textContent = `${open}/${entries.length}`;
    tab.querySelector(".hidden").textContent = `, ${open} open of ${entries.length}`;
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
  if (!entry?.clip || !decided.clips.has(entry.clip.id)) return;
  remember(() => decided.clips.delete(entry.clip.id));
  refresh();
  say(`${entry.clip.id}: all taken back`);
}

function fixText() {
  const clip = currentEntry()?.clip;
  const value = squash($("text").value);
  if (!clip || value === squash(textOf(clip))) return;
  if (!value) {
    renderDetail();
    say("a text can't be empty; mark the clip bad instead");
    return;
  }
  const home = value === squash(clip.text) && !given.get(clip.id)?.text;
  remember(() => setPart(clip.id, "text", home ? null : { value, note: of(clip.id).text?.note ?? "" }));
  refresh();
  say(`${clip.id}: ${home ? "text as it was" : "text fixed"}`);
}

function moveSpeaker() {
  const clip = currentEntry()?.clip;
  const value = $("speaker").value.trim();
  if (!clip || value === speakerOf(clip)) return;
  const home = !value || ((value === clip.speaker || value === nameNow(clip.speaker)) && !given.get(clip.id)?.speaker);
  const target = speakerCalled(value) ?? (speakers.has(value) ? value : undefined);
  remember(() => setPart(clip.id, "speaker", home ? null : { value, note: of(clip.id).speaker?.note ?? "", of: target }));
  refresh();
  say(home ? `${clip.id}: speaker as it was` : `${clip.id}: moved to ${speakerOf(clip)}${target === undefined ? ", a new speaker" : ""}`);
}

function setNote() {
  const clip = currentEntry()?.clip;
  const note = squash($("note").value);
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
  say(`${name}: ${speakerTag(name)[0]?.textContent ?? "decision taken back"}`);
}

function setSpeakerNote() {
  const row = rowOf(currentEntry()?.speaker?.name);
  const note = squash($("speaker-note").value);
  if (!row || note === row.note) return;
  remember(() => { decided.speakers = decided.speakers.map((one) => (one === row ? { ...row, note } : one)); });
  refresh();
  say(`${row.id}: note kept`);
}

function undo() {
  const before = past.pop();
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
