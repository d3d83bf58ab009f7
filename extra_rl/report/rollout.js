// One rollout of the explorer: its facts, text, prefix and advantages. explorer.js, which follows in the page, calls
// `rolloutView`. The data contain text of a model, so nodes are filled by textContent, never by innerHTML.
"use strict";
// Small helpers of both files.
const explorerTools = (() => {
  const UNSEEN = /[^\P{Cc}\n]|[\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu; // extra_rl/report/text.py has the same list

  const at = (id) => document.getElementById(id);
  const visible = (text) => text.replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
    node.append(...children.filter((child) => child != null));
    return node;
  };
  const number = (value, digits = 6) =>
    value == null ? "none" : String(Number(value.toFixed(digits))).replace(/^-/, "\u2212");
  const words = (name) => (name ?? "not known yet").replaceAll("_", " ");
  const plural = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
  return { at, visible, make, number, words, plural };
})();

// Returns a function that shows a row and returns its heading. data, byId, groups, children: of explorer.js. isCurrent:
// whether a row is the one that is shown. open: shows the row of an id.
const rolloutView = ({ data, byId, groups, children, isCurrent, open }) => {
  const { at, visible, make, number, words, plural } = explorerTools;
  const LEVELS = [0.1, 0.3, 0.7, 1.2, 2.0]; // nats at which the next colour begins
  const verdict = (row) => make("span", { class: "ex-verdict", "data-verdict": row.verdict }, words(row.verdict));

  const link = (id) => {
    const row = byId.get(id);
    if (!row) return make("span", { class: "ex-id" }, `${visible(id)} (not in this sample)`);
    const value = row.advantages.length ? `, advantage ${number(row.advantages.at(-1).final, 3)}` : "";
    const button = make("button", { type: "button", "data-id": id }, `${visible(id)} `, verdict(row), value);
    if (isCurrent(row)) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => open(id));
    return button;
  };
  const links = (ids) => make("ul", { class: "ex-links" }, ...ids.map((id) => make("li", {}, link(id))));
  const facts = (pairs) =>
    make(
      "dl",
      { class: "ex-facts" },
      ...pairs
        .filter(([, value]) => value != null)
        .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, ...[value].flat())]),
    );
  const level = (nats) => LEVELS.filter((from) => nats >= from).length;
  const range = (i) =>
    i === 0 ? `below ${LEVELS[0]}` : i === LEVELS.length ? `${LEVELS[i - 1]} and above` : `${LEVELS[i - 1]} to ${LEVELS[i]}`;
  const legend = (text) => {
    const button = make("button", { type: "button", id: "ex-numbers", "aria-pressed": "false" }, "Show numbers");
    button.addEventListener("click", () => {
      const on = text.classList.toggle("ex-numbers");
      button.setAttribute("aria-pressed", String(on));
    });
    const keys = [0, ...LEVELS].map((_, i) => make("span", { class: "ex-t", "data-level": i }, range(i)));
    return make("div", { class: "ex-legend" }, "Entropy before the token, nats:", ...keys, button);
  };
  const token = (row, place, position) => {
    const piece = data.pieces[row.tokens[place]];
    const nats = row.entropies.length ? row.entropies[place] / 100 : null;
    // A newline or a part of a character has nothing to colour, so a symbol is shown.
    const shown = piece === "" ? "\u00b7" : visible(piece).replaceAll("\n", "\u21b5\n");
    const given = position < row.prefix_length;
    const entropy = nats == null ? "entropy not known" : `${nats.toFixed(2)} nats`;
    return make(
      "span",
      {
        class: given ? "ex-t ex-given" : "ex-t",
        "data-level": nats == null ? null : level(nats),
        "data-nats": nats == null ? "" : nats.toFixed(2),
        title: `token ${position + 1}: ${entropy}${given ? ", copied from the parent" : ""}`,
      },
      shown,
    );
  };
  const response = (row) => {
    const box = make("div", { class: "ex-text", id: "ex-response", tabindex: "0", role: "group", "aria-label": "Response" });
    const cut = () => make("span", { class: "ex-cut", id: "ex-cut", title: "continued from here" }, "cut");
    row.tokens.forEach((_, place) => {
      const position = place < row.head ? place : place + row.left_out;
      if (place === row.head && row.left_out) {
        const from = row.prefix_length;
        const inside = from >= row.head && from < position && from > 0 ? `; the prefix ends at token ${from}` : "";
        box.append(make("span", { class: "ex-gap" }, `[${plural(row.left_out, "token")} left out${inside}]`));
      }
      if (position === row.prefix_length && position > 0) box.append(cut());
      box.append(token(row, place, position));
    });
    if (!row.tokens.length) box.append(make("span", { class: "ex-gap" }, "[empty]"));
    return box;
  };
  const REASONS = {
    boundary: "the end of a step",
    before_peak: "the last end of a step before the token of highest entropy",
    random: "an end of a step, drawn at random (control)",
    fixed_stride: "a fixed number of tokens, because no step ends there",
    fresh: "an empty prefix: a fresh sample (control)",
  };
  const prefix = (row) => {
    if (row.origin === "fresh") return [];
    const p = row.prefix;
    const why = p && [
      ["Cut at", `${words(p.cut_reason)}: ${REASONS[p.cut_reason] ?? ""}`],
      ["Score", p.score == null ? null : `${number(p.score, 4)} nats, mean over its tokens`],
      ["Smoothed", p.smoothed_score == null ? null
        : `${number(p.smoothed_score, 4)} nats over ${number(p.effective_neighbours, 2)} effective neighbours`],
      ["Rank", `${p.rank + 1} of ${plural(p.candidates, "candidate")}`],
      ["Chosen", `in iteration ${p.found_in}, to be continued in the ${words(p.when)}`],
    ];
    return [
      make("h4", {}, "Prefix"),
      facts([
        ["Kept", row.prefix_length === 0 ? "nothing"
          : `the first ${plural(row.prefix_length, "token")} of ${row.parent == null ? "a worked solution" : "its parent"}`],
        ["Parent", row.parent == null ? "none" : link(row.parent)],
        ...(why ?? [["Chosen", "unknown: choose_prefixes has no row for it"]]),
      ]),
    ];
  };
  const NOT_TRAINED = {
    trained: "trained on",
    no_signal: "not trained: its advantage is 0 (no signal)",
    unrescued: "not trained: no continuation of its group was correct (unrescued)",
    excluded: "not trained: it could not be judged (excluded)",
  };
  const step = (sign, value, name) =>
    make("span", {}, make("i", {}, sign), make("b", {}, value), make("small", {}, name));
  const sum = (given, settings) => {
    const shown = (value) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(6);
    const divided = settings.divide_by_std !== false;
    const counted = given.reward != null && given.mean != null && !["unrescued", "excluded"].includes(given.trained);
    const how = !counted ? "" : `(${number(given.reward)} \u2212 ${number(given.mean)})` +
      (divided ? ` / (${number(given.sd ?? 0)} + ${settings.eps ?? 1e-6})` : "");
    const line = make("div", { class: "ex-sum" },
      step("", given.reward == null ? "none" : number(given.reward), "reward"),
      step("\u2192", shown(given.normalised), how ? `normalised = ${how}` : "normalised"),
      step("+", shown(given.bonus), `bonus, weight ${settings.weight ?? "not known"}`),
      step("=", shown(given.total), given.final === given.total ? "advantage" : "sum"));
    if (given.final !== given.total) {
      line.append(step("\u2192", shown(given.final), "advantage: negative advantages of continuations are set to 0"));
    }
    const place = `Iteration ${given.at}${given.carried ? ", as parent of a joined group" : ""}`;
    const about = `${place}: group ${given.group}, ${words(given.type)}, ${plural(given.members, "counted reward")}; ` +
      `${NOT_TRAINED[given.trained] ?? words(given.trained)}` +
      (given.trained === "trained" && given.loss_start ? `, from token ${given.loss_start + 1} on.` : ".");
    return make("div", { class: "ex-advantage" }, line, make("p", { class: "ex-note" }, visible(about)));
  };
  const KINDS = {
    rescued: "rescued: continued, with a correct continuation",
    regenerated: "continued, without a correct continuation",
    replayed: "replayed: continues a stored trajectory",
  };
  const ENDS = { stop: "ended by a stop token or text", length: "cut off at the token limit" };
  const render = (row) => {
    const settingsAt = (at) => data.settings[`${row.arm} ${at}`] ?? data.settings[row.arm] ?? {};
    const text = response(row);
    const heading = make("h3", { id: "ex-heading", tabindex: "-1" }, visible(row.id));
    const siblings = groups.get(row.group).filter((other) => other !== row).map((other) => other.id);
    const continued = children.get(row.id);
    const back = make("button", { type: "button", class: "ex-back" }, "Back to the list");
    back.addEventListener("click", () => {
      at("ex-count").scrollIntoView();
      at("ex-rows").querySelector("button")?.focus({ preventScroll: true });
    });
    at("ex-detail").replaceChildren(
      ...[
        heading,
        facts([
          ["Verdict", [verdict(row), row.rule == null ? "" : ` by rule \u201c${visible(row.rule)}\u201d`]],
          ["Extracted answer", row.extracted == null ? "none" : make("span", { id: "ex-extracted" }, visible(row.extracted))],
          ["Reference answer", row.gold == null ? null : visible(row.gold)],
          ["Problem", visible(row.problem)],
          ["Origin", `${words(row.origin)}, iteration ${row.iteration}, ${plural(row.length, "token")}, ` +
            (ENDS[row.finish] ?? words(row.finish))],
          ["Group", `${visible(row.group)}, ${words(row.type)}`],
          ["Kind of group", KINDS[row.kind] ?? words(row.kind)],
        ]),
        make("h4", {}, "Prompt"),
        make("div", { class: "ex-text ex-prompt", id: "ex-prompt", tabindex: "0", role: "group", "aria-label": "Prompt" },
          data.problems[row.problem] == null ? "missing in prepare/train.parquet" : visible(data.problems[row.problem])),
        make("h4", {}, "Response"),
        legend(text),
        text,
        row.prefix_length ? make("p", { class: "ex-note" }, "Dotted: copied from the parent. The continuation begins after the mark.") : null,
        data.tokenizer ? null : make("p", { class: "ex-note" }, "warm_start/policy has no tokenizer, so token ids are shown."),
        row.stored_response == null ? null : make("h4", {}, "Response as stored"),
        row.stored_response == null ? null
          : make("div", { class: "ex-text ex-prompt", id: "ex-stored", tabindex: "0", role: "group",
              "aria-label": "Response as stored" }, visible(row.stored_response)),
        ...prefix(row),
        make("h4", {}, "Reward to advantage"),
        ...(row.advantages.length ? row.advantages.map((given) => sum(given, settingsAt(given.at)))
          : [make("p", {}, "The stage advantage has not run yet.")]),
        make("h4", {}, "Novelty"),
        facts([
          ["Novelty", row.novelty == null ? "not known yet" : `${number(row.novelty, 4)} before weight, centring and scaling`],
          ["Nearest", row.nearest == null ? "none: nothing to compare with" : link(row.nearest)],
        ]),
        continued ? make("h4", {}, "Continuations") : null,
        continued ? links(continued.map((child) => child.id)) : null,
        make("h4", {}, `Siblings (${siblings.length})`),
        links(siblings),
        back,
      ].filter((node) => node != null),
    );
    return heading;
  };
  return { render, verdict };
};
