// ---------------------------------------------------------------- playing

const audio = new Audio();
let playing = null; // id of the clip that is loaded
let queue = []; // clips to play after it
let frame = 0;

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

function step(seconds) {
  const clip = playerClip();
  if (clip) seek((playing === clip.id ? audio.currentTime : 0) + seconds);
}

function seek(to) {
  const clip = playerClip();
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
  cancelAnimationFrame(frame);
  if (running) frame = requestAnimationFrame(showPlaying);
}

for (const event of ["play", "pause", "seeked", "loadeddata", "ended"]) {
  audio.addEventListener(event, () => { markRows(); showPlaying(); });
}
audio.addEventListener("ended", () => {
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
