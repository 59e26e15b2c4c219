// The two circuits over training, with the step of the slider: how strong each is, and what its weights cost.
(() => {
  const CHARTS = [
    ["Strength on training pairs (logits)", [["strength_generalizing", "generalizing", "#009E73"], ["strength_memorizing", "memorizing", "#CC79A7"]]],
    [
      "L2 norm of its own weights",
      [["norm_generalizing", "generalizing", "#009E73"], ["norm_memorizing", "memorizing", "#CC79A7"], ["norm_shared", "shared", "#7F7F7F"]],
    ],
  ];
  const HEIGHT = 224, NARROW = 460;
  const sentence = (run, index, lines) => lines.map(([name, label]) => `${label} ${interp.number(run.scalars[name][index])}`).join(", ");

  const knownOf = (run, lines) => lines.flatMap(([name]) => run.scalars[name]).filter((value) => value !== null);

  const chart = (context, run, index, [title, lines], left, top, width) => {
    const known = knownOf(run, lines);
    const [x0, x1, y0, y1] = [left + 44, left + width - 92, top + HEIGHT - 38, top + 26];
    const [low, high] = run.limits[lines[0][0]];
    const last = Math.max(run.steps[run.steps.length - 1], 1), first = run.steps[0];
    const x = (step) => x0 + ((step - first) / Math.max(last - first, 1)) * (x1 - x0);
    const y = (value) => y0 + ((value - low) / (high - low)) * (y1 - y0);
    interp.write(context, title, left, top + 12, { color: "ink", weight: 600 });
    if (!known.length) {
      interp.write(context, "not known without a split", x0, (y0 + y1) / 2);
      return;
    }
    for (const value of interp.ticks(low, high, 4)) {
      interp.line(context, [[x0, y(value)], [x1, y(value)]], interp.color("line"));
      interp.write(context, interp.number(value, 2), x0 - 5, y(value) + 4, { align: "right", size: 10 });
    }
    interp.write(context, "step (updates)", (x0 + x1) / 2, y0 + 29, { align: "center", size: 10 });
    for (const step of interp.ticks(first, last, Math.min(4, (x1 - x0) / 50)).filter(Number.isInteger)) interp.write(context, interp.count(step), x(step), y0 + 14, { align: "center", size: 10 });
    context.setLineDash([3, 3]);
    interp.line(context, [[x(run.steps[index]), y0], [x(run.steps[index]), y1]], interp.color("soft"));
    context.setLineDash([]);
    const ends = lines.map(([name]) => run.scalars[name][run.steps.length - 1]);
    const order = ends.map((_, row) => row).sort((one, other) => y(ends[one] ?? 0) - y(ends[other] ?? 0));
    const places = interp.apart(order.map((row) => y(ends[row] ?? 0)), 13);
    lines.forEach(([name, label, hex], row) => {
      const values = run.scalars[name];
      interp.line(context, values.map((value, i) => [x(run.steps[i]), value === null ? NaN : y(value)]), interp.shade(hex), 1.8);
      interp.write(context, label, x1 + 6, places[order.indexOf(row)] + 4, { color: interp.shade(hex), weight: 600 });
      if (values[index] !== null) interp.dot(interp.shade(hex), 4)(context, x(run.steps[index]), y(values[index]));
    });
  };

  interp.panels.push({
    name: "two_circuits",
    title: "Two circuits compete",
    note: "Strength: the mean logit that each part gives to the right answer of a training pair; what generalizes is told from test pairs alone. " +
      "Norm: the weights in key frequencies, the other directions, and what both use.",
    span: 12,
    needs: "norms",
    limits: (run) => Object.fromEntries(CHARTS.map(([, lines]) => [lines[0][0], [Math.min(0, ...knownOf(run, lines)), 1.05 * Math.max(1e-9, ...knownOf(run, lines))]])),
    height: (width) => (width < NARROW ? 2 : 1) * HEIGHT,
    draw: (context, { run, index, width }) => {
      const stacked = width < NARROW;
      CHARTS.forEach((one, place) => {
        if (stacked) chart(context, run, index, one, 0, place * HEIGHT, width);
        else chart(context, run, index, one, (place * width) / 2 + place * 12, 0, width / 2 - 12);
      });
      return (px, py) => {
        const [title, lines] = CHARTS[(stacked ? py < HEIGHT : px < width / 2) ? 0 : 1];
        return { text: `${title}, step ${interp.count(run.steps[index])}: ${sentence(run, index, lines)}` };
      };
    },
    says: ({ run, index }) => CHARTS.map(([title, lines]) => `${title}: ${sentence(run, index, lines)}.`).join(" "),
  });
})();
