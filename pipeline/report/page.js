"use strict";
const PERIODS = [1, 5, 15, 60, 300, 900, 3600, 14400];
const MOST_LINES = 80;
const PERSON = ["person", "start", "end", "gender", "age", "low", "high", "faces", "noAge", "noGender", "spans", "picture"];
const persons = [];
for (const video of videos) {
  if (!video.details) continue;
  video.details = video.details.map((row) => {
    const person = Object.fromEntries(PERSON.map((name, i) => [name, row[i]]));
    return Object.assign(person, { video, file: video.name, gender: GENDERS[person.gender], seconds: visible(person) });
  });
  persons.push(...video.details);
}

// --- videos ---------------------------------------------------------------------------------------------------------

function visible(person) {
  let seconds = 0;
  for (let i = 0; i < person.spans.length; i += 2) seconds += person.spans[i + 1] - person.spans[i];
  return seconds;
}

/** Return how many persons are in the picture in each of `count` parts of a video. */
function presence(video, count) {
  const part = video.duration / count;
  const numbers = new Array(count).fill(0);
  for (const person of video.details) {
    const parts = new Set();
    for (let i = 0; i < person.spans.length; i += 2) {
      const end = Math.min(count, Math.ceil(person.spans[i + 1] / part));
      for (let k = Math.floor(person.spans[i] / part); k < end; k++) parts.add(k);
    }
    for (const k of parts) numbers[k] += 1;
  }
  return numbers;
}

function spark(video) {
  if (!video.details || video.is_picture || !video.duration) return "–";
  const numbers = presence(video, 60);
  const most = Math.max(...numbers, 1);
  const path = numbers.map((n, i) => `V${24 - (22 * n) / most}H${(i + 1) * 2}`).join("");
  return draw(
    "svg",
    { class: "spark", viewBox: "0 0 120 24", preserveAspectRatio: "none", role: "img", "aria-label": `at most ${most} in the picture` },
    draw("path", { d: `M0 24${path}V24Z` }),
  );
}

function periodOf(video) {
  if (video.duration >= 180 && video.duration <= 7200) return 60;
  return PERIODS.find((seconds) => video.duration / seconds <= 120) || PERIODS[PERIODS.length - 1];
}

const periodName = (seconds) => (seconds === 1 ? "second" : seconds === 60 ? "minute" : seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${seconds / 60} minutes` : `${seconds / 3600} hours`);

function plainTable(caption, titles, rows) {
  return make(
    "details",
    {},
    make("summary", {}, "Table"),
    make(
      "div",
      { class: "scroll tall", role: "region", "aria-label": caption, tabindex: "0" },
      make(
        "table",
        {},
        make("caption", {}, caption),
        make("thead", {}, make("tr", {}, ...titles.map((title) => make("th", { scope: "col", class: "n" }, title)))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", { class: "n" }, String(cell)))))),
      ),
    ),
  );
}

function fillVideo(panel, video) {
  const people = [...video.details];
  const facts = [video.size && `${video.size} px`, video.is_picture ? "picture" : `${moment(video.duration, video)} long`, video.recorded ? `recorded ${video.recorded}` : "time of recording unknown"];
  if (video.others) facts.push(`${video.others} more ${video.others === 1 ? "file" : "files"} with the same content`);
  if (video.work) facts.push(`${number(video.work, 1)} s of work`);
  if (video.cost !== null) facts.push(`cost ${number(video.cost, 4)}`);
  panel.append(make("p", {}, `${facts.filter(Boolean).join(" · ")} · `, make("span", { class: "mono" }, video.id)));
  if (video.warning) panel.append(make("p", { class: "warning" }, video.warning));
  const drawings = [];
  const add = (parent, [element, start], ...more) => (element.append(...more), parent.append(element), drawings.push(start));
  const moving = !video.is_picture && video.duration > 0 && people.length > 0;
  if (moving) {
    const longest = [...people].sort((a, b) => b.seconds - a.seconds).slice(0, MOST_LINES);
    const lines = longest.sort((a, b) => a.person - b.person);
    const rows = lines.flatMap((p) => pairs(p.spans).map(([start, end]) => ({ person: p.person, start, end, gender: p.gender })));
    const cuts = video.shots.slice(1).map((at) => ({ at }));
    const note = cuts.length ? "Dotted lines are cuts." : "";
    const more = people.length > lines.length ? ` The ${MOST_LINES} persons who are longest in the picture.` : "";
    const title = `Timeline: persons over ${video.shots.length} ${video.shots.length === 1 ? "shot" : "shots"}`;
    const told = `When each of ${lines.length} persons is in the picture. The table of persons has the times.`;
    add(panel, figure(title, told, "timeline", rows, { cuts }, video.duration), make("p", {}, `${note}${more}`));
  }
  const pair = make("div", { class: "pair" });
  panel.append(pair);
  if (moving) {
    const period = periodOf(video);
    const count = Math.max(1, Math.ceil(video.duration / period));
    const rows = presence({ ...video, duration: count * period }, count).map((n, i) => ({ start: i * period, end: Math.min((i + 1) * period, video.duration), people: n }));
    const title = `Persons in each ${periodName(period)}`;
    const cells = rows.map((row) => [moment(row.start, video), moment(row.end, video), row.people]);
    add(pair, figure(title, `${title}. The table below the chart has the numbers.`, "rate", rows, {}, video.duration), plainTable(title, ["from", "to", "persons"], cells));
  }
  const aged = people.filter((p) => p.age !== null).sort((a, b) => a.age - b.age);
  if (aged.length) {
    const shown = aged.slice(0, MOST_LINES);
    const rows = shown.map(({ person, age, low, high, gender }) => ({ person, age, low, high, gender }));
    const rest = people.length - aged.length;
    const text = `${rest ? `${rest} of ${people.length} persons have no age. ` : ""}${aged.length > shown.length ? `The ${MOST_LINES} youngest are shown.` : ""}`;
    const told = "Estimated ages with their 80 % intervals. The table of persons has the numbers.";
    add(pair, figure("Ages with their 80 % intervals", told, "video_ages", rows), make("p", {}, text));
  } else if (people.length) pair.append(make("p", {}, "No person of this video has an age."));
  const table = make("div");
  panel.append(table);
  const own = personColumns.filter((column) => column.key !== "file");
  if (people.length) list(table, { caption: `Persons in ${video.name}`, noun: "persons", columns: own, rows: people, size: 25, sort: ["person", 1] });
  else panel.append(make("p", {}, "Nobody was found in it."));
  drawings.forEach((start) => start());
}

function pairs(spans) {
  const result = [];
  for (let i = 0; i < spans.length; i += 2) result.push([spans[i], spans[i + 1]]);
  return result;
}

// --- persons --------------------------------------------------------------------------------------------------------

function interval(person) {
  if (person.age === null) return make("span", { class: "range" }, person.noAge || "–");
  const x = (years) => 2 + Math.min(years, 100) * 1.16;
  const label = `${person.low} to ${person.high}`;
  return draw(
    "svg",
    { class: `interval of-${person.gender}`, viewBox: "0 0 120 14", role: "img", "aria-label": label },
    draw("line", { x1: 2, x2: 118, y1: 7, y2: 7 }),
    draw("line", { class: "bar-of-age", x1: x(person.low), x2: x(person.high), y1: 7, y2: 7 }),
    draw("circle", { cx: x(person.age), cy: 7, r: 3.5 }),
  );
}

function genderOf(person) {
  if (person.gender !== "none") return make("span", { class: `key-${person.gender}` }, person.gender);
  return make("span", { class: "key-none" }, "none ", make("span", { class: "range" }, person.noGender === person.noAge ? "" : person.noGender || ""));
}

const portrait = (p) => (p.picture ? make("img", { src: p.picture, alt: `Person ${p.person} in ${p.file}`, loading: "lazy" }) : "–");
const hasPictures = persons.some((person) => person.picture);
const personColumns = [
  { key: "file", title: "Video", text: true, cell: (p) => make("a", { href: `#video=${p.video.id}` }, p.file) },
  { key: "person", title: "Person" },
  ...(hasPictures ? [{ key: null, title: "Picture", text: true, cell: portrait }] : []),
  { key: "start", title: "From", cell: (p) => moment(p.start, p.video) },
  { key: "end", title: "To", cell: (p) => moment(p.end, p.video) },
  { key: "seconds", title: "In picture, s", first: -1, cell: (p) => number(p.seconds, 1) },
  { key: "gender", title: "Gender", text: true, cell: genderOf },
  { key: "age", title: "Age", cell: (p) => (p.age === null ? "–" : number(p.age, 1)) },
  { key: "low", title: "From age", cell: (p) => (p.low === null ? "–" : number(p.low, 1)) },
  { key: "high", title: "To age", cell: (p) => (p.high === null ? "–" : number(p.high, 1)) },
  { key: null, title: "Interval from 0 to 100 years, or why there is no age", text: true, cell: interval },
  { key: "faces", title: "Faces", first: -1 },
];
const inGroup = (person, name) => {
  if (name === "all") return true;
  if (name === "no age") return person.age === null;
  const [, low, high] = data.age_groups.find(([group]) => group === name);
  return person.age !== null && low <= person.age && person.age < high;
};
const holds = (text, wanted) => text.toLocaleLowerCase().includes(wanted.trim().toLocaleLowerCase());

// --- the page -------------------------------------------------------------------------------------------------------

const detailed = videos.some((video) => video.details);
const videoColumns = [
  { key: "name", title: "Video", text: true },
  { key: "recorded", title: "Recorded", text: true },
  { key: "duration", title: "Length", first: -1, cell: (v) => (v.is_picture ? "picture" : clock(v.duration)) },
  { key: "num_shots", title: "Shots", first: -1, cell: (v) => number(v.num_shots) },
  { key: "persons", title: "Persons", first: -1, cell: (v) => number(v.persons) },
  { key: "ages", title: "With an age", first: -1, cell: (v) => number(v.ages) },
  { key: "women", title: "Female", first: -1, cell: (v) => number(v.women) },
  { key: "men", title: "Male", first: -1, cell: (v) => number(v.men) },
  { key: null, title: "Persons in the picture over time", text: true, cell: spark },
].filter((column) => detailed || !["ages", "women", "men", null].includes(column.key));
const videoList = list(document.querySelector('[data-list="videos"]'), {
  caption: "Finished videos and pictures",
  noun: "videos",
  columns: videoColumns,
  rows: videos,
  size: 25,
  sort: ["name", 1],
  filters: [
    { title: "Name contains", keeps: (video, text) => holds(video.name, text) },
    { title: "With persons", choices: ["all", "with persons", "without persons", "with a warning"], keeps: (video, choice) => choice === "all" || (choice === "with a warning" ? video.warning !== null : (video.persons === 0) === (choice === "without persons")) },
  ],
  expand: { can: (video) => video.details !== null, fill: fillVideo },
});
const missing = videos.filter((video) => video.details === null).length;
if (detailed && missing) {
  const text = `To keep this page small, ${number(missing)} of ${number(videos.length)} videos have no details here. The table "persons" of the output has all.`;
  document.querySelector("#videos .intro").append(make("strong", {}, ` ${text}`));
}
const personPlace = document.querySelector('[data-list="persons"]');
if (personPlace) {
  list(personPlace, {
    caption: "Persons of all videos",
    noun: "persons",
    columns: personColumns,
    rows: persons,
    size: 25,
    sort: ["file", 1],
    filters: [
      { title: "Video contains", keeps: (person, text) => holds(person.file, text) },
      { title: "Gender", choices: ["all", ...GENDERS], keeps: (person, choice) => choice === "all" || person.gender === choice },
      { title: "Age", choices: ["all", ...data.age_groups.map(([name]) => name), "no age"], keeps: inGroup },
    ],
  });
}

const day = document.getElementById("day");
function showDay(fillTable) {
  const rows = data.days[day.value];
  chart(document.getElementById("hours-chart"), "hours", rows.map(({ hour, people }) => ({ hour, people })));
  if (!fillTable) return;
  document.getElementById("chosen-day").textContent = day.selectedOptions[0].textContent;
  const body = document.querySelector("#hours tbody");
  body.replaceChildren(
    ...rows.map((row) => {
      const [women, men] = row.genders;
      const share = women === null || men === null || women + men === 0 ? "–" : `${Math.round((100 * women) / (women + men))} %`;
      const cells = [number(row.people), ...row.genders.map((n) => number(n)), share, ...row.ages.map((n) => number(n))];
      const head = make("th", { scope: "row" }, `${String(row.hour).padStart(2, "0")}:00`);
      return make("tr", {}, head, ...cells.map((cell) => make("td", { class: "n" }, cell)));
    }),
  );
  if (!rows.length) body.append(make("tr", {}, make("td", { colspan: data.age_groups.length + 7 }, "Nobody, or too few persons to be shown.")));
}
if (day) {
  day.addEventListener("change", () => showDay(true));
  showDay(false);
}
for (const place of document.querySelectorAll("[data-chart]")) chart(place, place.dataset.chart);

function follow() {
  const match = /^#video=(\w+)$/.exec(location.hash);
  const video = match && videos.find((candidate) => candidate.id === match[1]);
  if (video) videoList.reveal(video);
}
addEventListener("hashchange", follow);
follow();
if (videos.length === 1 && videos[0].details) document.querySelector("#videos .open")?.click();
document.documentElement.dataset.ready = "";
