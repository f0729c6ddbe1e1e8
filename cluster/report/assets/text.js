"use strict";
/* Corpus text as text nodes. White space is shown where it matters, and characters that would act are spelled out. */
balmer.text = (() => {
  const { make } = balmer;
  const texts = new Map();
  const uses = new Map();
  let whole = null;
  const LONGEST_CHIP = 48;
  const LONGEST_PIECE = 400;

  /* Control characters, invisible spaces, direction controls, line and paragraph separators, the byte order mark. */
  const ACTING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;
  const GLYPHS = { " ": "·", "\n": "⏎", "\t": "⇥", "\u00a0": "⍽" };

  function loadVocabulary(first) {
    whole ??= balmer.loadSeries("vocabulary", first).then((entries) => {
      for (const [token, text, count] of entries) { texts.set(token, text); uses.set(token, count); }
      return texts;
    });
    return whole;
  }

  /* A few words that arrive before the vocabulary does. */
  function know(words) {
    for (const [token, text] of words) texts.set(token, text);
  }

  const of = (token) => texts.get(token) ?? `⟨${token}⟩`;

  function spelled(character) {
    return `⟨${character.codePointAt(0).toString(16).toUpperCase().padStart(2, "0")}⟩`;
  }

  /* Append text to a parent. `spaces`: show blanks too; `breaks`: keep a line break after its sign. */
  function append(parent, text, { spaces = false, breaks = false } = {}) {
    let plain = "";
    const flush = () => { if (plain) parent.append(plain); plain = ""; };
    for (const character of text) {
      const glyph = character === " " && !spaces ? null : GLYPHS[character] ?? (ACTING.test(character) ? spelled(character) : null);
      if (glyph === null) { plain += character; continue; }
      flush();
      parent.append(make("span", { class: "ws" }, glyph));
      if (character === "\n" && breaks) plain += "\n";
    }
    flush();
    return parent;
  }

  const clipped = (text, longest) => (text.length > longest ? `${[...text].slice(0, longest).join("")}…` : text);

  /* A token on its own: every character visible. */
  function chip(token) {
    const text = of(token);
    const shown = append(make("bdi", { class: "chip" }), clipped(text, LONGEST_CHIP), { spaces: true });
    if (text === "") shown.append(make("span", { class: "ws" }, "empty"));
    return shown;
  }

  /* A label: what the cluster predicts, after what, and in which source. */
  function label({ targets, preceding, sources, others, written = null }) {
    if (written !== null) return append(make("span", { class: "label written-label" }), clipped(written, 120));
    const parts = make("span", { class: "label" }, ...targets.map(chip));
    if (others) parts.append(make("span", { class: "word" }, `or ${balmer.count(others)} other${others === 1 ? "" : "s"}`));
    if (preceding.length) parts.append(make("span", { class: "word" }, "after"), ...preceding.map(chip));
    if (sources.length) parts.append(make("span", { class: "word" }, "in"), append(make("bdi", { class: "source" }), clipped(sources[0], LONGEST_CHIP)));
    return parts;
  }

  const named = (text, longest = LONGEST_CHIP) => append(make("bdi", { title: ACTING.test(text) ? null : text }), clipped(text, longest));

  /* One line on which the predicted token stands in the middle: [left, right] cells. */
  function aligned(tokens, marked, neighbours) {
    const left = make("span", { class: "left" });
    const right = make("span", { class: "right" });
    tokens.forEach((token, i) => {
      const piece = clipped(of(token), LONGEST_PIECE);
      if (i === marked) right.append(append(make("mark"), piece, { spaces: true }));
      else (i < marked ? left : right).append(append(make("span", { class: neighbours.has(i) ? "near" : "piece" }), piece));
    });
    return [make("span", { class: "clip" }, left), make("span", { class: "clip" }, right)];
  }

  /* The context as it was written, with links to the clusters of its other tokens. */
  function written(tokens, marked, neighbours, own) {
    const pre = make("pre", { class: "written", dir: "auto" });
    tokens.forEach((token, i) => {
      const piece = clipped(of(token), LONGEST_PIECE);
      if (i === marked) return pre.append(append(make("mark"), piece, { spaces: true, breaks: true }));
      const cluster = neighbours.get(i);
      if (cluster === undefined) return pre.append(append(make("span"), piece, { breaks: true }));
      const attributes = { class: cluster === own ? "near own" : "near", href: `#cluster-${cluster}`, title: `cluster ${cluster}` };
      return pre.append(append(make("a", attributes), piece, { breaks: true }));
    });
    return pre;
  }

  /* One short line: a few tokens before, the token, a few after. */
  function brief([marked, ...tokens]) {
    const line = make("bdi", { class: "brief" });
    tokens.forEach((token, i) => append(i === marked ? line.appendChild(make("mark")) : line, clipped(of(token), LONGEST_CHIP), { spaces: i === marked }));
    return line;
  }

  /* What the same tokens are as one string, for search and for files. */
  const plain = (tokens) => tokens.map(of).join("");

  /* A label as words alone, for files, titles and screen readers. */
  function words({ targets, preceding, sources, others }) {
    const quoted = (tokens) => tokens.map((token) => `“${of(token).replaceAll("\n", "⏎").replaceAll("\t", "⇥")}”`).join(" or ");
    const rest = others ? ` or ${balmer.count(others)} other${others === 1 ? "" : "s"}` : "";
    return `${quoted(targets)}${rest}${preceding.length ? ` after ${quoted(preceding)}` : ""}${sources.length ? ` in ${sources[0]}` : ""}`;
  }

  return { loadVocabulary, know, of, usesOf: (token) => uses.get(token) ?? 0, all: () => texts, chip, label, named, aligned, written, brief, plain, words };
})();
