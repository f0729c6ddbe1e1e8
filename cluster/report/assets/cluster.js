"use strict";
/* One cluster: its tokens in context, what they share, how the components respond, how far to believe it. */
balmer.cluster = (() => {
  // What the search was run on again, where the run's name for it is short.
  const WAYS = { prediction: "held-out predictions alone", "ground truth": "held-out ground truth alone", "first half of the draws": "ground truth of the first half of the draws", "second half of the draws": "ground truth of the second half" };
  // How a Jaccard index is called, from the highest down.
  const AGAIN = [[0.75, "found again"], [0.5, "found again for the most part"], [0.25, "found again in part"], [0, "hardly found again"]];
  const { make, count, fixed, percent, signed, catalogue } = balmer;

  function supportSentence(support, level) {
    if (!support) return "could not be tested on held-out ground truth";
    const words = support.supported ? "supported" : "not supported";
    return `${words} by held-out ground truth (effect ${fixed(support.effect, 2)}, corrected p ${support.p_corrected}, ${count(support.members)} members tested, level ${level})`;
  }

  function shared(title, item, table, size, cell) {
    const rows = table.items.map((entry, i) => {
      const bar = make("i");
      bar.style.setProperty("width", `${(100 * table.counts[i]) / size}%`);
      return make("tr", {}, make("td", { class: "item" }, cell(entry)), make("td", { class: "n" }, count(table.counts[i])),
        make("td", { class: "share" }, make("span", { class: "bar-cell" }, bar)), make("td", { class: "n" }, percent(table.counts[i] / size, 0)), make("td", { class: "n" }, signed(table.log_odds[i], 1)));
    });
    const left = table.distinct - table.items.length;
    return make("section", { class: "shared" },
      make("table", { class: "plain" },
        make("caption", {}, title, make("span", { class: "soft" }, table.distinct ? ` ${count(table.distinct)} distinct` : "")),
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, item), make("th", { scope: "col", class: "n" }, "count"), make("th", { scope: "col", colspan: 2, class: "n" }, "share"),
          make("th", { scope: "col", class: "n", title: "Log-odds against the rest of the clustered corpus, half a count added to each cell; +2.3 is ten times the odds" }, "log-odds"))),
        make("tbody", {}, ...rows)),
      left > 0 ? make("p", { class: "soft more" }, `and ${count(left)} more`) : null);
  }

  /* Positions as a table of the same form: bins of the context in place of items. */
  function positions({ first, last, counts, log_odds: odds }, size) {
    return shared("Positions", "in context", { items: first.map((_, i) => i), counts, log_odds: odds, distinct: 0 }, size, (i) => (first[i] === last[i] ? String(first[i]) : `${first[i]}–${last[i]}`));
  }

  function expandAll() {
    const all = [...document.querySelectorAll("details.example")];
    const open = all.some((one) => !one.open);
    for (const one of all) one.open = open;
  }

  async function copyLink(button) {
    const text = location.href;
    const field = make("input", { value: text, class: "copying", "aria-hidden": "true" });
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    button.textContent = done ? "Copied" : "Copy it from the address bar";
    setTimeout(() => { button.textContent = "Copy link"; }, 1600);
  }

  function pager({ before, after, at, of }) {
    const link = (cluster, words, relation) => (cluster === null ? make("span", { class: "soft" }, words) : make("a", { href: `#cluster-${cluster}`, rel: relation }, words));
    return make("nav", { class: "pager", "aria-label": "Neighbouring clusters in the list" }, link(before, "← previous", "prev"), make("span", { class: "soft" }, `${count(at)} of ${count(of)}`), link(after, "next →", "next"));
  }

  /* Where the label comes from, and how well it tells members that it was not written from. */
  function provenance({ label, written }) {
    const score = (value) => (value === null ? "not tried" : `tells ${percent(value, 0)} of a trial right`);
    const own = `label from the cluster's own statistics, ${score(label.detection)}`;
    const title = "Detection on members of documents it was not written from: half members, a quarter other uses of the same tokens, a quarter any tokens; 50% says nothing";
    return written ? [make("span", { class: "by" }, `label by ${written.by}, ${score(written.detection)}; `), make("span", { title }, own)] : [make("span", { title }, own)];
  }

  /* In words for the first way, in numbers for all. */
  function stability(ways) {
    const [[first, highest]] = ways;
    const words = AGAIN.find(([least]) => highest >= least)[1];
    const named = (way) => WAYS[way] ?? way.replaceAll("_", " ");
    return make("div", { class: "ways" }, make("span", {}, `${words} when the search is run again with ${named(first)}. In common with the cluster most like it (Jaccard; 1 is the same tokens):`),
      make("ul", {}, ...ways.map(([way, value]) => make("li", {}, `${named(way)} `, make("b", {}, fixed(value, 2))))));
  }

  function lead(page, data) {
    const splits = Object.entries(page.splits).map(([split, number]) => `${count(number)} ${split}`).join(", ");
    const threshold = data.clusters.max_conductance === null ? balmer.MISSING : data.clusters.max_conductance;
    const within = page.cohesion === null || page.cohesion === undefined ? "" : `; no cut inside it below ${fixed(page.cohesion)}`;
    const facts = [
      ["Size", `${count(page.size)} tokens (${splits})`],
      ["Conductance", `${fixed(page.conductance)}, threshold ${threshold}${within}`],
      ["Support", supportSentence(page.support, data.support.level)],
      ...(page.stability ? [["Stability", stability(page.stability)]] : []),
      ["Positions", `median ${page.positions[1]} of ${data.run.context_tokens - 1}, most between ${page.positions[0]} and ${page.positions[2]}`],
    ];
    return make("dl", { class: "lead" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]), make("dt", {}, "Label"), make("dd", {}, ...provenance(page)));
  }

  function nearest(page) {
    const rows = page.nearest.map(([other, distance]) => make("tr", {},
      make("td", {}, make("a", { href: `#cluster-${other}` }, String(other))), make("td", { class: "wide" }, catalogue.label(catalogue.get(other))), make("td", { class: "n" }, fixed(distance, 2))));
    if (!rows.length) return null;
    return make("section", { class: "shared near-clusters" }, make("table", { class: "plain" }, make("caption", {}, "Nearest clusters"),
      make("thead", {}, make("tr", {}, ...["", "tokens it gathers", "distance"].map((name, i) => make("th", { scope: "col", class: i > 1 ? "n" : null }, name)))), make("tbody", {}, ...rows)));
  }

  async function read(data, number) {
    const first = data.directory.clusters;
    const chunk = first.length ? await balmer.load(balmer.chunkOf("clusters", first, number)) : [];
    return chunk.find((candidate) => candidate.cluster === number) ?? null;
  }

  function tools(page, data) {
    const copy = make("button", { type: "button", class: "quiet" }, "Copy link");
    copy.addEventListener("click", () => copyLink(copy));
    return make("p", { class: "key-line soft" }, make("button", { type: "button", class: "quiet", onclick: expandAll }, "Expand all"), copy,
      make("a", { class: "quiet-link", href: `#map-${page.cluster}` }, "On the map"),
      make("button", { type: "button", class: "quiet", onclick: () => balmer.members.saveCsv(data, page.cluster), "aria-label": "Save all members as CSV" }, "CSV"),
      make("button", { type: "button", class: "quiet", onclick: () => balmer.members.saveJson(data, page), "aria-label": "Save the cluster and its members as JSON" }, "JSON"),
      make("span", {}, "Left: distance to the mean. ", make("mark", {}, "Marked"), " the predicted token, ", make("span", { class: "near" }, "tinted"), " other tokens that are in a cluster; open a line to follow them."));
  }

  async function show(main, data, number) {
    await balmer.text.loadVocabulary(data.directory.vocabulary);
    const page = await read(data, number);
    if (!page) {
      main.replaceChildren(make("h1", {}, `Cluster ${number}`), make("p", {}, "This run has no such cluster. ", make("a", { href: "#clusters" }, "All clusters")));
      return {};
    }
    const steps = make("div", { class: "pager-place" });
    const kin = make("div", {});
    const walk = make("div", {});
    const all = page.size === ["nearest", "random", "edge"].reduce((sum, name) => sum + page.shown[name].length, 0);
    const heat = page.profile ? balmer.figures.heatMap(data.components, page.profile, `cluster-${number}-components`)
      : balmer.figures.absent("Components", "No component profile was measured in this run.");
    main.replaceChildren(
      make("div", { class: "cluster-head" }, make("h1", {}, `Cluster ${number}`), page.written ? balmer.text.label({ ...page.label, written: page.written.text }) : "", balmer.text.label(page.label), steps),
      lead(page, data),
      make("div", { class: "columns cluster" },
        make("div", { class: "contexts" }, tools(page, data), ...balmer.members.groups(page, data).filter(Boolean), all ? make("p", { class: "soft" }, "All members are shown.") : ""),
        make("aside", { "aria-label": "What the members share" },
          heat, shared("Predicted tokens", "token", page.targets, page.size, balmer.text.chip),
          shared("Preceding tokens", "token", page.preceding, page.size, balmer.text.chip),
          positions(page.bins, page.size))),
      make("section", { class: "below", "aria-label": "More about the cluster" }, balmer.clusterFigures.pcs(page), walk, kin,
        shared("Sources", "source", page.sources, page.size, (name) => balmer.text.named(name, 60))));
    const [figures] = await Promise.all([balmer.load("figures"), catalogue.load(data)]);
    walk.append(balmer.clusterFigures.sweep(page, figures.null, data.clusters.max_conductance));
    kin.append(nearest(page) ?? "");
    const places = catalogue.around(number);
    steps.replaceChildren(pager(places));
    return {
      step: (by) => { const target = by > 0 ? places.after : places.before; if (target !== null) location.hash = `#cluster-${target}`; },
      expand: expandAll,
    };
  }

  return { show, read };
})();
