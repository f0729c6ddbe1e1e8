"use strict";
/* Files a reader can keep: tables as CSV, values as JSON, drawings as PNG. */
balmer.save = (() => {
  /* A spreadsheet would run a cell that starts like a formula: text is kept text by an apostrophe. */
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function table(columns) {
    const names = Object.keys(columns);
    const rows = names.length ? columns[names[0]].map((_, i) => names.map((name) => cell(columns[name][i])).join(",")) : [];
    return [names.map(cell).join(","), ...rows].join("\r\n") + "\r\n";
  }

  function blob(name, content) {
    const link = balmer.make("a", { download: name, href: URL.createObjectURL(content) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const csv = (name, columns) => blob(name, new Blob([table(columns)], { type: "text/csv" }));
  const json = (name, value) => blob(name, new Blob([JSON.stringify(value, null, 1)], { type: "application/json" }));
  const png = (name, canvas) => canvas.toBlob((content) => blob(name, content), "image/png");

  return { csv, json, png };
})();
