"use strict";
/* The names on the map: regions from afar, neighbourhoods closer, clusters closest; none over another. */
balmer.mapLabels = (() => {
  const { make } = balmer;
  const MOST = { neighbourhood: 44, cluster: 60 };

  const tokens = (ids) => ids.slice(0, 2).map((token) => balmer.text.chip(token));

  /* Names of one level: {x, y, weight, element}, heaviest first. Elements are made once, when they are first seen. */
  function group(kind, groups, click) {
    return groups.filter((one) => one[5].length).map(([, x, y, clusters, size, ids]) => {
      let element = null;
      return {
        x: x / 1e4, y: y / 1e4, weight: size,
        make: () => (element ??= make("button", { type: "button", class: `place ${kind}`, title: `${balmer.count(clusters)} clusters, ${balmer.count(size)} tokens`, "aria-label": `Go to the ${kind} of ${ids.map(balmer.text.of).join(", ")}: ${balmer.count(clusters)} clusters`, onclick: () => click(x / 1e4, y / 1e4) }, ...tokens(ids))),
      };
    }).sort((a, b) => b.weight - a.weight);
  }

  function cluster(row, xy) {
    const link = make("a", { class: "place cluster", href: `#cluster-${row[0]}`, tabindex: -1, draggable: "false" }, balmer.catalogue.label(row));
    return { ...xy, weight: row[balmer.catalogue.AT.size], make: () => link };
  }

  /* Put the names where they find room. Sizes are measured once and kept with the element. */
  function put(layer, candidates, look) {
    const taken = [];
    const kept = [];
    for (const one of candidates) {
      const [x, y] = look.toScreen(one.x, one.y);
      if (x < -40 || y < -10 || x > look.view.width + 40 || y > look.view.height + 10) continue;
      const element = one.make();
      if (!element.isConnected) layer.append(element);
      if (!one.size) one.size = [element.offsetWidth, element.offsetHeight];
      const [width, height] = one.size;
      const left = Math.min(look.view.width - width - 4, Math.max(4, x - width / 2));
      const top = Math.min(look.view.height - height - 4, Math.max(4, one.below ? y + one.below : y - height - 6));
      const free = taken.every(([l, t, r, b]) => left > r + 6 || left + width < l - 6 || top > b + 2 || top + height < t - 2);
      if (!free) continue;
      taken.push([left, top, left + width, top + height]);
      element.style.setProperty("transform", `translate(${Math.round(left)}px, ${Math.round(top)}px)`);
      kept.push(element);
    }
    const shown = new Set(kept);
    for (const element of [...layer.children]) if (!shown.has(element)) element.remove();
  }

  return { group, cluster, put, MOST };
})();
