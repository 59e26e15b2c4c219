// Why: for the rule and for memory, how hard the loss pushes up, how hard decay pulls down, and below what comes of both.
(() => {
  const CHARTS = [["circuit", "The rule"], ["memorizing", "Memory"]];
  const LOSS = "#009E73", DECAY = "#D55E00";
  const HIGH = 150, NET = 74, HEIGHT = HIGH + NET + 96, NARROW = 460;
  const of = (run, name) => ["loss", "decay", "net"].map((cause) => run.scalars[`${cause}_on_${name}`]);
  const knownIn = (...rows) => rows.flat().filter((value) => value !== null);
  const span = (values) => {
    const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)], room = 0.06 * (high - low) || 1e-9;
    return [low - room, high + room];
  };

  const sentence = (run, index, name) => {
    const [loss, decay, net] = of(run, name).map((values) => values[index]);
    if (loss === null || decay === null) return net === null ? "not known" : `net ${interp.number(net)} logits per update; what of it was loss, what decay, is not known`;
    const ratio = decay < 0 && run.scalars[`ratio_of_${name}`][index] !== null ? `, ${interp.number(run.scalars[`ratio_of_${name}`][index])} times as hard` : "";
    return `pushed by the loss ${interp.number(loss)}, pulled by decay ${interp.number(Math.abs(decay))} logits per update${ratio}; net ${interp.number(net)}`;
  };

  const chart = (context, run, index, [name, title], left, width) => {
    const [loss, decay, net] = of(run, name);
    const [x0, x1] = [left + 52, left + width - 66];
    const last = Math.max(run.steps[run.steps.length - 1], 1), first = run.steps[0];
    const x = (step) => x0 + ((step - first) / Math.max(last - first, 1)) * (x1 - x0);
    interp.write(context, title + (name === "circuit" && run.named.length ? ` (k = ${run.named.join(", ")})` : ""), left, 12, { color: "ink", weight: 600 });
    if (!knownIn(net).length) {
      interp.write(context, "nothing is known of it", x0, 80);
      return;
    }
    const strip = (key, top, high, draw) => {
      const [low, most] = run.limits[key], y = (value) => top + high - ((value - low) / (most - low)) * high;
      for (const value of interp.ticks(low, most, Math.max(3, high / 36))) {
        interp.line(context, [[x0, y(value)], [x1, y(value)]], interp.color("line"));
        interp.write(context, interp.number(value, 2), x0 - 5, y(value) + 4, { align: "right", size: 10 });
      }
      draw(y);
      interp.line(context, [[x0, y(0)], [x1, y(0)]], interp.color("gray"));
      context.setLineDash([3, 3]);
      interp.line(context, [[x(run.steps[index]), top], [x(run.steps[index]), top + high]], interp.color("soft"));
      context.setLineDash([]);
      return y;
    };
    // Over an interval a force is one number: steps, not slopes.
    const blocks = (values, y, hex) => {
      context.fillStyle = interp.shade(hex);
      values.forEach((value, i) => {
        if (value === null || !i) return;
        const from = x(run.before[i]), to = x(run.steps[i]);
        context.globalAlpha = i === index ? 1 : 0.55;
        context.fillRect(from, Math.min(y(0), y(value)), Math.max(to - from, 0.5), Math.abs(y(value) - y(0)));
      });
      context.globalAlpha = 1;
    };
    const push = strip(`push_${name}`, 26, HIGH, (y) => {
      blocks(loss, y, LOSS);
      blocks(decay, y, DECAY);
    });
    if (knownIn(loss).length) {
      interp.write(context, "loss", x1 + 6, push(Math.max(...knownIn(loss))) + 10, { color: interp.shade(LOSS), weight: 600 });
      interp.write(context, "decay", x1 + 6, push(Math.min(...knownIn(decay), 0)) - 2, { color: interp.shade(DECAY), weight: 600 });
    } else interp.write(context, "what loss and decay did cannot be told apart", x0 + 8, 26 + HIGH / 4);
    const below = strip(`net_${name}`, 26 + HIGH + 22, NET, (y) => {
      const ink = interp.color("ink");
      interp.line(context, net.map((value, i) => [x((run.before[i] + run.steps[i]) / 2), value === null ? NaN : y(value)]), ink, 1.6);
      if (net[index] !== null) interp.dot(ink, 3.5)(context, x((run.before[index] + run.steps[index]) / 2), y(net[index]));
    });
    interp.write(context, "net", x1 + 6, below(0) + 4, { color: "ink", weight: 600 });
    const bottom = 26 + HIGH + 22 + NET;
    for (const step of interp.ticks(first, last, Math.min(4, (x1 - x0) / 50)).filter(Number.isInteger)) interp.write(context, interp.count(step), x(step), bottom + 15, { align: "center", size: 10 });
    interp.write(context, "step (updates)", (x0 + x1) / 2, bottom + 30, { align: "center", size: 10 });
  };

  interp.panels.push({
    name: "forces",
    title: "Why: the loss pushes, decay pulls",
    note: "What each did to a circuit’s strength between one checkpoint and the next, in logits per update. Where both are as large the circuit rests; " +
      "where the loss no longer keeps up it is worn down. The rule: the frequencies that stood out when the training pairs were first known; what is key in the end may be others.",
    span: 12,
    shows: (run) => CHARTS.some(([name]) => knownIn(run.scalars[`net_on_${name}`]).length),
    limits: (run) => Object.fromEntries(CHARTS.flatMap(([name]) => {
      const [loss, decay, net] = of(run, name);
      return [[`push_${name}`, span(knownIn(loss, decay))], [`net_${name}`, span(knownIn(net))]];
    })),
    height: (width) => (width < NARROW ? 2 : 1) * HEIGHT,
    draw: (context, { run, index, width }) => {
      const stacked = width < NARROW;
      CHARTS.forEach((one, place) => {
        context.save();
        if (stacked) context.translate(0, place * HEIGHT);
        chart(context, run, index, one, stacked ? 0 : (place * width) / 2 + place * 12, stacked ? width : width / 2 - 12);
        context.restore();
      });
      return (px, py) => {
        const [name, title] = CHARTS[(stacked ? py < HEIGHT : px < width / 2) ? 0 : 1];
        return { text: `${title}, step ${interp.count(run.before[index])} to ${interp.count(run.steps[index])}: ${sentence(run, index, name)}` };
      };
    },
    says: ({ run, index }) => CHARTS.map(([name, title]) => `${title}: ${sentence(run, index, name)}.`).join(" "),
  });
})();
