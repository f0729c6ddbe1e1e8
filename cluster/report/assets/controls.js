"use strict";
/* The run beside its controls: a table, and what follows from each in words. */
balmer.controls = (() => {
  const { make, count, fixed, percent, short } = balmer;
  const AS_WELL = "as well";
  const COLUMNS = [
    ["Clusters", (row) => count(row.clusters)],
    ["Median size", (row) => count(row.median_size)],
    ["Largest", (row) => count(row.largest_size)],
    ["Tokens in them", (row) => percent(row.clustered_share)],
    ["Overlap", (row) => (row.verdict === null ? "" : fixed(row.overlap, 2))],
    ["Told apart", (row) => fixed(row.told_apart, 2)],
    ["Supported", (row) => `${count(row.supported)} of ${count(row.tested)}`],
    ["p", (row) => (row.p === null ? "" : short(row.p))],
  ];
  const HELP = "The same pipeline once more with one thing taken out of it. Overlap: mean Jaccard index of the run's clusters with the control's best matches. Told apart: across independent draws, in other documents. Supported: by held-out ground truth, of the clusters that could be tested. p: that the run's clusters are supported no more often than the control's (Fisher).";

  const title = (row) => (row.verdict === null ? "This run" : row.name);

  function line(row) {
    return make("tr", { class: row.verdict === AS_WELL ? "as-well" : null },
      make("th", { scope: "row" }, title(row)), ...COLUMNS.map(([, spell]) => make("td", { class: "n" }, spell(row))));
  }

  function sentence(row) {
    const mark = row.verdict === AS_WELL ? make("span", { class: "sign", "aria-hidden": "true" }, "▲") : null;
    return [make("dt", {}, row.name), make("dd", { class: row.verdict === AS_WELL ? "as-well" : null }, mark, `Without ${row.without}. ${row.sentence.replace(/e-(?=\d)/g, "e−")}`)];
  }

  function save(rows) {
    const names = Object.keys(rows[0]);
    balmer.save.csv("controls.csv", Object.fromEntries(names.map((name) => [name, rows.map((row) => row[name])])));
  }

  function section(rows) {
    const heading = make("h2", { id: "controls" }, "Controls");
    const place = make("section", { class: "beside", "aria-labelledby": "controls" });
    if (rows === null) {
      place.append(heading, make("p", { class: "soft" }, "None beside this run. ", make("code", {}, "balmer run RUN --control permuted"), " makes one, and shows here what the pipeline finds without the truth."));
      return place;
    }
    const button = make("button", { type: "button", class: "quiet", "aria-label": "Save the controls as CSV", onclick: () => save(rows) }, "CSV");
    place.append(make("div", { class: "figure-head" }, heading, button),
      make("div", { class: "scrolled", tabindex: "0", role: "region", "aria-labelledby": "controls" },
        make("table", { class: "plain" },
          make("thead", {}, make("tr", {}, make("td", {}), ...COLUMNS.map(([name]) => make("th", { scope: "col", class: "n" }, name)))),
          make("tbody", {}, ...rows.map(line)))),
      make("p", { class: "soft help" }, HELP),
      make("dl", { class: "findings" }, ...rows.filter((row) => row.sentence !== null).flatMap(sentence)));
    return place;
  }

  return { section };
})();
