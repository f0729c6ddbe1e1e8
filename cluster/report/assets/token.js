"use strict";
/* A token: where its uses fall, and why two of them differ. */
balmer.token = (() => {
  const { make, count, fixed, percent, catalogue } = balmer;
  const SUGGESTED = 40;
  const TOP = 8;
  const [FIRST, MOST] = [12, 500]; /* clusters listed at once, and at all */
  let typed = "";

  function suggestions(query) {
    const found = balmer.search.ranked(query);
    const list = found.slice(0, SUGGESTED).map((token) => make("a", { class: "suggestion", href: `#token-${token}` }, balmer.text.chip(token), make("span", { class: "soft" }, ` ${count(balmer.text.usesOf(token))}`)));
    if (!list.length) return [make("p", { class: "soft" }, "No token of the vocabulary holds that. Tokens are pieces of words: try a part.")];
    return [make("div", { class: "suggestions", role: "list" }, ...list.map((one) => make("span", { role: "listitem" }, one))), found.length > SUGGESTED ? make("p", { class: "soft" }, `and ${count(found.length - SUGGESTED)} more`) : ""];
  }

  /* An example of the token in the cluster, from the contexts its page holds. */
  function exampleOf(page, token) {
    const own = ["nearest", "random", "edge"].flatMap((name) => page.shown[name]).find(([, , , , marked, tokens]) => tokens[marked] === token);
    if (!own) return make("span", { class: "soft" }, "none among the contexts shown");
    const [, , , , marked, tokens] = own;
    const start = Math.max(0, marked - 12);
    return balmer.text.brief([marked - start, ...tokens.slice(start, marked + 6)]);
  }

  /* Components (or principal components) by how far apart two clusters are on them. */
  function apart(names, left, right) {
    return names.map((name, i) => ({ name, left: left[i], right: right[i] })).filter((one) => one.left !== null && one.right !== null)
      .sort((a, b) => Math.abs(b.left - b.right) - Math.abs(a.left - a.right)).slice(0, TOP);
  }

  function dumbbells(title, caption, rows, clusters) {
    const most = Math.max(0.01, ...rows.flatMap((row) => [Math.abs(row.left), Math.abs(row.right)]));
    const at = (value) => `${50 + (48 * value) / most}%`;
    const lines = rows.map(({ name, left, right }) => {
      const bond = make("i", { class: "bond" });
      bond.style.setProperty("left", at(Math.min(left, right)));
      bond.style.setProperty("width", `${(48 * Math.abs(left - right)) / most}%`);
      const dots = [[left, "dot a"], [right, "dot b"]].map(([value, kind]) => { const dot = make("i", { class: kind }); dot.style.setProperty("left", at(value)); return dot; });
      return make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "n" }, fixed(left, 2)), make("td", { class: "track" }, make("span", { class: "rail", "aria-hidden": "true" }, make("i", { class: "zero" }), bond, ...dots)), make("td", { class: "n" }, fixed(right, 2)));
    });
    return make("table", { class: "plain dumbbells" }, make("caption", {}, title, make("span", { class: "soft" }, ` ${caption}`)),
      make("thead", {}, make("tr", {}, make("th", {}, ""), make("th", { class: "n" }, `A: ${clusters[0]}`), make("th", {}, ""), make("th", { class: "n" }, `B: ${clusters[1]}`))), make("tbody", {}, ...lines));
  }

  function precedingShare({ preceding, size }) {
    return make("span", {}, ...preceding.items.slice(0, 3).flatMap((item, i) => [balmer.text.chip(item), make("span", { class: "soft" }, ` ${percent(preceding.counts[i] / size, 0)} `)]));
  }

  async function differ(place, data, token, a, b) {
    const [left, right] = await Promise.all([balmer.cluster.read(data, a), balmer.cluster.read(data, b)]);
    const side = (name, page) => make("div", { class: "side" },
      make("h3", {}, make("i", { class: `dot ${name.toLowerCase()}` }), `${name}: `, make("a", { href: `#cluster-${page.cluster}` }, `cluster ${page.cluster}`)), balmer.text.label(page.label),
      make("p", { class: "example-line" }, exampleOf(page, token)), make("p", {}, make("span", { class: "soft" }, "mostly after "), precedingShare(page)));
    const components = left.profile && right.profile ? dumbbells("Components", "mean standardised susceptibility, farthest apart first; below zero the component helps", apart(data.components.names, left.profile, right.profile), [a, b]) : null;
    const pcs = dumbbells("Principal components", "mean coordinate, in standard deviations", apart(left.pcs.map((_, i) => `PC ${i}`), left.pcs, right.pcs), [a, b]);
    place.replaceChildren(make("h2", {}, "Why two uses differ"), make("div", { class: "sides" }, side("A", left), side("B", right)), make("div", { class: "sides" }, components ?? "", pcs));
  }

  async function uses(main, data, token) {
    const counts = await balmer.search.clustersOf("targets", data.directory.targets, [token]);
    const ordered = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    const all = balmer.text.usesOf(token);
    const inside = ordered.reduce((sum, [, number]) => sum + number, 0);
    const place = make("section", { class: "differ" });
    const chosen = { a: ordered[0]?.[0], b: ordered[1]?.[0] };
    const again = () => { if (chosen.b !== undefined) differ(place, data, token, chosen.a, chosen.b); };
    const radio = (side, cluster) => {
      const input = make("input", { type: "radio", name: `side-${side}`, "aria-label": `Compare cluster ${cluster} as ${side.toUpperCase()}`, onchange: () => { chosen[side] = cluster; again(); } });
      input.checked = chosen[side] === cluster;
      return input;
    };
    const line = ([cluster, number]) => {
      const row = catalogue.get(cluster);
      return make("tr", {}, make("td", { class: "pick" }, radio("a", cluster), radio("b", cluster)), make("td", {}, make("a", { href: `#cluster-${cluster}` }, String(cluster))), make("td", { class: "wide" }, catalogue.label(row)),
        make("td", { class: "n" }, count(number)), make("td", { class: "n" }, percent(number / all, 1)), make("td", { class: "n" }, percent(number / row[catalogue.AT.size], 0)));
    };
    const body = make("tbody", {}, ...ordered.slice(0, FIRST).map(line));
    const more = make("button", { type: "button", class: "quiet more-button", onclick: () => { body.append(...ordered.slice(FIRST, MOST).map(line)); more.remove(); } }, `${count(Math.min(MOST, ordered.length) - FIRST)} more clusters`);
    main.append(
      make("p", {}, balmer.text.chip(token), ` is predicted ${count(all)} times; ${percent(all ? inside / all : 0)} of these uses are in ${count(ordered.length)} cluster${ordered.length === 1 ? "" : "s"}, the others in none.`),
      ordered.length ? make("table", { class: "plain token-clusters" },
        make("thead", {}, make("tr", {}, make("th", { scope: "col", class: "pick" }, "A B"), make("th", { scope: "col" }, "cluster"), make("th", { scope: "col" }, "tokens it gathers"), make("th", { scope: "col", class: "n" }, "uses"), make("th", { scope: "col", class: "n" }, "of the token"), make("th", { scope: "col", class: "n" }, "of the cluster"))),
        body) : "",
      ordered.length > FIRST ? more : "", ordered.length > MOST ? make("p", { class: "soft" }, `The ${count(MOST)} with most uses of ${count(ordered.length)}.`) : "", place);
    again();
  }

  async function show(main, data, token) {
    await catalogue.load(data);
    const list = make("div", {});
    const input = make("input", { type: "search", id: "filter", placeholder: "a token, or part of one", "aria-label": "Token text", spellcheck: "false", autocomplete: "off",
      oninput: () => { typed = input.value; list.replaceChildren(...(typed === "" ? [] : suggestions(typed))); } });
    input.value = typed;
    const enter = (event) => { if (event.key !== "Enter" || input.value === "") return; const [best] = balmer.search.ranked(input.value); if (best !== undefined) location.hash = `#token-${best}`; };
    input.addEventListener("keydown", enter);
    const body = make("div", {});
    main.replaceChildren(make("h1", {}, "Token"), make("div", { class: "controls" }, input), list, body);
    if (token === undefined) {
      list.replaceChildren(...(typed === "" ? [make("p", { class: "soft" }, "Which clusters does a token fall in, and what sets its uses apart? The most frequent tokens to begin with:"), ...suggestions("")] : suggestions(typed)));
      input.focus({ preventScroll: true });
    } else if (balmer.text.all().has(token)) await uses(body, data, token);
    else body.append(make("p", {}, "This run's vocabulary has no such token."));
    return {};
  }

  return { show };
})();
