"use strict";
/* What is known of every cluster at once, and which of them a reader has chosen. */
balmer.catalogue = (() => {
  const NAMES = ["cluster", "size", "conductance", "effect", "p", "targets", "preceding", "sources", "others", "x", "y",
    "neighbourhood", "region", "component", "source", "stability", "detection", "written"];
  const AT = Object.fromEntries(NAMES.map((name, i) => [name, i]));
  const FILTERS = { support: "all", smallest: "", largest: "", conductance: "", stability: "", source: "", layer: "" };
  const state = { query: "", field: "targets", by: AT.size, falling: true, only: null, filters: { ...FILTERS } };
  let rows = null;
  let order = [];
  let level = 0.05;
  let components = null;

  async function load(data) {
    level = data.support.level;
    components = data.components;
    await balmer.text.loadVocabulary(data.directory.vocabulary);
    if (rows === null) {
      rows = await balmer.loadSeries("index", data.directory.index);
      order = [...rows].sort(compare);
    }
    return rows;
  }

  const get = (cluster) => rows?.[cluster] ?? null;
  const supported = (row) => row[AT.p] !== null && row[AT.p] < level && row[AT.effect] > 0;
  const SUPPORT = {
    all: () => true, supported, "not supported": (row) => row[AT.p] !== null && !supported(row), "not tested": (row) => row[AT.p] === null,
  };
  const label = (row) => balmer.text.label({ targets: row[AT.targets], preceding: row[AT.preceding], sources: row[AT.sources], others: row[AT.others], written: row[AT.written] });
  const words = (row) => row[AT.written] ?? balmer.text.words({ targets: row[AT.targets], preceding: row[AT.preceding], sources: row[AT.sources], others: row[AT.others] });
  const componentName = (row) => (row[AT.component] === null ? null : components.names[row[AT.component]]);
  const layerOf = (row) => (row[AT.component] === null ? null : components.layers[row[AT.component]] ?? components.kinds[row[AT.component]]);

  /* Missing values last, whichever way; equal values by cluster. */
  function compare(a, b) {
    const [x, y] = [a[state.by], b[state.by]];
    if (x === null || y === null) return (x === null) - (y === null) || a[0] - b[0];
    return (state.falling ? y - x : x - y) || a[0] - b[0];
  }

  function passes() {
    const { support, smallest, largest, conductance, stability, source, layer } = state.filters;
    const number = (text) => (text === "" ? null : Number(text));
    const [low, high, most, least] = [smallest, largest, conductance, stability].map(number);
    return (row) => SUPPORT[support](row) && (low === null || row[AT.size] >= low) && (high === null || row[AT.size] <= high)
      && (most === null || row[AT.conductance] <= most) && (least === null || (row[AT.stability] !== null && row[AT.stability] >= least))
      && (source === "" || row[AT.source] === source) && (layer === "" || String(layerOf(row)) === layer);
  }

  /* Keep what the filters and the search leave, in order. `found`: the clusters the search gave, or null for all. */
  function arrange(found) {
    const wanted = passes();
    order = rows.filter((row) => wanted(row) && (found === null || found.has(row[0])) && (state.only === null || state.only.has(row[0]))).sort(compare);
    return order;
  }

  /* The most frequent values of a column, with their counts. */
  function common(value, most) {
    const counts = new Map();
    for (const row of rows) { const own = value(row); if (own !== null) counts.set(own, (counts.get(own) ?? 0) + 1); }
    return [...counts].sort((a, b) => b[1] - a[1] || String(a[0]).localeCompare(String(b[0]))).slice(0, most);
  }

  /* The clusters before and after one, in the order of the list. */
  function around(cluster) {
    const known = order.some((row) => row[0] === cluster) ? order : rows;
    const at = known.findIndex((row) => row[0] === cluster);
    return { before: known[at - 1]?.[0] ?? null, after: known[at + 1]?.[0] ?? null, at: at + 1, of: known.length };
  }

  return { AT, FILTERS, SUPPORT, state, load, get, all: () => rows, ordered: () => order, supported, label, words, componentName, layerOf, arrange, common, around };
})();
