"use strict";
/* One cluster: its tokens in context, what they share, how the components respond, how far to believe it. */
balmer.cluster = (() => {
  const { make, count, fixed, percent, signed } = balmer;

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
        make("caption", {}, title, make("span", { class: "soft" }, ` ${count(table.distinct)} distinct`)),
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, item), make("th", { scope: "col", class: "n" }, "count"), make("th", { scope: "col", colspan: 2, class: "n" }, "share"),
          make("th", { scope: "col", class: "n", title: "Log-odds against the rest of the clustered corpus, half a count added to each cell; +2.3 is ten times the odds" }, "log-odds"))),
        make("tbody", {}, ...rows)),
      left > 0 ? make("p", { class: "soft more" }, `and ${count(left)} more`) : null);
  }

  const pairs = (flat) => new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]));

  function example([distance, context, position, source, marked, tokens, flat], names, own) {
    const neighbours = pairs(flat);
    const details = make("details", { class: "example" },
      make("summary", {}, make("span", { class: "far", title: "distance to the mean" }, fixed(distance, 2)), ...balmer.text.aligned(tokens, marked, neighbours)));
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      details.append(make("div", { class: "full" }, balmer.text.written(tokens, marked, neighbours, own),
        make("p", { class: "soft" }, balmer.text.named(names[source]), `, context ${context}, position ${position}`)));
    });
    return details;
  }

  function group(title, note, examples, names, own) {
    if (!examples.length) return null;
    return make("section", { class: "examples" }, make("h2", {}, title, make("span", { class: "soft" }, ` ${note}`)), ...examples.map((one) => example(one, names, own)));
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

  function lead(page, data) {
    const splits = Object.entries(page.splits).map(([split, number]) => `${count(number)} ${split}`).join(", ");
    const facts = [
      ["Size", `${count(page.size)} tokens (${splits})`],
      ["Conductance", `${fixed(page.conductance)}, threshold ${data.clusters.max_conductance === null ? balmer.MISSING : data.clusters.max_conductance}`],
      ["Support", supportSentence(page.support, data.support.level)],
      ["Positions", `median ${page.positions[1]} of ${data.run.context_tokens - 1}, most between ${page.positions[0]} and ${page.positions[2]}`],
    ];
    return make("dl", { class: "lead" }, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }

  async function show(main, data, number) {
    await balmer.text.loadVocabulary(data.directory.vocabulary);
    const first = data.directory.clusters;
    const chunk = first.length ? await balmer.load(balmer.chunkOf("clusters", first, number)) : [];
    const page = chunk.find((candidate) => candidate.cluster === number);
    if (!page) {
      main.replaceChildren(make("h1", {}, `Cluster ${number}`), make("p", {}, "This run has no such cluster. ", make("a", { href: "#clusters" }, "All clusters")));
      return {};
    }
    const { shown } = page;
    const all = page.size === shown.nearest.length + shown.random.length + shown.edge.length;
    const steps = make("div", { class: "pager-place" });
    const copy = make("button", { type: "button", class: "quiet" }, "Copy link");
    copy.addEventListener("click", () => copyLink(copy));
    const heat = page.profile ? balmer.figures.heatMap(data.components, page.profile, `cluster-${number}-components`)
      : balmer.figures.absent("Components", "No component profile was measured in this run.");
    main.replaceChildren(
      make("div", { class: "cluster-head" }, make("h1", {}, `Cluster ${number}`), balmer.text.label(page.label), steps),
      lead(page, data),
      make("div", { class: "columns cluster" },
        make("div", { class: "contexts" },
          make("p", { class: "key-line soft" }, make("button", { type: "button", class: "quiet", onclick: expandAll }, "Expand all"), copy,
            make("span", {}, "Left: distance to the mean. ", make("mark", {}, "Marked"), " the predicted token, ", make("span", { class: "near" }, "tinted"), " other tokens that are in a cluster; open a line to follow them.")),
          group("Nearest to the mean", all ? "" : `${count(shown.nearest.length)} of ${count(page.size)}`, shown.nearest, shown.names, number),
          group("Random members", `${count(shown.random.length)} drawn from the rest`, shown.random, shown.names, number),
          group("At the edge", "farthest first", shown.edge, shown.names, number),
          all ? make("p", { class: "soft" }, "All members are shown.") : null),
        make("aside", { "aria-label": "What the members share" },
          shared("Predicted tokens", "token", page.targets, page.size, balmer.text.chip),
          shared("Preceding tokens", "token", page.preceding, page.size, balmer.text.chip),
          heat,
          shared("Sources", "source", page.sources, page.size, (name) => balmer.text.named(name, 40)))));
    const places = await balmer.list.around(data, number);
    steps.replaceChildren(pager(places));
    return {
      step: (by) => { const target = by > 0 ? places.after : places.before; if (target !== null) location.hash = `#cluster-${target}`; },
      expand: expandAll,
    };
  }

  return { show };
})();
