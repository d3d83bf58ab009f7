// The rollout explorer of the report: filters, list and address; rollout.js shows one rollout. The data are in
// #explorer-data (documented in extra_rl/report/explorer.py) and contain text of a model, so nodes are filled by
// textContent, never by innerHTML.
"use strict";
(() => {
  const source = document.getElementById("explorer-data");
  const root = document.getElementById("explorer");
  if (!source || !root) return;
  const data = JSON.parse(source.textContent);
  const PAGE = 20;
  const { at, visible, make, words, plural } = explorerTools;

  // ---- rows: columns to objects
  const columns = Object.fromEntries(
    Object.entries(data.rows).map(([name, column]) => [
      name,
      Array.isArray(column) ? column : column.codes.map((code) => (code == null ? null : column.texts[code])),
    ]),
  );
  const rows = columns.id.map((_, i) => Object.fromEntries(Object.keys(columns).map((name) => [name, columns[name][i]])));
  const byId = new Map(rows.map((row) => [row.id, row]));
  const groups = new Map();
  const children = new Map();
  const note = (map, key, row) => key != null && (map.has(key) ? map.get(key).push(row) : map.set(key, [row]));
  for (const row of rows) {
    const own = row.advantages.find((given) => !given.carried) ?? row.advantages[0];
    row.type = own ? own.type : null;
    note(groups, row.group, row);
    note(children, row.parent, row);
  }
  const textOf = (row) => (row.text ??= row.stored_response ?? row.tokens.map((place) => data.pieces[place]).join(""));
  const searchable = (row) =>
    (row.searchable ??= [row.id, row.problem, data.problems[row.problem], row.extracted, row.gold, row.rule, textOf(row)]
      .filter((text) => text != null)
      .join("\n")
      .toLowerCase());

  // ---- filters
  const FILTERS = [
    ["arm", "Arm", (row) => row.arm],
    ["seed", "Seed", (row) => row.seed],
    ["iteration", "Iteration", (row) => row.iteration],
    ["verdict", "Verdict", (row) => row.verdict],
    ["origin", "Origin", (row) => row.origin],
    ["kind", "Kind of group", (row) => row.kind],
    ["type", "Rewards of the group", (row) => row.type],
  ];
  const controls = new Map();
  let search = null;
  const makeFilters = () => {
    const form = at("ex-filters");
    for (const [key, label, value] of FILTERS) {
      const counts = new Map();
      for (const row of rows) counts.set(value(row), (counts.get(value(row)) ?? 0) + 1);
      const order = (a, b) => (typeof a === "number" ? a - b : String(a) < String(b) ? -1 : 1);
      const select = make("select", { id: `ex-filter-${key}`, name: key }, make("option", { value: "" }, "all"));
      for (const option of [...counts.keys()].sort(order)) {
        const shown = typeof option === "number" || key === "arm" ? String(option) : words(option);
        select.append(make("option", { value: JSON.stringify(option) }, `${shown} (${counts.get(option)})`));
      }
      controls.set(key, [select, value]);
      form.append(make("label", {}, label, select));
    }
    search = make("input", { type: "search", id: "ex-search", name: "search", placeholder: "id, prompt, response" });
    form.append(make("label", {}, "Text", search));
    const clear = make("button", { type: "reset", id: "ex-clear" }, "Clear");
    form.append(clear);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => show(0));
    form.addEventListener("reset", () => setTimeout(() => show(0)));
  };
  const matching = () => {
    const needle = search.value.toLowerCase();
    const wanted = [...controls.values()].filter(([select]) => select.value !== "");
    return rows.filter(
      (row) =>
        wanted.every(([select, value]) => JSON.stringify(value(row)) === select.value) &&
        (!needle || searchable(row).includes(needle)),
    );
  };

  // ---- list
  let page = 0;
  let current = null;
  const isCurrent = (row) => row === current;
  const { render, verdict } = rolloutView({ data, byId, groups, children, isCurrent, open: (id) => open(id) });
  const show = (wanted) => {
    const found = matching();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(0, wanted), pages - 1);
    at("ex-count").textContent = `${found.length.toLocaleString("en")} of ${plural(rows.length, "rollout")}`;
    at("ex-page").textContent = `Page ${page + 1} of ${pages}`;
    at("ex-before").disabled = page === 0;
    at("ex-after").disabled = page === pages - 1;
    at("ex-rows").replaceChildren(
      ...found.slice(page * PAGE, (page + 1) * PAGE).map((row) => {
        const button = make(
          "button",
          { type: "button", class: "ex-row", "data-id": row.id, "aria-current": String(isCurrent(row)) },
          make("span", { class: "ex-id" }, visible(row.id)),
          verdict(row),
          make("span", { class: "ex-snippet" }, visible(textOf(row).slice(0, 120).replaceAll("\n", " "))),
        );
        button.addEventListener("click", () => open(row.id));
        return make("li", {}, button);
      }),
    );
  };

  // ---- opening, and the address #rollout=<id>
  const PREFIX = "#rollout=";
  const open = (id) => {
    const hash = PREFIX + encodeURIComponent(id).replaceAll("%2F", "/");
    if (location.hash === hash) follow();
    else location.hash = hash;
  };
  const follow = () => {
    if (!location.hash.startsWith(PREFIX)) return;
    let id = location.hash.slice(PREFIX.length);
    try {
      id = decodeURIComponent(id);
    } catch {
      // a malformed escape: the raw text is looked up and reported as not found
    }
    const row = byId.get(id);
    if (!row) {
      at("ex-detail").replaceChildren(
        make("p", { role: "alert" }, `${visible(id)} is not in this sample. In a terminal: extra explain ${visible(id)}`));
      return;
    }
    current = row;
    const heading = render(row);
    show(page);
    heading.focus({ preventScroll: true });
    const box = heading.getBoundingClientRect();
    if (box.top < 0 || box.top > innerHeight * 0.7) heading.scrollIntoView({ block: "start" });
  };

  at("ex-sample").textContent = `This is a sample of ${plural(rows.length, "rollout")} in whole groups, over arms, seeds and ` +
    "iterations. For any other rollout, run `extra explain ID` in a terminal.";
  makeFilters();
  at("ex-before").addEventListener("click", () => show(page - 1));
  at("ex-after").addEventListener("click", () => show(page + 1));
  addEventListener("hashchange", follow);
  show(0);
  if (rows.length && !location.hash.startsWith(PREFIX)) {
    const right = (origin) => rows.find((row) => row.origin === origin && row.verdict === "right");
    current = right("regenerated") ?? right("replayed") ?? rows[0];
    render(current);
    show(0);
  }
  follow();
})();
