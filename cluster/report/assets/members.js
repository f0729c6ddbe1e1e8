"use strict";
/* Members of a cluster in context: those its page holds, more on demand, and all of them as a file. */
balmer.members = (() => {
  const { make, count, fixed } = balmer;
  const MORE = 12;

  const pairs = (flat) => new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]));

  function example([distance, context, position, source, marked, tokens, flat], names, own, data) {
    const neighbours = pairs(flat);
    const details = make("details", { class: "example" },
      make("summary", {}, make("span", { class: "far", title: "distance to the mean" }, fixed(distance, 2)), ...balmer.text.aligned(tokens, marked, neighbours)));
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      const box = make("div", { class: "full" }, balmer.text.written(tokens, marked, neighbours, own));
      const whole = make("button", { type: "button", class: "quiet", onclick: async () => {
        const [found] = await balmer.records("contexts", data.directory.contexts, context);
        box.firstChild.replaceWith(balmer.text.written(found[2], position, pairs(found[3]), own));
        whole.remove();
      } }, "Whole context");
      box.append(make("p", { class: "soft" }, balmer.text.named(names[source]), `, context ${context}, position ${position} `, whole));
      details.append(box);
    });
    return details;
  }

  /* All members, in order of distance: {context, position, token, distance, source}. */
  async function all(data, cluster) {
    const found = [];
    for (const [, , contexts, positions, tokens, distances, sources, names] of await balmer.records("members", data.directory.members, cluster)) {
      contexts.forEach((context, i) => found.push({ context, position: positions[i], token: tokens[i], distance: distances[i], source: names[sources[i]] }));
    }
    return found;
  }

  /* A member as an example: its stretch of context, cut like those of the page. */
  async function cut(data, { context, position, distance, source }, before, after) {
    const [[, , tokens, flat]] = await balmer.records("contexts", data.directory.contexts, context);
    const start = Math.max(0, position - before);
    const near = [...pairs(flat)].filter(([at]) => at !== position && at >= start && at <= position + after).flatMap(([at, cluster]) => [at - start, cluster]);
    return [[distance, context, position, 0, position - start, tokens.slice(start, position + after + 1), near], [source]];
  }

  /* One group of the page; `pick` chooses further members from all of them that are not on the page yet. */
  function group({ title, note, examples, names, own, data, seen, pick, size }) {
    if (!examples.length) return null;
    const place = make("div", {}, ...examples.map((one) => example(one, names, own, data)));
    const more = make("button", { type: "button", class: "quiet more-button", onclick: async () => {
      more.disabled = true;
      const left = (await all(data, own)).filter((one) => !seen.has(`${one.context} ${one.position}`));
      for (const one of pick(left).slice(0, MORE)) {
        seen.add(`${one.context} ${one.position}`);
        const [cutting, named] = await cut(data, one, data.before, data.after);
        place.append(example(cutting, named, own, data));
      }
      more.disabled = false;
      if (left.length <= MORE) more.remove();
    } }, `${MORE} more`);
    return make("section", { class: "examples" }, make("h2", {}, title, make("span", { class: "soft" }, ` ${note}`)), place, seen.size < size ? more : "");
  }

  function groups(page, data) {
    const { shown, size, cluster } = page;
    const seen = new Set(["nearest", "random", "edge"].flatMap((name) => shown[name].map(([, context, position]) => `${context} ${position}`)));
    const base = { names: shown.names, own: cluster, data, seen, size };
    const shuffled = (left) => { const drawn = [...left]; for (let i = drawn.length - 1; i > 0; i--) { const j = Math.floor(Math.random() * (i + 1)); [drawn[i], drawn[j]] = [drawn[j], drawn[i]]; } return drawn; };
    return [
      group({ ...base, title: "Nearest to the mean", note: `of ${count(size)}`, examples: shown.nearest, pick: (left) => left }),
      group({ ...base, title: "Random members", note: "drawn from the rest", examples: shown.random, pick: shuffled }),
      group({ ...base, title: "At the edge", note: "farthest first", examples: shown.edge, pick: (left) => [...left].reverse() }),
    ];
  }

  async function saveCsv(data, cluster) {
    const found = await all(data, cluster);
    const column = (name) => found.map((one) => one[name]);
    balmer.save.csv(`cluster-${cluster}.csv`, { cluster: found.map(() => cluster), context: column("context"), position: column("position"), token: column("token"), text: found.map((one) => balmer.text.of(one.token)), source: column("source"), distance: column("distance") });
  }

  async function saveJson(data, page) {
    const members = (await all(data, page.cluster)).map((one) => ({ ...one, text: balmer.text.of(one.token) }));
    const { cluster, size, conductance, support, stability } = page;
    const profile = page.profile ? Object.fromEntries(data.components.names.map((name, i) => [name, page.profile[i]])) : null;
    balmer.save.json(`cluster-${cluster}.json`, { cluster, label: page.written?.text ?? balmer.text.words(page.label), size, conductance, support, stability, profile, pcs: page.pcs, members });
  }

  return { groups, all, saveCsv, saveJson, pairs };
})();
