// The logits as a heat map: the mean over all pairs with the same sum, or one class over all pairs.
(() => {
  const MODES = { sum: "mean over pairs with the same a + b", class: "one class c, over all pairs" };
  const chosen = { mode: "sum", place: 0 };
  interp.panels.push({
    name: "logits",
    title: "Logits",
    note: (run, arrays) => {
      const side = arrays.logits_by_sum.shape[2];
      const cut = side < run.n ? ` The first ${side} of ${run.n} residues.` : "";
      return (chosen.mode === "sum"
        ? "Mean logit of class c (right) over all pairs with a + b = s (up). The right answers are the diagonal."
        : `Logit of class c = ${run.classes[chosen.place]} for every a (right) and b (up). The pairs that it is right for are the antidiagonal.`) +
        ` Centred over the classes; the scale is that of the step.${cut}`;
    },
    span: 6,
    height: (width) => Math.min(width, 430),
    controls: (place, redraw, run) => {
      const label = place.appendChild(document.createElement("label"));
      label.append("Show ");
      const select = label.appendChild(document.createElement("select"));
      select.append(new Option(MODES.sum, "sum"));
      run.classes.forEach((c, index) => select.append(new Option(`class c = ${c}, over all pairs`, String(index))));
      select.addEventListener("change", () => {
        Object.assign(chosen, select.value === "sum" ? { mode: "sum" } : { mode: "class", place: Number(select.value) });
        redraw();
      });
    },
    draw: (context, { arrays, index, width, height, run }) => {
      const side = arrays.logits_by_sum.shape[1];
      const values = chosen.mode === "sum" ? arrays.logits_by_sum.row(index) : arrays.logits_of_class.row(index);
      const offset = chosen.mode === "sum" ? 0 : chosen.place * side * side;
      let most = 0;
      for (let i = 0; i < side * side; i++) if (Math.abs(values[offset + i]) > most) most = Math.abs(values[offset + i]);
      // By sum: rows s, columns c. Of a class: rows a, columns b; a is drawn to the right.
      const at = (x, up) => offset + (chosen.mode === "sum" ? up * side + x : x * side + up);
      const map = interp.image(side, side, interp.BLUE_RED, (x, y) => 0.5 + values[at(x, side - 1 - y)] / (2 * most || 1));
      const size = Math.min(height - 22, width - 84), [left, top] = [22, 2];
      context.imageSmoothingEnabled = false;
      context.drawImage(map, left, top, size, size);
      interp.write(context, chosen.mode === "sum" ? "c" : "a", left + size / 2, top + size + 14, { align: "center" });
      interp.write(context, chosen.mode === "sum" ? "s" : "b", 8, top + size / 2, { align: "center" });
      for (let i = 0; i < size; i++) {
        context.fillStyle = interp.css(interp.BLUE_RED, 1 - i / size);
        context.fillRect(left + size + 12, top + i, 10, 1.5);
      }
      for (const [share, value] of [[0, most], [0.5, 0], [1, -most]]) {
        interp.write(context, interp.number(value, 2), left + size + 26, top + 5 + share * (size - 8), { base: "middle" });
      }
      return (x, y) => {
        const column = Math.floor(((x - left) / size) * side), up = side - 1 - Math.floor(((y - top) / size) * side);
        if (column < 0 || column >= side || up < 0 || up >= side) return null;
        const value = interp.number(values[at(column, up)]);
        return {
          text: chosen.mode === "sum"
            ? `a + b = ${up}, class ${column}: mean logit ${value}${column === up ? "\nthe right answer" : ""}`
            : `a = ${column}, b = ${up}: logit of class ${run.classes[chosen.place]} is ${value}` +
              ((column + up) % run.n === run.classes[chosen.place] ? "\nthe right answer" : ""),
        };
      };
    },
  });
})();
