// The logits as a heat map: the mean over all pairs with the same sum, or one class over all pairs.
(() => {
  const MODES = { sum: "mean over pairs with the same a + b", class: "one class c, over all pairs" };
  interp.panels.push({
    name: "logits",
    title: "Logits",
    note: (run, arrays, now) => {
      const side = arrays.logits_by_sum.shape[2];
      const cut = side < run.n ? ` The first ${side} of ${run.n} residues.` : "";
      return (now.ofClass === null
        ? "Mean logit of class c (right) over all pairs with a + b = s (up). The right answers are the diagonal."
        : `Logit of class c = ${run.classes[now.ofClass]} for every a (right) and b (up). The pairs that it is right for are the antidiagonal.`) +
        ` Centred over the classes; ${run.isOneOfSeveral ? "one scale for all steps and sides" : "the scale is that of the step"}.${cut}`;
    },
    span: 6,
    limits: (run, arrays) => Object.fromEntries(["logits_by_sum", "logits_of_class"].map((name) =>
      [name, [0, Math.max(...run.steps.flatMap((_, index) => arrays[name].limits(index).map(Math.abs)))]])),
    height: (width) => Math.min(width, 430),
    controls: (place, state, run) => {
      const label = place.appendChild(document.createElement("label"));
      label.append("Show ");
      const select = label.appendChild(document.createElement("select"));
      select.append(new Option(MODES.sum, "sum"));
      run.classes.forEach((c, index) => select.append(new Option(`class c = ${c}, over all pairs`, String(index))));
      select.addEventListener("change", () => {
        state.set({ ofClass: select.value === "sum" ? null : Number(select.value) });
      });
    },
    draw: (context, { arrays, index, now, width, height, run }) => {
      const side = arrays.logits_by_sum.shape[1];
      const values = now.ofClass === null ? arrays.logits_by_sum.row(index) : arrays.logits_of_class.row(index);
      const offset = now.ofClass === null ? 0 : now.ofClass * side * side;
      // A scale for each step shows the pattern of small logits too; beside another network, one scale for all.
      let most = run.isOneOfSeveral ? run.limits[now.ofClass === null ? "logits_by_sum" : "logits_of_class"][1] : 0;
      if (!most) for (let i = 0; i < side * side; i++) if (Math.abs(values[offset + i]) > most) most = Math.abs(values[offset + i]);
      // By sum: rows s, columns c. Of a class: rows a, columns b; a is drawn to the right.
      const at = (x, up) => offset + (now.ofClass === null ? up * side + x : x * side + up);
      const map = interp.image(side, side, interp.BLUE_RED, (x, y) => 0.5 + values[at(x, side - 1 - y)] / (2 * most || 1));
      const size = Math.min(height - 22, width - 84), [left, top] = [22, 2];
      context.imageSmoothingEnabled = false;
      context.drawImage(map, left, top, size, size);
      interp.write(context, now.ofClass === null ? "c" : "a", left + size / 2, top + size + 14, { align: "center" });
      interp.write(context, 0, left, top + size + 14, { size: 10 });
      if (side > 1) interp.write(context, side - 1, left + size, top + size + 14, { align: "right", size: 10 });
      interp.write(context, now.ofClass === null ? "s" : "b", 8, top + size / 2, { align: "center" });
      for (let i = 0; i < size; i++) {
        context.fillStyle = interp.css(interp.BLUE_RED, 1 - i / size);
        context.fillRect(left + size + 12, top + i, 10, 1.5);
      }
      for (const [share, value] of [[0, most], [0.5, 0], [1, -most]]) {
        interp.write(context, interp.number(value, 2).replace("-", "−"), left + size + 26, top + 5 + share * (size - 8), { base: "middle" });
      }
      return (x, y) => {
        const column = Math.floor(((x - left) / size) * side), up = side - 1 - Math.floor(((y - top) / size) * side);
        if (column < 0 || column >= side || up < 0 || up >= side) return null;
        const value = interp.number(values[at(column, up)]);
        return {
          text: now.ofClass === null
            ? `a + b = ${up}, class ${column}: mean logit ${value}${column === up ? "\nthe right answer" : ""}`
            : `a = ${column}, b = ${up}: logit of class ${run.classes[now.ofClass]} is ${value}` +
              ((column + up) % run.n === run.classes[now.ofClass] ? "\nthe right answer" : ""),
        };
      };
    },
  });
})();
