"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const GENDERS = ["female", "male", "none"];
const ERRORS = 1;
const SVG = "http://www.w3.org/2000/svg";
const videos = data.videos.map((row) => Object.fromEntries(data.video_columns.map((name, i) => [name, row[i]])));

// --- elements: text is always set as text, because names of files are a stranger's -------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const unseen = (text) => make("span", { class: "unseen" }, text);
const hidden = () => make("span", { class: "hidden-count" }, "∗", unseen(" hidden"));
const number = (value, digits = 0) =>
  value === null ? hidden() : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

const moment = (seconds, video) => (video.duration < 600 ? `${clock(seconds)}.${Math.floor((seconds % 1) * 10)}` : clock(seconds));

function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  return whole < 3600 ? `${Math.floor(whole / 60)}:${parts[1]}` : `${Math.floor(whole / 3600)}:${parts.join(":")}`;
}

/** Return what the lines of a chart are: its height is so much for each of them. */
const lineOf = (row) => row.day || row.person || `${row.group} ${row.what}`;

// --- charts ---------------------------------------------------------------------------------------------------------

function chart(element, name, values, parts = {}, until = null) {
  const spec = JSON.parse(JSON.stringify(data.charts[name]));
  if (values) spec.data.values = values;
  if (spec.height.step) spec.height = spec.height.step * Math.max(1, new Set(spec.data.values.map(lineOf)).size);
  if (matchMedia("(min-width: 2000px)").matches) {
    for (const part of ["axis", "legend"]) Object.assign(spec.config[part], { labelFontSize: 14, titleFontSize: 14 });
  }
  for (const layer of spec.layer || []) if (layer.data) layer.data.values = parts[layer.data.name];
  if (spec.layer) spec.layer = spec.layer.filter((layer) => !layer.data || layer.data.values.length);
  if (until) (spec.encoding || spec.layer[spec.layer.length - 1].encoding).x.scale.domainMax = until;
  const options = { actions: false, renderer: "svg", ast: true, mode: "vega-lite", logLevel: ERRORS };
  return vegaEmbed(element, spec, options).catch((error) => {
    element.textContent = `The chart could not be drawn: ${error.message}`;
  });
}

function figure(title, description, name, values, parts, until) {
  const place = make("div", { class: "chart", role: "img", "aria-label": description });
  return [make("figure", {}, make("figcaption", {}, make("h4", {}, title)), place), () => chart(place, name, values, parts, until)];
}

// --- lists that sort, filter and turn pages -------------------------------------------------------------------------

function list(place, { caption, noun, columns, rows, size, filters = [], sort, expand = null }) {
  let [sorted, direction] = sort;
  let page = 0;
  let kept = rows;
  const open = new Map();
  const status = make("p", { role: "status" });
  const body = make("tbody");
  const heads = columns.map((column) => {
    const button = make("button", { type: "button", onclick: () => order(column) }, column.title);
    return make("th", { scope: "col", class: column.text ? null : "n" }, column.key ? button : unseen(column.title));
  });
  const step = (title, to) => make("button", { type: "button", onclick: () => turn(to()) }, title);
  const buttons = [
    step("First", () => 0),
    step("Previous", () => page - 1),
    step("Next", () => page + 1),
    step("Last", () => last()),
  ];
  const tools = make("div", { class: "tools" }, ...filters.map(filterOf));
  const table = make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads)), body);
  const region = make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, table);
  const pages = make("div", { role: "group", "aria-label": `Pages of ${noun}` }, ...buttons);
  place.replaceChildren(tools, region, make("div", { class: "pages" }, status, pages));

  const last = () => Math.max(0, Math.ceil(kept.length / size) - 1);

  function filterOf(filter) {
    const update = () => ((page = 0), show());
    filter.input = filter.choices
      ? make("select", { onchange: update }, ...filter.choices.map((name) => make("option", {}, name)))
      : make("input", { type: "search", autocomplete: "off", spellcheck: "false", oninput: update });
    return make("label", {}, filter.title, filter.input);
  }

  function order(column) {
    direction = sorted === column.key ? -direction : column.first || 1;
    sorted = column.key;
    page = 0;
    show();
  }

  function turn(to) {
    page = Math.min(Math.max(to, 0), last());
    show();
    region.scrollIntoView({ block: "nearest" });
  }

  function compare(a, b) {
    const [x, y] = [a[sorted], b[sorted]];
    if (x === y) return 0;
    if (x === null || x === undefined) return 1; // without a value: always at the end
    if (y === null || y === undefined) return -1;
    return direction * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
  }

  function show() {
    kept = rows.filter((row) => filters.every((filter) => filter.keeps(row, filter.input.value)));
    kept = [...kept].sort(compare);
    page = Math.min(page, last());
    columns.forEach((column, i) => {
      if (column.key === sorted) heads[i].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      else heads[i].removeAttribute("aria-sort");
    });
    const shown = kept.slice(page * size, (page + 1) * size);
    body.replaceChildren(...shown.flatMap(linesOf));
    if (!shown.length) body.append(make("tr", {}, make("td", { colspan: columns.length }, `No ${noun} to show.`)));
    const from = page * size + 1;
    const of = kept.length === rows.length ? "" : ` (filtered from ${number(rows.length)})`;
    status.textContent = shown.length ? `${number(from)}–${number(from + shown.length - 1)} of ${number(kept.length)} ${noun}${of}` : `0 ${noun}${of}`;
    buttons.forEach((button, i) => (button.disabled = i < 2 ? page === 0 : page === last()));
    pages.hidden = last() === 0;
  }

  function linesOf(row) {
    const cells = columns.map((column, i) => {
      const content = column.cell ? column.cell(row) : row[column.key];
      const value = content === null || content === undefined ? "–" : content;
      return make(i ? "td" : "th", { scope: i ? null : "row", class: column.text ? null : "n" }, value);
    });
    const line = make("tr", { class: "row" }, ...cells);
    if (!expand || !expand.can(row)) return [line];
    const id = `detail-${row.id}`;
    const button = make("button", { type: "button", class: "open", "aria-expanded": String(open.has(row)), "aria-controls": id });
    button.append(...cells[0].childNodes);
    cells[0].replaceChildren(button);
    button.addEventListener("click", () => {
      if (open.has(row)) open.get(row).remove(), open.delete(row);
      else line.after(detailOf(row, id));
      button.setAttribute("aria-expanded", open.has(row));
    });
    return open.has(row) ? [line, open.get(row)] : [line];
  }

  function detailOf(row, id) {
    const panel = make("div", { class: "panel" });
    open.set(row, make("tr", { class: "detail", id }, make("td", { colspan: columns.length }, panel)));
    // The charts take the width of their place, so that they are drawn when it is in the page.
    setTimeout(() => expand.fill(panel, row));
    return open.get(row);
  }

  function reveal(row) {
    for (const filter of filters) filter.input.value = filter.choices ? filter.choices[0] : "";
    show();
    page = Math.floor(kept.indexOf(row) / size);
    show();
    const button = body.querySelector(`[aria-controls="detail-${row.id}"]`);
    if (!button) return;
    if (!open.has(row)) button.click();
    button.focus();
    button.scrollIntoView({ block: "start" });
  }

  show();
  return { reveal };
}
