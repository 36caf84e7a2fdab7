"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const NAMES = {
  integrated_gradients: "integrated gradients", gradient_x_input: "gradient × input",
  attention_x_gradient: "attention × gradient", occlusion: "occlusion", lime: "LIME",
  kernel_shap: "KernelSHAP",
};
const SAYS = {
  integrated_gradients: "What each word adds on the way from a text of masks to this one; scores sum to the difference.",
  gradient_x_input: "What setting a word's vector to zero would change, by the slope alone.",
  attention_x_gradient: "What looking away from a word everywhere would change, by the slope alone.",
  occlusion: "What the prediction loses when the word is masked.",
  lime: "Weights of a linear model of which words are there.",
  kernel_shap: "Shapley values of the words, by sampling.",
};
const KINDS = { encoder: "the text to itself", decoder: "what is written to itself", cross: "what is written to the source" };
const state = { method: DATA.methods[0], targets: DATA.texts.map(() => 0), text: 0, kind: Object.keys(DATA.texts[0].attention)[0], layer: 0, head: 0 };
const at = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value }, text)));
  select.value = chosen;
}

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const percent = (share) => (share * 100).toFixed(share < 0.1 ? 1 : 0) + " %";

// One stop of the Tab key for a group of buttons; arrow keys go on inside it.
function rove(buttons, columns = 0) {
  buttons.forEach((button, place) => {
    button.tabIndex = place ? -1 : 0;
    button.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns || 1, ArrowUp: -(columns || 1) };
      let next = event.key in steps ? place + steps[event.key] : null;
      if (event.key === "Home") next = 0;
      if (event.key === "End") next = buttons.length - 1;
      if (next === null || !buttons[next]) return;
      event.preventDefault();
      buttons[next].focus();
    });
    button.addEventListener("focus", () => buttons.forEach((other) => { other.tabIndex = other === button ? 0 : -1; }));
  });
}

// ---- words ----
const target = (number) => DATA.texts[number].targets[state.targets[number]];
const scores = (number) => target(number).methods[state.method].scores;
const largest = () => Math.max(1e-9, ...DATA.texts.flatMap((_, number) => scores(number).map(Math.abs)));

function drawWords() {
  at("method-says").textContent = SAYS[state.method] || "";
  drawScale();
  const groups = DATA.texts.map((text, number) => card(text, number));
  at("texts").replaceChildren(...groups);
  drawFaith();
  at("word-says").textContent = "No word is chosen.";
}

function card(text, number) {
  const chosen = target(number);
  const id = `target-${number}`;
  const choice = make("select", { id, onchange: (event) => { state.targets[number] = +event.target.value; drawWords(); at(id).focus(); } });
  options(choice, text.targets.map((each, place) => [place, `${each.name}: ${each.shown}`]), state.targets[number]);
  const buttons = [];
  const bodies = text.texts.map((raw, part) => words(text, number, raw, part, buttons));
  rove(buttons);
  const heading = DATA.texts.length > 1 ? `Text ${number + 1}` : "The text";
  return make("div", { class: "card" },
    make("h3", {}, heading),
    make("p", {}, make("label", { for: id }, "Explained: "), choice),
    ...bodies,
    make("p", { class: "quiet" }, chosen.methods[state.method].note),
    table(text, number));
}

function words(text, number, raw, part, buttons) {
  const top = largest(), found = scores(number), unit = target(number).unit, body = make("p", { class: "text" });
  let end = 0;
  text.words.forEach((word, place) => {
    if (word.part !== part) return;
    body.append(raw.slice(end, word.start));
    const score = found[place];
    const shown = raw.slice(word.start, word.end);
    const says = score === undefined ? `${shown}: not read yet` : `${shown}: ${signed(score)} ${unit}, ${score < 0 ? "against" : "for"} ${target(number).name}`;
    const share = score === undefined ? 0 : Math.abs(score) / top;
    const kind = score === undefined ? "unread" : share < 0.02 ? "" : score < 0 ? "against" : "for";
    const tell = () => { at("word-says").textContent = says; };
    const button = make("button", { class: `w ${kind}`, type: "button", "aria-label": says }, shown);
    listen(button, tell);
    button.style.setProperty("--a", share.toFixed(3));
    button.style.borderBottomWidth = share < 0.02 ? "0" : `${1 + Math.round(3 * share)}px`;
    buttons.push(button);
    body.append(button);
    end = word.end;
  });
  body.append(raw.slice(end));
  const role = make("span", { class: "role" }, `${text.roles[part]} `);
  return text.texts.length > 1 ? make("div", {}, role, body) : body;
}

function table(text, number) {
  const found = scores(number);
  const rows = text.words.slice(0, found.length).map((word, place) => [text.texts[word.part].slice(word.start, word.end), found[place]]);
  rows.sort((one, two) => Math.abs(two[1]) - Math.abs(one[1]));
  return make("details", {}, make("summary", {}, "The scores as a table"),
    make("table", {}, make("tr", {}, make("th", { scope: "col" }, "word"), make("th", { scope: "col" }, target(number).unit)),
      ...rows.map(([word, score]) => make("tr", {}, make("td", {}, word), make("td", { class: "n" }, signed(score))))));
}

function drawScale() {
  const top = largest(), unit = target(0).unit, bar = make("div", { class: "bar", "aria-hidden": "true" });
  for (const share of [-1, -0.6, -0.25, 0, 0.25, 0.6, 1]) {
    const piece = make("span");
    const colour = share < 0 ? "--against" : "--for";
    piece.style.background = `rgba(var(${colour}), calc(${Math.abs(share)} * var(--most)))`;
    piece.style.borderBottom = share ? `${1 + Math.round(3 * Math.abs(share))}px ${share < 0 ? "dotted" : "solid"} var(--ink)` : "0";
    bar.append(piece);
  }
  const help = unit === "log-odds" ? "+0.69 log-odds doubles the odds, −0.69 halves them." : `Scores are in the model's own unit (${unit}).`;
  at("scale").replaceChildren(make("div", { class: "scale" }, make("span", {}, `against: ${signed(-top)} (dotted line)`), bar,
    make("span", {}, `for: ${signed(top)} (solid line)`), make("span", { class: "quiet" }, help)));
}

function drawFaith() {
  const head = ["text", "explained", "method", "comprehensiveness (random)", "sufficiency (random)", "better than chance", "scores sum up"];
  const rows = [];
  DATA.texts.forEach((text, number) => {
    for (const method of DATA.methods) {
      const each = target(number).methods[method], f = each.faith;
      rows.push([number + 1, target(number).name, NAMES[method], f ? `${f[0].toFixed(2)} (${f[2].toFixed(2)})` : "not measured",
        f ? `${f[1].toFixed(2)} (${f[3].toFixed(2)})` : "not measured", f ? (f[0] > f[2] && f[1] < f[3] ? "yes" : "no") : "–", each.complete]);
    }
  });
  at("faith").replaceChildren(make("table", {},
    make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name))),
    ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, String(cell)))))));
}

// ---- attention ----
function decode(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const attention = () => DATA.texts[state.text].attention[state.kind];

function layer(number) {
  const found = attention().layers[number];
  if (!found.places) Object.assign(found, { places: decode(found.p, Uint16Array), weights: decode(found.w, Uint8Array) });
  return found;
}

// Weight of each kept place of a head: calls back (row, column, weight from 0 to 1).
function each(number, head, call) {
  const { rows, kept } = attention(), found = layer(number), start = head * rows.length * kept;
  for (let row = 0; row < rows.length; row++) {
    for (let place = 0; place < kept; place++) {
      const index = start + row * kept + place;
      if (found.weights[index]) call(row, found.places[index], found.weights[index] / 255);
    }
  }
}

function paint(canvas, number, head) {
  const { rows, columns } = attention();
  canvas.width = columns.length; canvas.height = rows.length;
  const context = canvas.getContext("2d"), shade = getComputedStyle(document.documentElement).getPropertyValue("--shade");
  each(number, head, (row, column, weight) => { context.fillStyle = `rgba(${shade}, ${Math.sqrt(weight)})`; context.fillRect(column, row, 1, 1); });
}

function describe(number, head) {
  const s = attention().layers[number].stats[head];
  const shares = [["itself", s.itself], ["the next token", s.next], ["the previous token", s.previous], ["added tokens", s.separators]]
    .filter(([, share]) => share !== undefined).map(([name, share]) => `${percent(share)} on ${name}`).join(", ");
  const reach = s.distance === undefined ? "" : `, ${s.distance.toFixed(1)} tokens away in the mean`;
  return `Layer ${number + 1}, head ${head + 1}: ${shares}${reach}; entropy ${s.entropy.toFixed(2)} nats.`;
}

function drawGrid() {
  const found = attention(), buttons = [];
  at("kept").textContent = found.share > 0.999 ? "" : `Of each token the ${found.kept} largest weights are kept; they hold ${percent(found.share)} of all attention.`;
  const rows = found.layers.map((_, number) => make("div", { class: "row" }, make("span", { class: "name" }, `layer ${number + 1}`),
    ...found.layers[number].stats.map((_, head) => {
      const canvas = make("canvas", { "aria-hidden": "true" });
      paint(canvas, number, head);
      const button = make("button", { class: "cell", type: "button", "aria-label": describe(number, head), title: describe(number, head),
        "aria-pressed": String(number === state.layer && head === state.head),
        onclick: () => { Object.assign(state, { layer: number, head }); buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === button))); drawHead(); } }, canvas);
      buttons.push(button);
      return button;
    })));
  at("grid").replaceChildren(...rows);
  rove(buttons, found.layers[0].stats.length);
  drawHead();
}

function drawHead() {
  const found = attention(), { layer: number, head } = state;
  at("h-head").textContent = `Layer ${number + 1}, head ${head + 1}`;
  at("head-says").textContent = `${describe(number, head)} Point at a token, or move to it with Tab and the arrow keys: it shows what it attends to and what attends to it.`;
  at("token-says").textContent = "No token is chosen.";
  const matrix = found.rows.map(() => new Float32Array(found.columns.length));
  each(number, head, (row, column, weight) => { matrix[row][column] = weight; });
  const same = state.kind !== "cross";
  const upper = line(found.rows), lower = line(found.columns);
  const across = (row) => Array.from(matrix[row]);
  const down = (column) => matrix.map((weights) => weights[column]);
  let told = "";
  const tell = (where, place) => {
    if (told === where + place) return;
    told = where + place;
    const parts = [];
    clear(upper); clear(lower);
    if (where === "row" || same) { shade(lower, across(place)); parts.push(best(`${found.rows[place]} attends to`, across(place), found.columns)); }
    if (where === "column" || same) { shade(upper, down(place)); parts.push(best(`${found.columns[place]} is attended to by`, down(place), found.rows)); }
    (where === "row" ? upper : lower)[place].classList.add("here");
    at("token-says").textContent = parts.join(" ");
  };
  upper.forEach((button, place) => listen(button, () => tell("row", place)));
  lower.forEach((button, place) => listen(button, () => tell("column", place)));
  rove(upper); rove(lower);
  const canvas = make("canvas", { "aria-hidden": "true" });
  paint(canvas, number, head);
  at("head").replaceChildren(
    make("p", { class: "role", id: "attending" }, same ? "Tokens, shaded by how much they attend to the chosen one" : "Written, shaded by how much they attend to the chosen one"), make("div", { class: "tokens", role: "group", "aria-labelledby": "attending" }, ...upper),
    make("p", { class: "role", id: "attended" }, same ? "Tokens, shaded by how much the chosen one attends to them" : "Source, shaded by how much the chosen one attends to it"), make("div", { class: "tokens", role: "group", "aria-labelledby": "attended" }, ...lower),
    make("details", {}, make("summary", {}, "The head as a map: rows attend to columns"), make("div", { class: "map" }, canvas)));
}

const line = (tokens) => tokens.map((token) => make("button", { class: "t", type: "button" }, token));

// A page that scrolls under a pointer at rest is not pointed at: the keys decide then.
function listen(button, tell) {
  ["focus", "click"].forEach((name) => button.addEventListener(name, tell));
  button.addEventListener("mousemove", (event) => { if (event.movementX || event.movementY) tell(); });
}

function clear(buttons) {
  buttons.forEach((button) => { button.classList.remove("here"); button.style.removeProperty("--a"); button.querySelector(".pc")?.remove(); });
}

function shade(buttons, weights) {
  buttons.forEach((button, place) => {
    button.style.setProperty("--a", weights[place].toFixed(3));
    if (weights[place] >= 0.1) button.append(make("span", { class: "pc", "aria-hidden": "true" }, Math.round(weights[place] * 100)));
  });
}

function best(start, weights, tokens) {
  const order = weights.map((weight, place) => [weight, place]).filter(([weight]) => weight > 0.005).sort((one, two) => two[0] - one[0]).slice(0, 5);
  return order.length ? `${start} ${order.map(([weight, place]) => `${tokens[place]} (${percent(weight)})`).join(", ")}.` : `${start} nothing much.`;
}

function drawAttention() {
  const kinds = Object.keys(DATA.texts[state.text].attention);
  at("which-text").hidden = DATA.texts.length < 2;
  at("which-kind").hidden = kinds.length < 2;
  options(at("text"), DATA.texts.map((text, number) => [number, `${number + 1}: ${text.texts[0].slice(0, 40)}`]), state.text);
  options(at("kind"), kinds.map((kind) => [kind, KINDS[kind] || `the ${kind} to itself`]), state.kind);
  drawGrid();
}

options(at("method"), DATA.methods.map((method) => [method, NAMES[method]]), state.method);
at("method").addEventListener("change", (event) => { state.method = event.target.value; drawWords(); });
at("text").addEventListener("change", (event) => { state.text = +event.target.value; drawAttention(); });
at("kind").addEventListener("change", (event) => { Object.assign(state, { kind: event.target.value, layer: 0, head: 0 }); drawGrid(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawGrid);
drawWords();
drawAttention();
