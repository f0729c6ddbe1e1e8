"use strict";
/* The list of clusters: sorted, filtered, searched. */
balmer.list = (() => {
  const { make, count, fixed, catalogue } = balmer;
  const { AT, state } = catalogue;
  const place = { scroll: 0, focus: 0 };
  const FIELDS = { targets: "predicted token", preceding: "preceding token", contexts: "contexts, by expression" };
  let latest = 0;
  let current = null; /* the table on the page: clearing the filters makes a new one */

  const columns = (data) => [
    { name: "Cluster", by: AT.cluster, falling: false, class: "n id" },
    { name: "Tokens it gathers", by: null, class: "what" },
    { name: "Size", by: AT.size, falling: true, class: "n size" },
    { name: "Conductance", by: AT.conductance, falling: false, class: "n cond" },
    { name: "Support", by: AT.effect, falling: true, class: "n supp", title: "Effect in held-out ground truth" },
    { name: "Again", by: AT.stability, falling: true, class: "n again", title: data.stability ? `How far it is found again (Jaccard) with ${data.stability}` : "Whether it is found again was not tried in this run" },
    { name: "Label", by: AT.detection, falling: true, class: "n detect", title: "How well the label tells the cluster's tokens from others: 0.5 says nothing" },
    { name: "Component", by: AT.component, falling: false, class: "comp", title: "The component whose mean susceptibility is largest" },
  ];

  function supportMark(row) {
    if (row[AT.p] === null) return make("span", { class: "soft", title: "could not be tested on held-out ground truth" }, "–");
    const words = catalogue.supported(row) ? "supported" : "not supported";
    return make("span", { class: catalogue.supported(row) ? "yes" : "no", title: `${words}, corrected p ${row[AT.p]}` },
      make("span", { class: "sign", role: "img", "aria-label": words }, catalogue.supported(row) ? "●" : "○"), fixed(row[AT.effect], 2));
  }

  function bar(share) {
    const inner = make("i");
    inner.style.setProperty("width", `${Math.max(2, 100 * share)}%`);
    return make("span", { class: "bar-cell", "aria-hidden": "true" }, inner);
  }

  /* Clusters that what is typed asks for, or null for all; undefined where a later question overtook this one. */
  async function asked(data, say) {
    const mine = ++latest;
    const query = state.query;
    if (query === "") return null;
    const number = /^#(\d+)$/.exec(query.trim());
    if (number) return new Set([Number(number[1])]);
    if (state.field !== "contexts") {
      const found = new Set((await balmer.search.clustersOf(state.field, data.directory[state.field], balmer.search.tokens(query))).keys());
      return mine === latest ? found : undefined;
    }
    let expression;
    try { expression = new RegExp(query, "u"); } catch (error) { say(`Not a regular expression: ${error.message}`); return undefined; }
    const found = await balmer.search.contexts(data.directory.digest, expression, (done, of, so) => {
      if (mine === latest) say(`searching… ${Math.round((100 * done) / of)}%, ${count(so.size)} found`);
      return mine === latest;
    });
    return mine === latest ? found ?? undefined : undefined;
  }

  function choice(name, words, options, value, change) {
    const select = make("select", { "aria-label": words, onchange: (event) => change(event.target.value) },
      ...options.map(([option, text]) => make("option", { value: option }, text)));
    select.value = value;
    select.id = `filter-${name}`;
    return select;
  }

  function number(name, words, change) {
    const field = make("input", { type: "number", min: 0, step: "any", class: "number", id: `filter-${name}`, placeholder: words, "aria-label": words, oninput: (event) => change(event.target.value) });
    field.value = state.filters[name];
    return field;
  }

  function filters(data, update) {
    const set = (name) => (value) => { state.filters[name] = value; update(); };
    const layers = catalogue.common(catalogue.layerOf, 400).map(([layer]) => layer).sort((a, b) => (typeof a === "number") - (typeof b === "number") || (a > b ? 1 : -1));
    const sources = catalogue.common((row) => row[AT.source], 60);
    /* Folded away where the screen is narrow, unless one is in use. */
    const open = matchMedia("(min-width: 641px)").matches || Object.entries(catalogue.FILTERS).some(([name, unset]) => state.filters[name] !== unset);
    return make("details", { class: "filter-fold", open }, make("summary", {}, "Filters"), make("div", { class: "controls filters" },
      choice("support", "Support", Object.keys(catalogue.SUPPORT).map((name) => [name, name === "all" ? "any support" : name]), state.filters.support, set("support")),
      number("smallest", "size from", set("smallest")), number("largest", "size to", set("largest")), number("conductance", "conductance to", set("conductance")),
      data.stability ? number("stability", "stability from", set("stability")) : null,
      layers.length ? choice("layer", "Dominant layer", [["", "any layer"], ...layers.map((layer) => [String(layer), typeof layer === "number" ? `layer ${layer}` : layer])], state.filters.layer, set("layer")) : null,
      choice("source", "Leading source", [["", "any source"], ...sources.map(([name, own]) => [name, `${name.slice(0, 48)} (${count(own)})`])], state.filters.source, set("source"))));
  }

  function controls(data, update) {
    const search = make("input", { type: "search", id: "filter", "aria-label": "Search clusters", spellcheck: "false", autocomplete: "off",
      oninput: (event) => { state.query = event.target.value; update(state.field === "contexts" ? 350 : 60); } });
    const hint = () => { search.placeholder = state.field === "contexts" ? "self\\.\\w+ = None" : "token text, or #12"; };
    search.value = state.query;
    hint();
    const field = choice("field", "Where to search", Object.entries(FIELDS), state.field, (value) => { state.field = value; hint(); update(); });
    const chosen = state.only === null ? null : make("button", { type: "button", class: "quiet", onclick: (event) => { state.only = null; event.target.remove(); update(); } }, `${count(state.only.size)} chosen on the map ×`);
    return make("div", { class: "controls" }, search, field, chosen,
      make("button", { type: "button", class: "quiet", onclick: () => { Object.assign(state, { query: "", only: null, filters: { ...catalogue.FILTERS } }); show.again(); } }, "Clear"),
      make("button", { type: "button", class: "quiet", onclick: saveList, "aria-label": "Save the list as CSV" }, "CSV"),
      make("output", { "aria-live": "polite", class: "soft", id: "matches" }));
  }

  function saveList() {
    const rows = catalogue.ordered();
    balmer.save.csv("clusters.csv", {
      cluster: rows.map((row) => row[0]), label: rows.map(catalogue.words), size: rows.map((row) => row[AT.size]), conductance: rows.map((row) => row[AT.conductance]),
      effect: rows.map((row) => row[AT.effect]), p_corrected: rows.map((row) => row[AT.p]), stability: rows.map((row) => row[AT.stability]), detection: rows.map((row) => row[AT.detection]),
      component: rows.map(catalogue.componentName), source: rows.map((row) => row[AT.source]), x: rows.map((row) => row[AT.x]), y: rows.map((row) => row[AT.y]),
    });
  }

  function cells(row, { smallest, largest }) {
    return [String(row[0]), catalogue.label(row), [bar(Math.log(row[AT.size] / smallest) / Math.log(Math.max(2, largest / smallest))), count(row[AT.size])],
      fixed(row[AT.conductance]), supportMark(row), row[AT.stability] === null ? "–" : fixed(row[AT.stability], 2), row[AT.detection] === null ? "–" : fixed(row[AT.detection], 2), catalogue.componentName(row) ?? "–"];
  }

  async function show(main, data) {
    const rows = await catalogue.load(data);
    const range = rows.reduce(({ smallest, largest }, row) => ({ smallest: Math.min(smallest, row[AT.size]), largest: Math.max(largest, row[AT.size]) }), { smallest: Infinity, largest: 0 });
    const say = (text) => { const place = main.querySelector("#matches"); if (place) place.textContent = text; };
    let found = null;
    let timer = 0;
    const table = balmer.rows.table({
      label: "Clusters", columns: columns(data), href: (row) => `#cluster-${row[0]}`, line: (row) => cells(row, range),
      state: Object.defineProperties(place, { by: { get: () => state.by, set: (by) => { state.by = by; }, configurable: true }, falling: { get: () => state.falling, set: (falling) => { state.falling = falling; }, configurable: true } }),
      onSort: () => table.show(catalogue.arrange(found)),
    });

    async function refresh(keep) {
      const answer = await asked(data, say);
      if (answer === undefined) return;
      found = answer;
      const order = catalogue.arrange(found);
      say(order.length === rows.length ? `${count(rows.length)} clusters` : `${count(order.length)} of ${count(rows.length)} clusters`);
      table.show(order, { keep });
    }

    const update = (delay = 0) => { clearTimeout(timer); timer = setTimeout(() => refresh(false), delay); };
    current = table;
    show.again = () => show(main, data);
    main.replaceChildren(
      make("h1", {}, "Clusters"), controls(data, update), filters(data, update),
      make("p", { class: "soft hint" }, `A leading space counts; \\n and \\t stand for line break and tab; capitals are minded when typed. Expressions read ${count(data.digest)} contexts of every cluster.`),
      table.element);
    await refresh(true);
    return { step: (by) => current.step(by) };
  }

  return { show };
})();
