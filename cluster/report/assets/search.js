"use strict";
/* Finding tokens by their text, clusters by their tokens, and clusters by what stands in their contexts. */
balmer.search = (() => {
  /* What is typed: \n, \t and the signs for white space mean white space; capitals make the search mind them. */
  function spelled(query) {
    return query.replaceAll("\\n", "\n").replaceAll("\\t", "\t").replaceAll("⏎", "\n").replaceAll("⇥", "\t").replaceAll("·", " ");
  }

  function pattern(query) {
    const text = spelled(query);
    const minding = text !== text.toLowerCase();
    return (candidate) => (minding ? candidate : candidate.toLowerCase()).includes(text);
  }

  /* Token ids whose text holds the query. */
  function tokens(query) {
    const matches = pattern(query);
    return [...balmer.text.all()].filter(([, text]) => matches(text)).map(([token]) => token);
  }

  /* Tokens for a reader to choose from: equal first, equal but for white space, then by how often they occur. Of nothing, all. */
  function ranked(query) {
    const text = spelled(query);
    const rank = (token) => { const own = balmer.text.of(token); return own === text ? 0 : text !== "" && own.trim() === text.trim() ? 1 : 2; };
    return tokens(query).sort((a, b) => rank(a) - rank(b) || balmer.text.usesOf(b) - balmer.text.usesOf(a) || a - b);
  }

  /* The chunks of a series that can hold any of the keys, given in ascending order. */
  function chunksFor(first, keys) {
    const wanted = new Set();
    let index = 0;
    for (const key of keys) {
      while (index + 1 < first.length && first[index + 1] < key) index++;
      for (let i = index; i < first.length && first[i] <= key; i++) wanted.add(i);
    }
    return [...wanted];
  }

  /* Clusters in which any of the tokens is found, with how many members have it. */
  async function clustersOf(series, first, wanted) {
    const keys = new Set(wanted);
    const counts = new Map();
    const ordered = [...keys].sort((a, b) => a - b);
    for (const index of chunksFor(first, ordered)) {
      for (const [token, pairs] of await balmer.load(balmer.chunkName(series, index))) {
        if (!keys.has(token)) continue;
        for (let i = 0; i < pairs.length; i += 2) counts.set(pairs[i], (counts.get(pairs[i]) ?? 0) + pairs[i + 1]);
      }
    }
    return counts;
  }

  /* Clusters with a sampled context that the expression matches. `report` hears how far it has come and may stop it. */
  async function contexts(first, expression, report) {
    const found = new Set();
    for (let index = 0; index < first.length; index++) {
      for (const [cluster, lines] of await balmer.load(balmer.chunkName("digest", index))) {
        if (lines.some(([, ...line]) => expression.test(balmer.text.plain(line)))) found.add(cluster);
      }
      if (!report(index + 1, first.length, found)) return null;
    }
    return found;
  }

  return { tokens, ranked, clustersOf, contexts };
})();
