"use strict";
/* The list of clusters: sorted, filtered, and drawn only where it is looked at. */
balmer.list = (() => {
  const { make, count, fixed } = balmer;
  const [CLUSTER, SIZE, CONDUCTANCE, EFFECT, P, TARGETS, PRECEDING, SOURCES, OTHERS, FIND_TARGETS, FIND_PRECEDING] = Array(11).keys();
  const COLUMNS = [
    { name: "Cluster", by: CLUSTER, falling: false, class: "n id" },
    { name: "Tokens it gathers", by: null, class: "what" },
    { name: "Size", by: SIZE, falling: true, class: "n size" },
    { name: "Conductance", by: CONDUCTANCE, falling: false, class: "n cond" },
    { name: "Support", by: EFFECT, falling: true, class: "n supp" },
  ];
  const state = { query: "", field: FIND_TARGETS, support: "all", by: SIZE, falling: true, scroll: 0, focus: 0 };
  let rows = null;
  let order = [];
  let level = 0.05;

  async function loadRows(data) {
    level = data.support.level;
    rows ??= await balmer.loadSeries("index", data.directory.index);
    if (order.length === 0) arrange();
    return rows;
  }

  const supported = (row) => row[P] !== null && row[P] < level && row[EFFECT] > 0;
  const KINDS = {
    all: () => true, supported, "not supported": (row) => row[P] !== null && !supported(row), "not tested": (row) => row[P] === null,
  };

  /* What is typed: \n, \t and the signs for white space mean white space; capitals make the search mind them. */
  function pattern(query) {
    const text = query.replaceAll("\\n", "\n").replaceAll("\\t", "\t").replaceAll("⏎", "\n").replaceAll("⇥", "\t").replaceAll("·", " ");
    const minding = text !== text.toLowerCase();
    return (candidate) => (minding ? candidate : candidate.toLowerCase()).includes(text);
  }

  function matching(query) {
    if (query === "") return () => true;
    const number = /^#(\d+)$/.exec(query.trim());
    if (number) return (row) => row[CLUSTER] === Number(number[1]);
    const matches = pattern(query);
    const known = new Map();
    const hit = (token) => {
      if (!known.has(token)) known.set(token, matches(balmer.text.of(token)));
      return known.get(token);
    };
    return (row) => row[state.field].some(hit);
  }

  /* Missing values last, whichever way; equal values by cluster. */
  function compare(a, b) {
    const [x, y] = [a[state.by], b[state.by]];
    if (x === null || y === null) return (x === null) - (y === null) || a[CLUSTER] - b[CLUSTER];
    return (state.falling ? y - x : x - y) || a[CLUSTER] - b[CLUSTER];
  }

  function arrange() {
    const wanted = matching(state.query);
    order = rows.filter((row) => KINDS[state.support](row) && wanted(row)).sort(compare);
  }

  function supportMark(row) {
    if (row[P] === null) return make("span", { class: "soft", title: "could not be tested on held-out ground truth" }, "–");
    const words = supported(row) ? "supported" : "not supported";
    return make("span", { class: supported(row) ? "yes" : "no", title: `${words}, corrected p ${row[P]}` },
      make("span", { class: "sign", role: "img", "aria-label": words }, supported(row) ? "●" : "○"), fixed(row[EFFECT], 2));
  }

  function bar(share) {
    const inner = make("i");
    inner.style.setProperty("width", `${Math.max(2, 100 * share)}%`);
    return make("span", { class: "bar-cell", "aria-hidden": "true" }, inner);
  }

  function line(row, index, { smallest, largest }) {
    const cell = (column, ...children) => make("span", { role: "cell", class: COLUMNS[column].class }, ...children);
    const link = make("a", { href: `#cluster-${row[CLUSTER]}`, class: "row", role: "row", "aria-rowindex": index + 2, "data-index": index },
      cell(0, String(row[CLUSTER])),
      cell(1, balmer.text.label({ targets: row[TARGETS], preceding: row[PRECEDING], sources: row[SOURCES], others: row[OTHERS] })),
      cell(2, bar(Math.log(row[SIZE] / smallest) / Math.log(Math.max(2, largest / smallest))), count(row[SIZE])),
      cell(3, fixed(row[CONDUCTANCE])),
      cell(4, supportMark(row)));
    link.style.setProperty("top", `calc(${index} * var(--row))`);
    return link;
  }

  function header(update) {
    return make("div", { class: "row head", role: "row", "aria-rowindex": 1 }, ...COLUMNS.map(({ name, by, falling, class: kind }) => {
      if (by === null) return make("span", { role: "columnheader", class: kind }, name);
      const current = state.by === by;
      const turn = () => {
        if (state.by === by) state.falling = !state.falling;
        else Object.assign(state, { by, falling });
        update({ sorted: true });
      };
      return make("span", { role: "columnheader", class: kind, "aria-sort": current ? (state.falling ? "descending" : "ascending") : "none" },
        make("button", { type: "button", class: "sort", onclick: turn }, make("span", { class: "arrow", "aria-hidden": "true" }, current ? (state.falling ? "↓" : "↑") : ""), name));
    }));
  }

  function controls(update) {
    const search = make("input", { type: "search", id: "filter", placeholder: "token text, or #12", "aria-label": "Filter clusters by token text", spellcheck: "false", autocomplete: "off",
      oninput: (event) => { state.query = event.target.value; update({}); } });
    search.value = state.query;
    const field = make("select", { "aria-label": "Where to search", onchange: (event) => { state.field = Number(event.target.value); update({}); } },
      make("option", { value: FIND_TARGETS }, "predicted token"), make("option", { value: FIND_PRECEDING }, "preceding token"));
    field.value = String(state.field);
    const kind = make("select", { "aria-label": "Support", onchange: (event) => { state.support = event.target.value; update({}); } },
      ...Object.keys(KINDS).map((name) => make("option", { value: name }, name === "all" ? "any support" : name)));
    kind.value = state.support;
    return make("div", { class: "controls" }, search, field, kind, make("output", { "aria-live": "polite", class: "soft", id: "matches" }));
  }

  async function show(main, data) {
    await balmer.text.loadVocabulary(data.directory.vocabulary);
    await loadRows(data);
    const range = rows.reduce(({ smallest, largest }, row) => ({ smallest: Math.min(smallest, row[SIZE]), largest: Math.max(largest, row[SIZE]) }), { smallest: Infinity, largest: 0 });
    const space = make("div", { class: "space", role: "rowgroup" });
    const top = make("div", { role: "rowgroup", class: "head-place" });
    const view = make("div", { class: "rows" }, top, space);
    const table = make("div", { class: "grid", role: "table", "aria-label": "Clusters" }, view);

    function paint() {
      const height = parseFloat(getComputedStyle(view).getPropertyValue("--row"));
      const first = Math.max(0, Math.floor(view.scrollTop / height) - 8);
      const last = Math.min(order.length, Math.ceil((view.scrollTop + view.clientHeight) / height) + 8);
      const active = document.activeElement?.dataset?.index;
      space.replaceChildren(...order.slice(first, last).map((row, i) => line(row, first + i, range)));
      if (active !== undefined) space.querySelector(`[data-index="${active}"]`)?.focus({ preventScroll: true });
    }

    function update({ sorted = false, keep = false }) {
      arrange();
      top.replaceChildren(header(update));
      if (sorted) top.querySelector("[aria-sort$=ending] button")?.focus();
      table.setAttribute("aria-rowcount", order.length + 1);
      main.querySelector("#matches").textContent = order.length === rows.length ? `${count(rows.length)} clusters` : `${count(order.length)} of ${count(rows.length)} clusters`;
      space.style.setProperty("height", `calc(${order.length} * var(--row))`);
      if (!keep) view.scrollTop = 0;
      paint();
      if (order.length === 0) space.append(make("p", { class: "soft none" }, "No cluster matches."));
    }

    main.replaceChildren(
      make("h1", {}, "Clusters"), controls(update),
      make("p", { class: "soft hint" }, `The filter reads the ${count(data.searchable)} most frequent predicted tokens of every cluster. A leading space counts; \\n and \\t stand for line break and tab; capitals are minded when typed.`),
      table);
    update({ keep: true });
    view.scrollTop = state.scroll;
    paint();
    let waiting = false;
    view.addEventListener("scroll", () => {
      state.scroll = view.scrollTop;
      if (!waiting) requestAnimationFrame(() => { waiting = false; paint(); });
      waiting = true;
    });
    new ResizeObserver(paint).observe(view);
    view.addEventListener("focusin", (event) => { const index = event.target.closest("[data-index]")?.dataset.index; if (index !== undefined) state.focus = Number(index); });
    return { step: (by) => step(view, space, by) };
  }

  /* Move the keyboard's place by some rows, scrolling as needed. */
  function step(view, space, by) {
    const inside = space.contains(document.activeElement);
    const index = Math.min(order.length - 1, Math.max(0, inside ? state.focus + by : state.focus));
    if (order.length === 0) return;
    const height = parseFloat(getComputedStyle(view).getPropertyValue("--row"));
    if (index * height < view.scrollTop) view.scrollTop = index * height;
    if ((index + 2) * height > view.scrollTop + view.clientHeight) view.scrollTop = (index + 2) * height - view.clientHeight;
    state.focus = index;
    requestAnimationFrame(() => requestAnimationFrame(() => space.querySelector(`[data-index="${index}"]`)?.focus({ preventScroll: true })));
  }

  /* The clusters before and after one, in the order of the list. */
  async function around(data, cluster) {
    await loadRows(data);
    const known = order.some((row) => row[CLUSTER] === cluster) ? order : rows;
    const at = known.findIndex((row) => row[CLUSTER] === cluster);
    return { before: known[at - 1]?.[CLUSTER] ?? null, after: known[at + 1]?.[CLUSTER] ?? null, at: at + 1, of: known.length };
  }

  return { show, around };
})();
