"use strict";
/* What stands beside the map: the card of a cluster, the legend, the chosen clusters, and the files to save. */
balmer.mapSide = (() => {
  const { make, count, fixed, catalogue } = balmer;
  const { AT } = catalogue;
  const LISTED = 40;

  const button = (text, onclick, label) => make("button", { type: "button", class: "quiet", onclick, "aria-label": label }, text);

  /* A cluster in short, with the first of its contexts as soon as that is read. */
  function card(row, data) {
    const line = make("p", { class: "example-line soft" }, "…");
    balmer.records("digest", data.directory.digest, row[0]).then(([found]) => { if (found) line.replaceChildren(balmer.text.brief(found[1][0])); });
    return [make("div", { class: "card-head" }, make("a", { href: `#cluster-${row[0]}` }, `Cluster ${row[0]}`), make("span", { class: "soft" }, `${count(row[AT.size])} tokens · conductance ${fixed(row[AT.conductance], 2)}`)),
      catalogue.label(row), line];
  }

  const legend = (entries) => entries.map(({ colour, text, note }) => {
    const key = make("i");
    key.style.setProperty("background", colour);
    return make("li", {}, key, balmer.text.named(text, 34), make("span", { class: "soft n" }, note));
  });

  function colourBy(data, value, change) {
    const known = Object.entries(balmer.mapColours.CHOICES).filter(([name]) => (data.components || !["component", "layer"].includes(name)) && (data.stability || name !== "stability"));
    const select = make("select", { "aria-label": "Colour by", onchange: (event) => change(event.target.value) }, ...known.map(([name, [words]]) => make("option", { value: name }, words)));
    select.value = value;
    return make("label", { class: "soft colour-by" }, "Colour ", select);
  }

  /* The chosen clusters, largest first. */
  function chosen(rows, letGo) {
    const own = [...rows].sort((a, b) => b[AT.size] - a[AT.size]);
    const all = own.reduce((sum, row) => sum + row[AT.size], 0);
    const show = () => { catalogue.state.only = new Set(own.map((row) => row[0])); location.hash = "#clusters"; };
    return [
      make("h2", {}, `${count(own.length)} chosen`, make("span", { class: "soft" }, ` ${count(all)} tokens`)),
      make("p", { class: "tools" }, button("Show in the list", show), button("Let go", letGo)),
      make("ol", {}, ...own.slice(0, LISTED).map((row) => make("li", {}, make("a", { href: `#cluster-${row[0]}` }, catalogue.label(row)), make("span", { class: "soft n" }, count(row[AT.size]))))),
      own.length > LISTED ? make("p", { class: "soft" }, `and ${count(own.length - LISTED)} more`) : ""];
  }

  /* The dots as they are drawn, with the names written over them. */
  function savePng(area, canvas, names, ratio) {
    const whole = make("canvas", { width: canvas.width, height: canvas.height });
    const pen = whole.getContext("2d");
    pen.drawImage(canvas, 0, 0);
    pen.scale(ratio, ratio);
    Object.assign(pen, { textBaseline: "middle", textAlign: "center", lineWidth: 3, lineJoin: "round", strokeStyle: balmer.figures.colour("paper"), fillStyle: balmer.figures.colour("ink") });
    const origin = area.getBoundingClientRect();
    for (const element of names.children) {
      const box = element.getBoundingClientRect();
      const style = getComputedStyle(element.querySelector(".chip") ?? element);
      pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
      const text = [...element.querySelectorAll(".chip, .word")].map((one) => one.textContent).join(" ") || element.textContent;
      const at = [box.left + box.width / 2 - origin.left, box.top + box.height / 2 - origin.top];
      pen.strokeText(text, ...at);
      pen.fillText(text, ...at);
    }
    balmer.save.png("map.png", whole);
  }

  const saveCsv = (rows) => balmer.save.csv("map.csv", {
    cluster: rows.map((row) => row[0]), x: rows.map((row) => row[AT.x]), y: rows.map((row) => row[AT.y]), neighbourhood: rows.map((row) => row[AT.neighbourhood]),
    region: rows.map((row) => row[AT.region]), size: rows.map((row) => row[AT.size]), label: rows.map(catalogue.words),
  });

  return { button, card, legend, colourBy, chosen, savePng, saveCsv };
})();
