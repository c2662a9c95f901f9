// Tables whose rows are updated in place. At a phone's width each row becomes a card, so the roles of the parts are explicit.

import { el, keepFocus, reconcile, setText } from "./dom.js";

/**
 * A table. Each column has a `label`, perhaps a `class`, and either `text(item)`, a text that is updated, or `node(item)`, which
 * is built again only when `changes(item)` has another value. `keyOf(item)` identifies a row.
 */
export function table(caption, columns, keyOf, empty) {
  const body = el("tbody", { role: "rowgroup" });
  const heads = columns.map(({ label, class: kind }) => el("th", { scope: "col", role: "columnheader", class: kind }, label));
  const grid = el("table", { role: "table" }, el("caption", {}, caption),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads)), body);
  const emptyNode = el("p", { class: "empty", hidden: true }, empty);

  const createRow = () => {
    const cells = columns.map((column) =>
      el("td", { role: "cell", class: column.class, "data-label": column.label }));
    const row = el("tr", { role: "row" }, cells);
    const shown = [];
    row.update = (item) => columns.forEach((column, index) => {
      if (column.text) {
        const text = column.text(item);
        cells[index].classList.toggle("zero", text === "0" || text === "–");
        return setText(cells[index], text);
      }
      const state = column.changes ? column.changes(item) : "";
      if (shown[index] === state) return undefined;
      shown[index] = state;
      return cells[index].replaceChildren(...[column.node(item)].flat().filter(Boolean));
    });
    return row;
  };
  const update = (items, note = empty) => {
    grid.hidden = items.length === 0;
    keepFocus(body, () => reconcile(body, items, keyOf, createRow));
    emptyNode.hidden = items.length > 0;
    setText(emptyNode, note);
  };
  return { node: el("div", { class: "table" }, grid, emptyNode), update };
}
