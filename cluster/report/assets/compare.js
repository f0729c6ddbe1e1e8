"use strict";
/* Two runs over the same contexts side by side: clusters matched by the members they have in common. */
balmer.compare = (() => {
  const { make, count, fixed, percent, catalogue } = balmer;
  const state = { by: 3, falling: true, scroll: 0, focus: 0, kind: "all" };
  const [MINE, OTHER, COMMON, JACCARD, MUTUAL] = [0, 1, 2, 3, 4];
  const COLUMNS = [
    { name: "This run", by: MINE, falling: false, class: "what left-side" },
    { name: "Size", by: 5, falling: true, class: "n" },
    { name: "In common", by: COMMON, falling: true, class: "n" },
    { name: "Jaccard", by: JACCARD, falling: true, class: "n" },
    { name: "Size", by: 6, falling: true, class: "n" },
    { name: "The other", by: OTHER, falling: false, class: "what" },
  ];
  const KINDS = { all: () => true, "best for both": (row) => row[MUTUAL] === true, "one way only": (row) => row[OTHER] !== null && !row[MUTUAL], "nothing in common": (row) => row[OTHER] === null };

  /* Every cluster of this run with its best match: missing ones have no other. */
  async function pairs(data) {
    const [rows, found, others] = await Promise.all([catalogue.load(data), balmer.loadSeries("pairs", data.directory.pairs), balmer.loadSeries("others", data.directory.others)]);
    const matched = new Map(found.map((row) => [row[MINE], row]));
    const sizes = new Map(others.map((row) => [row[0], row]));
    return {
      others: sizes,
      list: rows.map((row) => { const own = matched.get(row[0]) ?? [row[0], null, 0, 0, false]; return [...own, row[catalogue.AT.size], own[OTHER] === null ? null : sizes.get(own[OTHER])[1]]; }),
    };
  }

  const theirs = ([cluster, , , targets, preceding, sources, others]) => [make("span", { class: "soft id" }, `${cluster} `), balmer.text.label({ targets, preceding, sources, others })];

  function order(list) {
    return list.filter(KINDS[state.kind]).sort((a, b) => {
      const [x, y] = [a[state.by], b[state.by]];
      if (x === null || y === null) return (x === null) - (y === null) || a[0] - b[0];
      return (state.falling ? y - x : x - y) || a[0] - b[0];
    });
  }

  async function show(main, data) {
    if (!data.compared) {
      main.replaceChildren(make("h1", {}, "Compare"), make("p", {}, "No second run was named. ", make("code", {}, "balmer report RUN --compare OTHER"), " puts another run over the same contexts beside this one: a control, or another checkpoint."));
      return {};
    }
    const other = data.compared;
    const { list, others } = await pairs(data);
    const table = balmer.rows.table({
      label: "Matched clusters", columns: COLUMNS, state, href: (row) => `#cluster-${row[0]}`,
      line: (row) => [[make("span", { class: "soft id" }, `${row[0]} `), catalogue.label(catalogue.get(row[0]))], count(row[5]), row[OTHER] === null ? "–" : count(row[COMMON]), row[OTHER] === null ? "–" : fixed(row[JACCARD], 2), row[6] === null ? "–" : count(row[6]), row[OTHER] === null ? [make("span", { class: "soft" }, "nothing in common")] : theirs(others.get(row[OTHER]))],
      onSort: () => table.show(order(list)),
    });
    const kind = make("select", { "aria-label": "Which matches", onchange: (event) => { state.kind = event.target.value; table.show(order(list)); } }, ...Object.keys(KINDS).map((name) => make("option", { value: name }, name === "all" ? "all clusters" : name)));
    kind.value = state.kind;
    const save = () => { const rows = order(list); const column = (at) => rows.map((row) => row[at]); balmer.save.csv("compared.csv", { cluster: column(MINE), size: column(5), other: column(OTHER), other_size: column(6), common: column(COMMON), jaccard: column(JACCARD), best_for_both: rows.map((row) => String(row[MUTUAL])) }); };
    const facts = [
      ["Clusters", count(data.clusters.count), count(other.count)],
      ["Tokens clustered", percent(data.clusters.clustered_share), percent(other.clustered_share)],
    ];
    main.replaceChildren(
      make("h1", {}, "Two runs"),
      make("table", { class: "plain two-runs" }, make("thead", {}, make("tr", {}, make("th", {}, ""), make("th", { class: "n", scope: "col" }, data.run.model ?? "this run"), make("th", { class: "n", scope: "col" }, `${other.name}${other.model ? ` (${other.model})` : ""}`))),
        make("tbody", {}, ...facts.map(([name, mine, yours]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "n" }, mine), make("td", { class: "n" }, yours))))),
      make("p", {}, `${count(other.mutual)} pairs are each other's best match; ${percent(other.both_clustered)} of tokens are in a cluster of both. Mean Jaccard of the best matches ${fixed(other.mean_jaccard, 2)}.`),
      make("div", { class: "controls" }, kind, make("button", { type: "button", class: "quiet", onclick: save, "aria-label": "Save the matches as CSV" }, "CSV")), table.element);
    main.firstChild.parentElement.classList.add("comparison");
    table.show(order(list), { keep: true });
    return { step: table.step };
  }

  return { show };
})();
