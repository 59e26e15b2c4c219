// The figure that the page begins with: curves over one shared axis of steps, the phases behind them. Drawn before anything is unpacked.
(() => {
  const HIGH = { log: 200, share: 96, "from zero": 96 };
  const LEFT = 50, RIGHT = 28, TITLE = 24, FOOT = 40, PHASE_LINE = 15;
  const element = (name, attributes, parent, text = "") => {
    const made = parent.appendChild(Object.assign(document.createElement(name), attributes));
    if (text) made.textContent = text;
    return made;
  };

  // An axis of values: `at(value)` from 0 (bottom) to 1, and its marks.
  const axis = (row, high) => {
    const known = row.curves.flatMap(({ values }) => values).filter((value) => value !== null && (row.scale !== "log" || value > 0));
    if (row.scale === "share") return { at: (value) => 0.03 + 0.94 * value, marks: [0, 0.5, 1].map((v) => [v, row.title === "Accuracy" ? `${100 * v} %` : String(v)]) };
    const most = known.reduce((one, other) => Math.max(one, other), row.scale === "log" ? 1e-300 : 0);
    if (row.scale !== "log") {
      const top = 1.06 * most || 1;
      return { at: (value) => value / top, marks: interp.ticks(0, top, high / 32).map((value) => [value, interp.number(value)]) };
    }
    const low = Math.log10(known.length ? known.reduce((one, other) => Math.min(one, other)) : 1) - 0.25, up = Math.log10(most) + 0.25;
    const every = Math.max(1, Math.ceil((22 * (up - low)) / high)), marks = [];
    for (let power = Math.ceil(low); power <= up; power++) if (power % every === 0) marks.push([10 ** power, interp.powerOfTen(power)]);
    if (marks.length < 2) {
      marks.length = 0; // less than a decade: a few numbers in between
      for (let power = Math.floor(low); power <= up; power++) {
        for (const value of [1, 2, 5].map((digit) => digit * 10 ** power)) if (Math.log10(value) > low && Math.log10(value) < up) marks.push([value, interp.number(value)]);
      }
    }
    return { at: (value) => (value > 0 ? (Math.log10(value) - low) / (up - low) : NaN), marks };
  };

  interp.headline = (root) => {
    const place = root.querySelector("[data-headline]");
    const data = JSON.parse(root.querySelector("script.headline").textContent);
    const [first, last] = [data.steps[0], data.steps.at(-1)];
    const unit = data.unit || "step";
    let logarithmic = false, explorer = null, x = () => 0, bottom = 0, top = 0;

    const head = element("div", { className: "controls" }, place);
    const legend = element("ul", { className: "legend" }, head);
    const curves = data.rows.flatMap(({ curves }) => curves);
    // A color that an earlier row explains needs no other word.
    const explained = data.rows.slice(0, 2).flatMap(({ curves }) => curves)
      .filter(({ color }, place, all) => all.findIndex((other) => other.color === color) === place);
    const swatches = explained.map((curve) => {
      const item = element("li", {}, legend);
      const swatch = element("span", {}, item);
      item.append(curve.label);
      return () => (swatch.style.background = interp.shade(curve.color));
    });
    const box = element("div", { className: "drawing" }, place);
    const canvas = element("canvas", {}, box);
    canvas.setAttribute("role", "img");
    const [cursor, cross] = ["cursor", "cursor cross"].map((className) => element("div", { className, hidden: true }, box));
    const scale = element("button", { type: "button" }, head, "Logarithmic steps");
    scale.setAttribute("aria-pressed", "false");

    const phaseNames = (width) => {
      // Each name in the middle of its phase, kept inside; one that would touch a neighbor goes a line down.
      const ends = [];
      const named = data.phases.map((phase) => {
        const wide = phase.name.length * 5.9, middle = (x(phase.start) + x(phase.end)) / 2;
        const from = Math.min(Math.max(middle - wide / 2, LEFT), width - RIGHT - wide);
        const free = ends.findIndex((end) => from > end + 6), line = free < 0 ? ends.length : free;
        ends[line] = from + wide;
        return { ...phase, from, line };
      });
      return { named, high: named.length ? ends.length * PHASE_LINE + 4 : 0 };
    };

    const draw = () => {
      const width = box.clientWidth;
      if (!width) return;
      const span = Math.max(last - first, 1);
      const share = (step) => (logarithmic ? Math.log10(step - first + 1) / Math.log10(span + 1) : (step - first) / span);
      x = (step) => LEFT + share(step) * (width - LEFT - RIGHT);
      const { named, high } = phaseNames(width);
      const height = high + data.rows.reduce((sum, row) => sum + TITLE + HIGH[row.scale], 0) + FOOT;
      const context = interp.prepare(canvas, width, height);
      for (const { name, from, line } of named) interp.write(context, name, from, 11 + line * PHASE_LINE);
      const marks = logarithmic
        ? [0, ...Array.from({ length: 8 }, (_, power) => 10 ** power)].map((after) => first + after).filter((step) => step <= last)
        : interp.ticks(first, last, Math.min(8, width / 90)).filter(Number.isInteger);
      let y = high;
      top = high + TITLE;
      for (const row of data.rows) {
        const [up, down] = [y + TITLE, y + TITLE + HIGH[row.scale]], { at, marks: values } = axis(row, HIGH[row.scale]);
        const place = (value) => down - at(value) * (down - up);
        data.phases.forEach((phase, index) => {
          context.fillStyle = interp.color(`phase-${index}`);
          context.fillRect(x(phase.start), up, x(phase.end) - x(phase.start), down - up);
        });
        interp.write(context, row.title, LEFT, up - 8, { color: "ink", weight: 600, size: 12 });
        for (const step of marks) interp.line(context, [[x(step), up], [x(step), down]], interp.color("line"), 1, 0.7);
        for (const [value, label] of values) {
          interp.line(context, [[LEFT, place(value)], [width - RIGHT, place(value)]], interp.color("line"));
          interp.write(context, label, LEFT - 6, place(value), { align: "right", base: "middle" });
        }
        interp.line(context, [[LEFT, up], [LEFT, down], [width - RIGHT, down]], interp.color("gray"));
        for (const { values, color } of row.curves) {
          const points = values.map((value, index) => [x(data.steps[index]), value === null ? NaN : place(value)]).filter(([, y]) => Number.isFinite(y));
          interp.line(context, points, interp.shade(color), 2);
          if (points.length < 3) for (const point of points) interp.dot(interp.shade(color), 3.5)(context, ...point);
        }
        y = bottom = down;
      }
      let free = -1;
      for (const step of marks) {
        const label = interp.count(step), half = label.length * 3.2;
        if (x(step) - half < free) continue;
        free = x(step) + half + 8;
        interp.write(context, label, x(step), bottom + 15, { align: "center" });
      }
      interp.write(context, data.unit ? `${data.unit} as logged` : "step (updates)", (LEFT + width - RIGHT) / 2, bottom + 33, { align: "center", size: 12 });
      for (const color of swatches) color();
      canvas.setAttribute("aria-label", `${data.rows.map(({ title }) => title).join(", ")} over training, from ${unit} ${interp.count(first)} to ` +
        `${interp.count(last)}. ${data.phases.map(({ name, end }) => `${name} until ${unit} ${interp.count(end)}`).join(", ")}. ${said(data.steps.length - 1, ": ", ", ")}.`);
      mark();
      place.dataset.drawn = interp.isDark() ? "dark" : "light";
    };

    const said = (index, colon = ": ", between = "\n") => [`${unit} ${interp.count(data.steps[index])}`, ...curves
      .filter(({ values }) => values[index] !== null)
      .map(({ label, values }) => `${label}${colon}${label.includes("accuracy") ? interp.percent(values[index], 2) : interp.number(values[index], 5)}`)].join(between);
    const put = (line, step) => {
      line.hidden = !(step >= first && step <= last);
      Object.assign(line.style, { left: `${x(step) - 1}px`, top: `${top}px`, height: `${bottom - top}px` });
    };
    // A line over the drawing: moving it costs nothing, unlike drawing anew.
    const mark = () => explorer && put(cursor, explorer.run.steps[explorer.state.now.index]);
    const under = (event) => {
      const from = event.clientX - canvas.getBoundingClientRect().left;
      let best = 0;
      data.steps.forEach((step, index) => (best = Math.abs(x(step) - from) < Math.abs(x(data.steps[best]) - from) ? index : best));
      return best;
    };
    canvas.addEventListener("pointermove", (event) => {
      const index = under(event);
      put(cross, data.steps[index]);
      interp.showTip(event, said(index));
    });
    canvas.addEventListener("pointerleave", () => {
      cross.hidden = true;
      interp.hideTip();
    });
    canvas.addEventListener("click", (event) => explorer?.state.set({ index: explorer.state.nearest(data.steps[under(event)]) }));
    scale.addEventListener("click", () => {
      logarithmic = !logarithmic;
      scale.setAttribute("aria-pressed", String(logarithmic));
      draw();
    });
    new ResizeObserver(draw).observe(box);
    draw();
    const follow = (one) => {
      explorer = one;
      one.state.listen(mark);
      mark();
    };
    return { draw, follow };
  };
})();
